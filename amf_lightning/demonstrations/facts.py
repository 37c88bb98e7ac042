"""What a file of another format has no place for, so that a demonstration comes back from it bit for bit.

Exporters put it beside the episode, as one JSON text; others ignore it. Importers use it where they find it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import Spec, specs_from_json, specs_to_json
from amf_lightning.tasks.trajectory import Trajectory

FACTS = "amf_facts"
"""Name of that text in every format."""
_FORMAT = "amf-facts/1"
_LONGEST = 60_000
"""Characters; an attribute of HDF5 has 64 KiB."""


@dataclass(frozen=True)
class Facts:
    """What is known of an episode beyond what its format holds."""

    task: str
    seed: int | None
    success: bool | None
    noise: float
    metrics: Mapping[str, float]
    after_last: bool
    """Whether what is seen after the last action was recorded; where a format needs it and it was not, the last
    observation stands there twice."""
    names: Mapping[str, str]
    """For each entry of the observation, by its name in the other format, our name."""
    specs: Mapping[str, Spec]
    """Shape and type of each entry, by our name."""


def facts_of(trajectory: Trajectory, names: Mapping[str, str]) -> str:
    """The text to be kept beside an episode.

    Args:
        trajectory: the episode.
        names: our name of each entry, by its name in the other format.

    Raises:
        InputError: it would be too long.
    """
    content = {
        "format": _FORMAT,
        "task": trajectory.task,
        "seed": None if trajectory.seed is None else int(trajectory.seed),
        "success": None if trajectory.success is None else bool(trajectory.success),
        "noise": float(trajectory.noise),
        "metrics": {name: float(value) for name, value in trajectory.metrics.items()},
        "after_last": has_after_last(trajectory),
        "names": dict(names),
        "specs": specs_to_json(trajectory.specs),
    }
    text = json.dumps(content, sort_keys=True)
    if len(text) > _LONGEST:
        raise InputError(
            f"A demonstration of '{trajectory.task}' has {len(text)} characters of metrics and names; HDF5 "
            f"keeps {_LONGEST} "
            "beside an episode. Leave metrics out."
        )
    return text


def has_after_last(trajectory: Trajectory) -> bool:
    """Whether an episode holds what was seen after its last action."""
    return len(next(iter(trajectory.observations.values()))) > trajectory.length


def read_facts(text: str | None, where: str) -> Facts | None:
    """Inverse of `facts_of`; None for None.

    Raises:
        InputError: the text is something else.
    """
    if text is None:
        return None
    try:
        content: dict[str, Any] = json.loads(text)
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        seed, success = content["seed"], content["success"]
        return Facts(
            task=str(content["task"]),
            seed=None if seed is None else int(seed),
            success=None if success is None else bool(success),
            noise=float(content["noise"]),
            metrics={str(name): float(value) for name, value in content["metrics"].items()},
            after_last=bool(content["after_last"]),
            names={str(theirs): str(ours) for theirs, ours in content["names"].items()},
            specs=specs_from_json(content["specs"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as error:
        raise InputError(
            f"{where}: its '{FACTS}' are damaged ({type(error).__name__}: {str(error)[:100]}). Export the "
            f"episode again, "
            f"or remove '{FACTS}' from it to read it as somebody else's."
        ) from error
