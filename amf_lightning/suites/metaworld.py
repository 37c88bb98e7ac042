"""Metaworld: fifty tasks of one robot arm (Yu et al., CoRL 2019, arXiv 1910.10897).

The package `metaworld` is imported when a suite is made, not before: it pins an old MuJoCo, and is an extra.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import requires, version
from types import ModuleType
from typing import Any, SupportsFloat

import gymnasium
from numpy.typing import NDArray
from packaging.requirements import Requirement

from amf_lightning.errors import InputError
from amf_lightning.simulation.gymnasium_environment import Env
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.suites.language import TextEncoder
from amf_lightning.suites.metaworld_cameras import Pictured, checked_cameras
from amf_lightning.suites.metaworld_texts import TEXTS

FOUR = ("coffee-push", "coffee-pull", "faucet-open", "faucet-close")
"""The tasks of arXiv 2410.05026: a mug is pushed and pulled, a faucet opened and closed."""
HORIZON, LONGER, LONGEST = 200, {"push-back": 500, "stick-pull": 300}, 500
"""Steps of an episode; of tasks that take the scripted policy longer; what Metaworld allows."""
SOLVED = 10.0
"""Metaworld's reward for a step in the solved state."""
_INSTALL = 'Do pip install "amf-lightning[metaworld]", in a virtual environment of its own: it needs an older MuJoCo'


class Metaworld(GymnasiumSuite):
    """Tasks of Metaworld. The seed of an episode decides where objects and goal are.

    Observations are the stock 39 numbers, the goal among them; actions move the hand in x, y, z and close the gripper.
    An episode ends when it is solved and is then worth 10 a step of its whole horizon, however long it took; as long
    as it is not, a step is worth Metaworld's own reward, between 0 and 10. So the score of a task is its success rate
    and, for episodes that fail, how near they came.

    Args:
        tasks: names, e.g. `[push, door-open]`, or of a set: `four` (arXiv 2410.05026), `MT10`, `MT50`.
        horizon: steps of an episode, at most 500; None: 200, and what the scripted policy needs where it takes longer
            (push-back 500, stick-pull 300).
        one_hot: the policy is told the task's number, one-hot; if false, one number between -1 and 1, evenly spaced in
            the order of `tasks`, so that neighbours are alike to it.
        reference: name of the shipped reference returns, or a path; None if nothing is to be scored.
        language: tells the policy what to do in words instead, e.g. to pick up a puck and place it on the goal.
        cameras: whose pictures, `image/<camera>`, take the place of where the objects are: of `state` the goal and the
            robot's four numbers remain (the goal tells where the object is in tasks in which both lie at a fixed
            distance). Names as in Metaworld, e.g. `[topview, corner3]`; None: no pictures.
        pixels: height and width of the pictures.

    Raises:
        InputError: metaworld is missing or does not go with what is installed; an unknown or repeated task; a horizon
            that Metaworld does not allow; both a language and `one_hot: false`; an unknown camera. The first episode
            raises it where nothing on the machine can draw.
    """

    def __init__(
        self,
        tasks: str | list[str] = "four",
        horizon: int | None = None,
        one_hot: bool = True,
        reference: str | None = "metaworld/reference",
        language: TextEncoder | None = None,
        cameras: list[str] | None = None,
        pixels: int = 64,
    ) -> None:
        names = _names(tasks)
        self.cameras = None if cameras is None else checked_cameras(cameras, pixels)
        if horizon is not None and not 1 <= horizon <= LONGEST:
            raise InputError(f"Metaworld: horizon is {horizon}; it must be between 1 and {LONGEST}.")
        steps = {name: horizon or LONGER.get(name, HORIZON) for name in names}
        self._horizon = horizon
        if language is not None and not one_hot:
            raise InputError("Metaworld: a policy is told about tasks in words or by one number; leave out one_hot.")
        drawn = {} if self.cameras is None else {"cameras": list(self.cameras), "pixels": pixels}
        contexts = [None] * len(names) if one_hot else [[number] for number in _evenly_spaced(len(names))]
        super().__init__(
            environment=f"{__name__}.make_task",
            tasks=[
                GymnasiumTask(
                    name,
                    context,
                    arguments={"task": name, "horizon": steps[name], **drawn},
                    horizon=steps[name],
                    text=TEXTS.get(name),
                )
                for name, context in zip(names, contexts, strict=True)
            ],
            success="success",
            reference=reference,
            name="Metaworld",
            language=language,
        )

    @cached_property
    def in_numbers(self) -> "Metaworld":
        """The same episodes without cameras, observed as the stock 39 numbers."""
        return Metaworld([task.name for task in self.tasks], self._horizon, reference=None)

    def signature(self) -> dict[str, Any]:
        """The tasks belong to it where their contexts follow from their order."""
        return super().signature() | ({"tasks": [task.name for task in self.tasks]} if self.language is None else {})


@cache
def metaworld_module(name: str) -> ModuleType:
    """`metaworld.<name>`.

    Raises:
        InputError: metaworld is not installed, or beside versions of other packages that it does not work with.
    """
    try:
        requirements = [Requirement(line) for line in requires("metaworld") or []]
        versions = {
            requirement: version(requirement.name) for requirement in requirements if requirement.marker is None
        }
        clashes = [
            f"{requirement.name} {installed} (it needs {requirement.specifier})"
            for requirement, installed in versions.items()
            if not requirement.specifier.contains(installed, prereleases=True)
        ]
        if clashes:
            raise InputError(
                f"metaworld {version('metaworld')} does not work with the installed {', '.join(clashes)}. {_INSTALL}."
            )
        return import_module(f"metaworld.{name}")
    except ModuleNotFoundError as error:
        raise InputError(f"Metaworld needs the package {error.name}. {_INSTALL}.") from error


def task_sets() -> dict[str, tuple[str, ...]]:
    """Names of the tasks in each set, without the version that Metaworld puts behind them."""
    sets_of_metaworld = metaworld_module("env_dict")
    sets = {"four": FOUR, "MT10": tuple(sets_of_metaworld.MT10_V3), "MT50": tuple(sets_of_metaworld.MT50_V3)}
    return {name: tuple(task.removesuffix("-v3") for task in tasks) for name, tasks in sets.items()}


def make_task(
    task: str,
    horizon: int,
    render_mode: str | None = None,
    cameras: Sequence[str] | None = None,
    pixels: int = 64,
) -> Env:
    """The environment of one task: `reset(seed=...)` alone decides an episode."""
    env = metaworld_module("env_dict").ENV_CLS_MAP[f"{task}-v3"](render_mode=render_mode, camera_name="corner2")
    solving = _Solving(env, horizon)
    return solving if cameras is None else Pictured(solving, cameras, pixels)


class _Solving(gymnasium.Wrapper[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]):
    """Reads the seed, which Metaworld's own `reset` does not, shows the goal, and ends an episode that is solved."""

    def __init__(self, env: Any, horizon: int) -> None:
        super().__init__(env)
        # What Metaworld's `set_task` does, but for the list of fixed goals: these are drawn at each reset.
        env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
        env._partially_observable = False
        del env.sawyer_observation_space  # cached when the goal was hidden
        env.observation_space = env.sawyer_observation_space
        self._metaworld, self._worth, self._return = env, SOLVED * horizon, 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Starts an episode."""
        if seed is not None:
            self._metaworld.seed(seed)
        self._return = 0.0
        return self.env.reset()

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of Metaworld's environment; the one that solves the task is worth what is missing of 10 a step."""
        observation, stock, _, truncated, info = self.env.step(action)
        solved = bool(info["success"])
        reward = self._worth - self._return if solved else float(stock)
        self._return += reward
        return observation, reward, solved, truncated, {**info, "success": solved}


def _names(tasks: str | Sequence[str]) -> tuple[str, ...]:
    sets = task_sets()
    if isinstance(tasks, str):
        if tasks not in sets:
            raise InputError(
                f"Metaworld: there is no set '{tasks}'; the sets are {', '.join(sets)}. "
                "A single task is a list, too: [push]."
            )
        return sets[tasks]
    for name in tasks:
        if name not in sets["MT50"]:
            near = get_close_matches(name, sets["MT50"], n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Name one of its tasks: {', '.join(sets['MT50'])}."
            raise InputError(f"Metaworld: there is no task '{name}'. {hint}")
    return tuple(tasks)


def _evenly_spaced(count: int) -> list[float]:
    """From -1 to 1; 0 if there is only one."""
    return [2 * index / (count - 1) - 1 for index in range(count)] if count > 1 else [0.0]
