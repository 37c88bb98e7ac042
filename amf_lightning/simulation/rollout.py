"""The one loop that runs episodes: many side by side, each a function of (weights, task, seed) alone.

The same row of a matrix product has different bits in batches of different size, and contact dynamics turn a
difference of 1e-7 into order 10 within 50 steps. So the controller is called on one thread, and always at the same
padded width; what stands in the other rows does not change a row. Where its place would (placement.py), rows lie apart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.simulation.gymnasium_simulation import GymnasiumSimulation, simulate
from amf_lightning.simulation.placement import rows_apart, spaced
from amf_lightning.simulation.recording import Recording
from amf_lightning.simulation.simulation import Observations
from amf_lightning.simulation.together import Together
from amf_lightning.tasks.controller import Acting, Controller, controller_of
from amf_lightning.tasks.failure import Failure
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.user_code import refusal

Array = NDArray[np.float32]


@torch.no_grad()
def rollout(
    acting: Acting,
    suite: TaskSuite,
    episodes: Sequence[Episode],
    *,
    noise: float = 0.0,
    width: int = 32,
    may_fail: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Runs episodes and returns their trajectories in the same order.

    An episode depends on (weights, task, seed) and the options here, not on the episodes that run beside it, on their
    order, on what ran before or on the number of threads.

    Args:
        acting: a controller, a policy, or an actor; asked once a step for `width` rows, on its own device.
        suite: where the tasks come from; its simulator runs them.
        episodes: what to run.
        noise: executed noise, the standard deviation of Gaussian numbers, keyed by the episode's seed, that are added
            to the executed action (then clipped to [-1, 1]). The recorded action is the clean one.
        width: rows for which the controller is asked. Part of what must be equal for two results to be equal. As many
            episodes run side by side, or fewer where `TaskSuite.parallel_episodes` says so.
        may_fail: whether an episode may break off, as a learner's may: at an action, observation or reward that is not
            finite, or when the environment raises. It ends there and says why in `Trajectory.failure`; an environment
            in which that happened is not used again. Else, as for an expert's demonstration, it is an error.
        on_step: called with the number of environment steps just taken.

    Raises:
        InputError: an observation has the wrong shape, or it or an action is not finite and may not be (the message
            names task and step), the suite has no simulator, or nothing acts.
        UserCodeError: such an action comes from a class of the user; the environment raises and may not, cannot be
            reset at all, or gives what it may not give; or actions have the wrong shape.
    """
    if width < 1 or noise < 0:
        raise InputError(f"rollout needs width >= 1 and noise >= 0, got width {width} and noise {noise}.")
    controller = controller_of(acting)
    trajectories: list[Trajectory] = []
    with on_one_thread():  # sums are split between threads, so another number of them gives other bits
        side_by_side = min(width, suite.parallel_episodes or width)
        for start in range(0, len(episodes), side_by_side):
            chunk = episodes[start : start + side_by_side]
            padded = _Padded(controller, suite, chunk, width)
            trajectories += _run_side_by_side(padded, suite, chunk, noise, may_fail, on_step)
    return trajectories


def _run_side_by_side(
    padded: "_Padded",
    suite: TaskSuite,
    episodes: Sequence[Episode],
    noise: float,
    may_fail: bool,
    on_step: Callable[[int], None] | None,
) -> list[Trajectory]:
    simulation = simulate(suite, episodes, may_fail)
    stepped: GymnasiumSimulation | Together = Together(simulation, len(episodes))
    failures: Mapping[int, Failure] = {}
    if isinstance(simulation, GymnasiumSimulation):
        stepped, failures = simulation, simulation.failures
    recording = Recording(suite, episodes, may_fail, padded.acting)
    longest = max(episode.task.horizon for episode in episodes)
    noises = _noises(episodes, longest, suite.action_dim, noise) if noise > 0 else None
    step, current = 0, simulation.reset()
    running = recording.begin(current, failures)
    current = {name: entry[running] for name, entry in current.items()}
    while len(running):
        chosen_actions = padded.act(running, current)
        if not (sound := recording.choose(step, running, chosen_actions)).all():
            running, chosen_actions = running[sound], chosen_actions[sound]
            if not len(running):
                break
        executed = _one_hot(chosen_actions) if suite.discrete else np.clip(chosen_actions, -1.0, 1.0)
        recording.act(step, running, executed)
        if noises is not None:
            executed = np.clip(executed + noises[step, running], -1.0, 1.0)
        current, ended = stepped.step(running, executed)
        step += 1
        if on_step is not None:
            on_step(len(running))
        if not (going := recording.take(step, running, current, ended, failures)).all():
            running, current = running[going], {name: entry[going] for name, entry in current.items()}
    trajectories = recording.trajectories(simulation)
    if isinstance(simulation, GymnasiumSimulation):
        simulation.discard(recording.failures)
    return trajectories


class _Padded:
    """A controller that is always asked for `width` actions; row i belongs to episode i.

    Rows of no episode are zeros, read for the first task; the row of an episode that has ended keeps the observation in
    which it took its last action. Where the place of a row would make a difference, each stands there `apart` times in
    a row, and the first of them counts.
    """

    def __init__(self, controller: Controller, suite: TaskSuite, episodes: Sequence[Episode], width: int) -> None:
        self._controller, self._suite = controller, suite
        self._rows = {name: np.zeros((width, *spec.shape), spec.dtype) for name, spec in suite.observation.items()}
        self._entries = {name: torch.from_numpy(rows) for name, rows in self._rows.items()}
        contexts = torch.zeros(width, suite.context_dim)
        contexts[: len(episodes)] = torch.tensor([episode.task.context for episode in episodes])
        tasks = torch.zeros(width, dtype=torch.int64)
        tasks[: len(episodes)] = torch.tensor([episode.task.index for episode in episodes])
        self._device = controller.device
        self._apart = apart = rows_apart(controller) if self._device.type == "cpu" else 1
        self._contexts, self._tasks = (spaced(rows, apart).to(self._device) for rows in (contexts, tasks))
        self._shape = (width * apart, suite.action_dim)
        controller.begin([episode for episode in episodes for _ in range(apart)], width * apart)

    @property
    def acting(self) -> object:
        """What the controller asks."""
        return self._controller.acting

    def act(self, running: NDArray[np.intp], observations: Observations) -> Array:
        """Actions [r, A] of the episodes `running` [r] for their observations, [r, *shape] each."""
        for name, entry in observations.items():
            self._rows[name][running] = entry
        # Copied, as a controller may remember what it sees, and so that every call has tensors aligned alike.
        copies = {name: spaced(entry, self._apart).to(self._device) for name, entry in self._entries.items()}
        actions: object = self._controller.act(Steps(copies, self._tasks, self._contexts))
        if not isinstance(actions, Tensor) or actions.shape != self._shape:
            what = f"shape {list(actions.shape)}" if isinstance(actions, Tensor) else f"a {type(actions).__name__}"
            raise refusal(
                acting := self._controller.acting,
                f"{type(acting).__name__}.act gave {what} for {self._shape[0]} rows of suite '{self._suite.name}'",
                f"It must return a tensor {list(self._shape)}: a row has {self._shape[1]} action dimensions.",
            )
        rows: Array = actions.detach().float().cpu().numpy()
        return rows[running * self._apart]


def _one_hot(scores: Array) -> Array:
    """The largest entry of each row [r, A]: one-hot rows stay as they are, scores of any size become a choice."""
    choices: Array = np.eye(scores.shape[1], dtype=np.float32)[scores.argmax(axis=1)]
    return choices


def _noises(episodes: Sequence[Episode], longest: int, action_dim: int, scale: float) -> Array:
    """Executed noise: what is added to the actions, [T, n, A]; a function of each episode's seed alone."""
    noises = np.zeros((longest, len(episodes), action_dim), dtype=np.float32)
    for number, episode in enumerate(episodes):
        generator = keyed_generator(episode.seed, Purpose.DEMONSTRATE)
        deviations = torch.randn(episode.task.horizon, action_dim, generator=generator)
        noises[: episode.task.horizon, number] = (scale * deviations).numpy()
    return noises


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Within it torch computes on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
