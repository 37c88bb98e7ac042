"""Fetch: a robot arm reaches, pushes and carries to goals in given regions (Plappert et al., arXiv 1802.09464).

The package `gymnasium_robotics` is imported when an environment is made, not before: it needs an old MuJoCo, and is an
extra.
"""

from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.simulation.gymnasium_environment import Env
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask

KINDS = {
    "reach": ("reach", "MujocoFetchReachEnv"),
    "push": ("push", "MujocoFetchPushEnv"),
    "pick": ("pick_and_place", "MujocoFetchPickAndPlaceEnv"),
}
"""Kinds of tasks: the module and the class of the stock environment, FetchReach-v4 and so on."""
SPREAD = 0.15
"""How far stock goals lie from where the gripper starts, along each axis, in m."""
_INSTALL = 'Do pip install "amf-lightning[fetch]", in a virtual environment of its own: it needs an older MuJoCo'

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """Where the goals of a task lie: a box around where the gripper starts, in m."""

    kind: str
    """One of `KINDS`."""
    low: tuple[float, float, float]
    """Away from the robot, to its left, and up: above the start of the gripper, or above an object on the table."""
    high: tuple[float, float, float]

    @property
    def context(self) -> list[float]:
        """The kind, one-hot, and the centre of the box in units of `SPREAD`, [6]."""
        centre = [(low + high) / 2 / SPREAD for low, high in zip(self.low, self.high, strict=True)]
        return [*(float(self.kind == kind) for kind in KINDS), *centre]


def _regions() -> dict[str, Region]:
    far, near, left, right = (0.0, SPREAD), (-SPREAD, 0.0), (0.0, SPREAD), (-SPREAD, 0.0)
    anywhere, table, air = (-SPREAD, SPREAD), (0.0, 0.0), (0.1, 0.45)
    boxes = {
        f"{kind}-{depth}-{side}": (kind, x, y, z)
        for kind, z in (("reach", anywhere), ("push", table))
        for depth, x in (("near", near), ("far", far))
        for side, y in (("left", left), ("right", right))
    } | {
        f"pick-{level}-{side}": ("pick", anywhere, y, z)
        for level, z in (("table", table), ("air", air))
        for side, y in (("left", left), ("right", right))
    }
    return {name: Region(kind, *zip(x, y, z, strict=True)) for name, (kind, x, y, z) in boxes.items()}


REGIONS = _regions()
"""All tasks by name: four of reaching, four of pushing, four of picking up and placing."""


class Fetch(GymnasiumSuite):
    """Goals in regions of the workspace of a Fetch arm. The seed of an episode decides where object and goal are.

    Observations are the stock 25 numbers and the goal, 28 in all; in tasks of reaching, which have no object, the
    gripper stands in its place. Actions move the gripper in x, y, z and close it. An episode's goal is one that the
    stock environment draws, drawn again until it lies in the task's region and is not reached yet. In all else an
    episode is the stock one with the dense reward: a step is worth minus the distance to the goal in m, and an episode
    succeeds if the environment says `is_success`, within 5 cm of the goal, after its last step.

    Args:
        tasks: names, e.g. `[reach-near-left, pick-air-right]`, or of a set: `all`, `reach`, `push`, `pick`.
        horizon: steps of an episode, 0.04 s each.
        one_hot: the policy is told the task's number, one-hot; if false, six numbers: the kind of the task, one-hot,
            and the centre of its region.
        reference: name of the shipped reference returns, or a path; None if nothing is to be scored.

    Raises:
        InputError: gymnasium-robotics is missing or does not go with the installed MuJoCo; an unknown or repeated
            task; a horizon that is not positive.
    """

    def __init__(
        self,
        tasks: str | list[str] = "all",
        horizon: int = 50,
        one_hot: bool = True,
        reference: str | None = "fetch/reference",
    ) -> None:
        names = _names(tasks)
        super().__init__(
            environment=f"{__name__}.make_task",
            tasks=[
                GymnasiumTask(
                    name,
                    None if one_hot else REGIONS[name].context,
                    options={"region": name},
                    arguments={"kind": REGIONS[name].kind},
                )
                for name in names
            ],
            horizon=horizon,
            success="is_success",
            reference=reference,
            name="Fetch",
        )


@cache
def stock_environment(kind: str) -> type[Any]:
    """The class of the stock environment.

    Raises:
        InputError: gymnasium-robotics is not installed.
    """
    module, name = KINDS[kind]
    try:
        with redirect_stderr(StringIO()):  # says of another robot's tasks what nobody here can act on
            cls: type[Any] = getattr(import_module(f"gymnasium_robotics.envs.fetch.{module}"), name)
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        raise InputError(f"Fetch needs the package {package}. {_INSTALL}.") from error
    return cls


def make_task(kind: str, render_mode: str | None = None) -> Env:
    """The environment of a kind of tasks: `reset(seed=..., options={"region": name})` alone decides an episode.

    Raises:
        InputError: gymnasium-robotics is missing, or does not work with the installed MuJoCo.
    """
    try:
        env = stock_environment(kind)(reward_type="dense", render_mode=render_mode)
    except AssertionError as error:  # of `set_joint_qpos`, with MuJoCo 3.17 and 4
        raise InputError(
            f"gymnasium-robotics {version('gymnasium-robotics')} does not work with the installed mujoco "
            f"{version('mujoco')}. {_INSTALL}."
        ) from error
    return _InRegion(env)


class _InRegion(gymnasium.Wrapper[Any, NDArray[Any], Any, NDArray[Any]]):
    """Draws goals in a region, and gives observations as one vector."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (28,), np.float64)
        self._fetch = env

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Starts an episode whose goal lies in the region named `options["region"]`."""
        observation, _ = self.env.reset(seed=seed)
        region, fetch = REGIONS[(options or {})["region"]], self._fetch
        origin = np.array(fetch.initial_gripper_xpos)
        if fetch.has_object:
            origin[2] = fetch.height_offset
        low, high = np.array(region.low), np.array(region.high)

        def fits() -> bool:
            inside = ((low <= fetch.goal - origin) & (fetch.goal - origin <= high)).all()
            return bool(inside) and not fetch._is_success(observation["achieved_goal"], fetch.goal)

        while not fits():
            fetch.goal = fetch._sample_goal()
        return _vector(fetch._get_obs()), {}

    def step(self, action: NDArray[Any]) -> tuple[Vector, SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of the stock environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return _vector(observation), reward, terminated, truncated, info


def _vector(observation: dict[str, Any]) -> Vector:
    """Stock observation and goal, [28]: positions, rotations and speeds of gripper and object as the stock order has
    them."""
    stock = observation["observation"]
    if len(stock) == 10:  # no object: position, fingers and their speeds of the gripper
        grip, fingers, speeds = stock[:3], stock[3:5], stock[5:]
        stock = np.concatenate([grip, grip, np.zeros(3), fingers, np.zeros(9), speeds])
    return np.concatenate([stock, observation["desired_goal"]])


def _names(tasks: str | Sequence[str]) -> list[str]:
    sets = {"all": list(REGIONS)} | {
        kind: [name for name, region in REGIONS.items() if region.kind == kind] for kind in KINDS
    }
    if isinstance(tasks, str):
        if tasks not in sets:
            raise InputError(
                f"Fetch: there is no set '{tasks}'; the sets are {', '.join(sets)}. "
                "A single task is a list, too: [reach-near-left]."
            )
        return sets[tasks]
    for name in tasks:
        if name not in REGIONS:
            near = get_close_matches(name, REGIONS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Name one of its tasks: {', '.join(REGIONS)}."
            raise InputError(f"Fetch: there is no task '{name}'. {hint}")
    return list(tasks)
