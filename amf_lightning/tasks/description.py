"""What is to be known of a suite to check a recording of its tasks: in words of JSON, so that nobody has to make it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import Specs, specs_from_json, specs_to_json

if TYPE_CHECKING:  # it imports torch
    from amf_lightning.tasks.task import TaskSuite


@dataclass(frozen=True)
class SuiteDescription:
    """Names and shapes of a `TaskSuite`, under the same names as there."""

    name: str
    observation: Specs
    action_dim: int
    discrete: bool
    action_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None
    task_names: tuple[str, ...]
    """In the order of the suite, [K]."""

    @classmethod
    def of(cls, suite: "TaskSuite") -> "SuiteDescription":
        """The description of a suite."""
        bounds = suite.action_bounds
        return cls(
            name=suite.name,
            observation=dict(suite.observation),
            action_dim=int(suite.action_dim),
            discrete=bool(suite.discrete),
            action_bounds=None if bounds is None else (_numbers(bounds[0]), _numbers(bounds[1])),
            task_names=tuple(task.name for task in suite.tasks),
        )

    @classmethod
    def from_json(cls, text: str) -> "SuiteDescription":
        """Inverse of `to_json`."""
        content: Mapping[str, Any] = json.loads(text)
        bounds = content["action_bounds"]
        return cls(
            name=content["name"],
            observation=specs_from_json(content["observation"]),
            action_dim=content["action_dim"],
            discrete=content["discrete"],
            action_bounds=None if bounds is None else (_numbers(bounds[0]), _numbers(bounds[1])),
            task_names=tuple(content["task_names"]),
        )

    def to_json(self) -> str:
        """The same text for equal descriptions."""
        return json.dumps({**vars(self), "observation": specs_to_json(self.observation)}, sort_keys=True)

    def index(self, task: str) -> int:
        """Which task that is, from 0.

        Raises:
            InputError: there is none of that name; the message names the nearest.
        """
        if task in self.task_names:
            return self.task_names.index(task)
        near = get_close_matches(task, self.task_names, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(
            f"Suite '{self.name}' has no task '{task}'.{hint} Name one of its tasks: {', '.join(self.task_names)}."
        )


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
