"""BabyAI: missions in words, in rooms of tiles (Chevalier-Boisvert et al., ICLR 2019, arXiv 1810.08272).

The package `minigrid` is imported when a suite is made, not before: it is an extra.
"""

import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from io import StringIO
from types import ModuleType
from typing import Any, Literal, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.simulation.gymnasium_environment import Env
from amf_lightning.suites.babyai_missions import MISSION_LENGTH, mission_code
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask

View = Literal["symbolic", "rgb"]
VIEWS: tuple[View, ...] = ("symbolic", "rgb")
LEVELS = (
    "GoToObj",
    "GoToRedBallGrey",
    "GoToRedBall",
    "GoToLocal",
    "GoToDoor",
    "PickupDist",
    "PickupLoc",
    "OpenRedDoor",
    "OpenDoor",
    "OpenTwoDoors",
    "UnlockLocal",
    "PutNextLocalS5N3",
    "PutNextLocal",
    "GoToSeqS5R2",
)
"""Those of a default suite: what BabyAI asks for, in episodes that the bot ends within thirty steps."""
HORIZON, LONGER, LONGEST = 64, {"GoToSeqS5R2": 100}, 512
"""Steps of an episode in these levels; in one with more to do; the most in any other, unless told otherwise."""
TILE = 8
"""Pixels of a side of one of the 7×7 tiles that are seen."""
_INSTALL = 'Do pip install "amf-lightning[babyai]"'


class BabyAI(GymnasiumSuite):
    """Levels of BabyAI as tasks. The seed of an episode decides the rooms, what is in them, and the mission.

    An observation is what the agent sees of the 7×7 tiles before it, and its mission: `state` has the words, each at
    the place of its role (`babyai_missions`). The policy is also told the level's number, one-hot. Actions are the
    seven of MiniGrid: left, right, forward, pick up, drop, toggle, done. An episode that is solved ends there and
    returns 1, any other 0: a return is a success rate, and a score is that between random actions' and the bot's.

    Args:
        levels: names as BabyAI has them, without `BabyAI-` and the version: `[GoToLocal, PutNextLocal]`; None: 14 small
            ones, `LEVELS`.
        view: `symbolic` gives `image/symbolic`, uint8 [7, 7, 3], of each tile what is there (11 kinds), its colour (6)
            and its state (3), numbers that `GridEncoder` reads; `rgb` gives `image/rgb`, a picture, uint8 [56, 56, 3].
        horizon: steps of an episode; None: 64 in the levels of the default (GoToSeqS5R2: 100), elsewhere what BabyAI
            allows for the mission of seed 0, at most 512.
        reference: name of the shipped reference returns, or a path; or for each level
            `{random: ..., expert: ..., spread: ...}`; None if nothing is to be scored.

    Raises:
        InputError: minigrid is missing; an unknown or repeated level, an unknown view, or a horizon below 1.
    """

    def __init__(
        self,
        levels: list[str] | None = None,
        view: View = "symbolic",
        horizon: int | None = None,
        reference: str | dict[str, dict[str, float]] | None = "babyai/reference",
    ) -> None:
        names = LEVELS if levels is None else _checked(levels)
        if view not in VIEWS:
            raise InputError(f"BabyAI: there is no view '{view}'; give one of {', '.join(VIEWS)}.")
        if horizon is not None and horizon < 1:
            raise InputError(f"BabyAI: horizon is {horizon}; it must be at least 1.")
        steps = {name: horizon or allowed_steps(name) for name in names}
        super().__init__(
            environment=f"{__name__}.make_level",
            tasks=[
                GymnasiumTask(
                    name, arguments={"level": name, "view": view, "horizon": steps[name]}, horizon=steps[name]
                )
                for name in names
            ],
            success="success",
            reference=reference,
            name="BabyAI",
        )


@cache
def minigrid_module(name: str) -> ModuleType:
    """`minigrid`, or `minigrid.<name>`.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # which minigrid imports, and which greets on stdout
    try:
        return import_module(f"minigrid.{name}".rstrip("."))
    except ModuleNotFoundError as error:
        raise InputError(f"BabyAI needs the package {error.name}. {_INSTALL}.") from error


@cache
def all_levels() -> tuple[str, ...]:
    """Names of all levels that the installed minigrid has, in its order."""
    minigrid_module("")
    ids = [name for name in gymnasium.registry if name.startswith("BabyAI-") and name.endswith("-v0")]
    return tuple(name.removeprefix("BabyAI-").removesuffix("-v0") for name in ids)


@cache
def allowed_steps(level: str) -> int:
    """Steps of its episodes where nothing else is said; see `BabyAI`."""
    if level in LEVELS:
        return LONGER.get(level, HORIZON)
    env = _stock(level, None)
    with redirect_stdout(StringIO()):
        env.reset(seed=0)
    return min(int(env.max_steps), LONGEST)


def make_level(level: str, view: View, horizon: int, render_mode: str | None = None) -> Env:
    """The environment of one level: `reset(seed=...)` alone decides an episode."""
    return _Seen(_stock(level, render_mode), view, horizon)


class _Seen(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows the view and the mission's code, and says whether the mission is accomplished."""

    def __init__(self, env: Any, view: View, horizon: int) -> None:
        super().__init__(env)
        self._level, self._horizon, self._view = env, horizon, view
        self._mission = np.zeros(MISSION_LENGTH, dtype=np.float32)
        shape = (7 * TILE, 7 * TILE, 3) if view == "rgb" else (7, 7, 3)
        self.observation_space = Dict(
            {view: Box(0, 255, shape, np.uint8), "mission": Box(0, 1, (MISSION_LENGTH,), np.float32)}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Starts an episode."""
        with redirect_stdout(StringIO()):  # it prints which rooms it has drawn in vain
            stock, _ = self._level.reset(seed=seed)
        self._level.max_steps = self._horizon
        self._mission = mission_code(stock["mission"])
        return self._entries(stock), {}

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], SupportsFloat, bool, bool, dict[str, Any]]:
        """A step of BabyAI's environment, whose reward is positive if the mission is accomplished, and else 0."""
        stock, reward, terminated, truncated, _ = self._level.step(action)
        solved = float(reward) > 0
        return self._entries(stock), float(solved), terminated, truncated, {"success": solved}

    def _entries(self, stock: dict[str, Any]) -> dict[str, NDArray[Any]]:
        seen = self._level.get_frame(tile_size=TILE, agent_pov=True) if self._view == "rgb" else stock["image"]
        return {self._view: seen, "mission": self._mission}


def _stock(level: str, render_mode: str | None) -> Any:
    """BabyAI's own environment, without gymnasium's wrappers."""
    minigrid_module("")
    return gymnasium.make(f"BabyAI-{level}-v0", disable_env_checker=True, render_mode=render_mode).unwrapped


def _checked(levels: Sequence[str]) -> tuple[str, ...]:
    known = all_levels()
    for name in levels:
        if name not in known:
            near = get_close_matches(str(name), known, n=3)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Its levels: {', '.join(known)}."
            raise InputError(f"BabyAI: there is no level '{name}'. {hint}")
    return tuple(levels)
