"""A point in the plane that is to go to goals on a circle: the smallest suite in which tasks overlap."""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.simulation.simulation import Observations, Outcome
from amf_lightning.tasks.spec import STATE, state_specs
from amf_lightning.tasks.task import Episode, ReferenceReturns, Task, TaskSuite

SPEED = 0.1
"""Distance that the point goes in one step along an axis for an action of 1."""
START = 0.1
"""Episodes start uniformly in the square [−START, START]²."""
_EPISODES = 1000

Array = NDArray[np.float64]


def move(positions: Array, actions: Array) -> Array:
    """x' = x + SPEED · a, for any leading shape."""
    return positions + SPEED * actions


def expert_actions(positions: Array, goals: Array) -> Array:
    """a = (g − x)/SPEED, scaled down to the length 1: straight to the goal, there in one step if it is near.

    >>> expert_actions(np.zeros(2), np.array([0.0, 1.0]))
    array([0., 1.])
    >>> expert_actions(np.zeros(2), np.array([0.05, 0.0]))
    array([0.5, 0. ])
    """
    step = (goals - positions) / SPEED
    actions: Array = step / np.maximum(np.linalg.norm(step, axis=-1, keepdims=True), 1.0)
    return actions


def reward_of(distances: Array, precision: Array | float | None) -> Array:
    """−d, or, for a task that has a precision w, −min(d/w, 1): any miss by more than w is worth nothing.

    >>> reward_of(np.array([0.05, 0.3]), 0.1)
    array([-0.5, -1. ])
    """
    return -distances if precision is None else -np.minimum(distances / precision, 1.0)


class Integrator(TaskSuite):
    """The 2-D integrator of AMF (arXiv 2410.05026): a task is a goal on a circle, by default one of twelve.

    The observation is the position, the action the velocity, the context the goal's coordinates. Rewards are
    −‖x − g‖ after each step; the last distance is the metric `distance`. Reference returns are simulated when the
    suite is made, which takes milliseconds, so that any list of angles can be scored.

    Args:
        angles: of the goals, in degrees, any numbers, all different.
        radius: of the circle.
        horizon: steps of an episode; the expert needs ten for each unit of the radius.
        tolerance: an episode succeeds if it ends nearer to the goal than this.

    Raises:
        InputError: no angle, an angle twice, a radius, horizon or tolerance that is not positive.
    """

    name = "Integrator"
    observation = state_specs(2)
    action_dim = 2

    def __init__(
        self,
        angles: Sequence[float] = (0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330),
        radius: float = 1.0,
        horizon: int = 20,
        tolerance: float = 0.1,
    ) -> None:
        if not angles or len({angle % 360 for angle in angles}) != len(angles):
            raise InputError(f"{self.name}: angles must be at least one and all different, got {list(angles)}.")
        if radius <= 0 or horizon < 1 or tolerance <= 0:
            raise InputError(
                f"{self.name}: radius {radius}, horizon {horizon} and tolerance {tolerance} must be positive."
            )
        self.radius, self.horizon, self.tolerance = radius, horizon, tolerance
        self.tasks = tuple(
            Task(f"angle={angle:g}", index, goal, horizon, {"goal": goal})
            for index, angle in enumerate(angles)
            for goal in [(radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle)))]
        )
        self.reference = simulated_reference(np.array([task.context for task in self.tasks]), horizon)

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[NDArray[Any], NDArray[Any]]:
        """A point in the plane; the goal is given to `reset`."""
        return _Point(self.horizon, self.radius, self.tolerance, render_mode)

    def simulation(self, episodes: Sequence[Episode]) -> "IntegratorSimulation | None":
        """Rows of one array. A subclass that makes other environments, and other tasks, are stepped by gymnasium."""
        if type(self).make is not Integrator.make or any(episode.task not in self.tasks for episode in episodes):
            return None
        return IntegratorSimulation(self, episodes)


class _Point(gymnasium.Env[NDArray[Any], NDArray[Any]]):
    """The point and, if asked for pictures, a drawing of it (black) and of its goal (green)."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - gymnasium's

    def __init__(self, horizon: int, radius: float, tolerance: float, render_mode: str | None) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.render_mode = render_mode
        self._horizon, self._radius, self._tolerance = horizon, radius, tolerance
        self._position = self._goal = np.zeros(2)
        self._precision: float | None = None
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        if not options or "goal" not in options:
            raise InputError("reset needs options={'goal': (x, y)}: the integrator has no default goal.")
        self._goal = np.array(options["goal"], dtype=np.float64)
        self._precision = options.get("precision")
        self._position = self.np_random.uniform(-START, START, 2)
        self._steps = 0
        return self._position.astype(np.float32), {}

    def start(self, episode: Episode) -> Array:
        """Where an episode starts, [2]."""
        self.reset(seed=episode.seed, options=dict(episode.task.options))
        return self._position

    def step(self, action: NDArray[Any]) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._position = move(self._position, np.asarray(action, dtype=np.float64))
        self._steps += 1
        distance = math.dist(self._position, self._goal)
        tolerance = self._tolerance if self._precision is None else self._precision
        info = {"success": distance < tolerance, "metrics": {"distance": distance}}
        reward = float(reward_of(np.array(distance), self._precision))
        return self._position.astype(np.float32), reward, False, self._steps >= self._horizon, info

    def render(self) -> NDArray[np.uint8] | None:
        """A picture [128, 128, 3] of the square around the circle."""
        if self.render_mode is None:
            return None
        axis = np.linspace(-1.3, 1.3, 128) * self._radius
        pixels = np.stack(np.meshgrid(axis, -axis), axis=-1)
        picture = np.full((128, 128, 3), 255, dtype=np.uint8)
        for centre, colour in ((self._goal, (60, 160, 60)), (self._position, (20, 20, 20))):
            picture[np.linalg.norm(pixels - centre, axis=-1) < 0.06 * self._radius] = colour
        return picture


class IntegratorSimulation:
    """Episodes side by side as rows of one array: the bits of the suite's environments, without a call for each.

    Args:
        suite: whose environments are left out.
        episodes: of its tasks.
    """

    def __init__(self, suite: Integrator, episodes: Sequence[Episode]) -> None:
        self._suite, self._episodes = suite, episodes
        self._positions = np.empty((suite.horizon + 1, len(episodes), 2))
        """Before the first step and after each, [T + 1, n, 2]."""
        self._taken = 0

    def reset(self) -> Observations:
        point = _Point(self._suite.horizon, self._suite.radius, self._suite.tolerance, None)
        self._positions[0] = [point.start(episode) for episode in self._episodes]
        return {STATE: self._positions[0].astype(np.float32)}

    def step(self, running: NDArray[np.intp], actions: NDArray[np.float32]) -> tuple[Observations, NDArray[np.bool_]]:
        positions = move(self._positions[self._taken], actions.astype(np.float64))
        self._taken += 1
        self._positions[self._taken] = positions
        ended = self._taken == self._suite.horizon
        return {STATE: positions.astype(np.float32)}, np.full(len(running), ended)

    def outcome(self, number: int) -> Outcome:
        options = self._episodes[number].task.options
        goal, precision = options["goal"], options.get("precision")
        # math.dist, as in the environment: numpy rounds otherwise.
        distances = [math.dist(position, goal) for position in self._positions[1:, number].tolist()]
        tolerance = self._suite.tolerance if precision is None else precision
        success = self._suite.episode_success([distance < tolerance for distance in distances])
        return Outcome(reward_of(np.array(distances), precision), success, {"distance": distances[-1]})


def simulated_reference(
    goals: Array, horizon: int, precision: Array | None = None, suite: str = "integrator.Integrator"
) -> ReferenceReturns:
    """Returns of random actions and of the expert at each goal [K, 2], over the same drawn starts for all.

    Args:
        goals: [K, 2].
        horizon: steps.
        precision: of each task, [K], if they have any.
        suite: module and class, for the command.
    """
    module = suite.partition(".")[0]
    rng = np.random.default_rng(0)
    starts = rng.uniform(-START, START, (_EPISODES, 1, 2))
    blind, expert = np.broadcast_to(starts, (_EPISODES, len(goals), 2)), starts
    random_returns = expert_returns = np.zeros((_EPISODES, len(goals)))
    for _ in range(horizon):
        blind = move(blind, rng.uniform(-1.0, 1.0, (_EPISODES, 1, 2)))
        expert = move(expert, expert_actions(expert, goals))
        random_returns = random_returns + reward_of(np.linalg.norm(blind - goals, axis=-1), precision)
        expert_returns = expert_returns + reward_of(np.linalg.norm(expert - goals, axis=-1), precision)
    return ReferenceReturns(
        random=tuple(random_returns.mean(0).tolist()),
        expert=tuple(expert_returns.mean(0).tolist()),
        spread=tuple(expert_returns.std(0).tolist()),
        command=f'python -c "from amf_lightning.suites import {module}; print({suite}().reference)"',
    )
