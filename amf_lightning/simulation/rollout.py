"""The one loop that runs episodes: many side by side, each a function of (weights, task, seed) alone.

The same row of a matrix product has different bits in batches of different size, and contact dynamics turn a
difference of 1e-7 into order 10 within 50 steps. So the actor is called on one thread, and always at the same padded
width; what stands in the other rows does not change a row.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.simulation.simulation import simulate
from amf_lightning.tasks.actor import Actor
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

Array = NDArray[np.float32]


@torch.no_grad()
def rollout(
    actor: Actor,
    suite: TaskSuite,
    episodes: Sequence[Episode],
    *,
    noise: float = 0.0,
    width: int = 32,
    on_step: Callable[[int], None] | None = None,
) -> list[Trajectory]:
    """Runs episodes and returns their trajectories in the same order.

    An episode depends on (weights, task, seed) and the options here, not on the episodes that run beside it, on their
    order, on what ran before or on the number of threads.

    Args:
        actor: called once a step with `width` rows, float32, on the device of its parameters (CPU if it has none).
        suite: where the tasks come from.
        episodes: what to run.
        noise: standard deviation of Gaussian noise, keyed by the episode's seed, that is added to the executed
            action (then clipped to [-1, 1]). The recorded action is the one without noise.
        width: episodes side by side. Part of what must be equal for two results to be equal.
        on_step: called with the number of environment steps just taken.

    Raises:
        InputError: an action or observation is not finite or has the wrong shape; the message names task and step.
    """
    if width < 1 or noise < 0:
        raise InputError(f"rollout needs width >= 1 and noise >= 0, got width {width} and noise {noise}.")
    trajectories: list[Trajectory] = []
    with _one_thread():
        for start in range(0, len(episodes), width):
            chunk = episodes[start : start + width]
            trajectories += _run_side_by_side(_Padded(actor, suite, chunk, width), suite, chunk, noise, on_step)
    return trajectories


def _run_side_by_side(
    actor: "_Padded",
    suite: TaskSuite,
    episodes: Sequence[Episode],
    noise: float,
    on_step: Callable[[int], None] | None,
) -> list[Trajectory]:
    simulation = simulate(suite, episodes)
    longest = max(episode.task.horizon for episode in episodes)
    observations = np.empty((longest + 1, len(episodes), suite.observation_dim), dtype=np.float32)
    actions = np.empty((longest, len(episodes), suite.action_dim), dtype=np.float32)
    lengths = np.zeros(len(episodes), dtype=int)
    noises = _noises(episodes, longest, suite.action_dim, noise) if noise > 0 else None
    running, step = np.arange(len(episodes)), 0
    current = simulation.reset()
    observations[0] = _finite("observation", current, running, episodes, 0)
    while len(running):
        chosen = _finite("action", actor.act(running, current), running, episodes, step)
        executed = _one_hot(chosen) if suite.discrete else np.clip(chosen, -1.0, 1.0)
        actions[step, running] = executed
        if noises is not None:
            executed = np.clip(executed + noises[step, running], -1.0, 1.0)
        current, ended = simulation.step(running, executed)
        step += 1
        observations[step, running] = _finite("observation", current, running, episodes, step)
        if on_step is not None:
            on_step(len(running))
        if ended.any():
            lengths[running[ended]] = step
            running, current = running[~ended], current[~ended]
    trajectories = []
    for number, (episode, length) in enumerate(zip(episodes, lengths.tolist(), strict=True)):
        outcome = simulation.outcome(number)
        trajectories.append(
            Trajectory(
                observations=observations[: length + 1, number].copy(),
                actions=actions[:length, number].copy(),
                rewards=outcome.rewards,
                task=episode.task.name,
                seed=episode.seed,
                success=outcome.success,
                metrics=outcome.metrics,
            )
        )
    return trajectories


class _Padded:
    """An actor that is always asked for `width` actions; row i belongs to episode i."""

    def __init__(self, actor: Actor, suite: TaskSuite, episodes: Sequence[Episode], width: int) -> None:
        self._actor, self._suite = actor, suite
        self._device = _device(actor)
        self._observations = torch.zeros(width, suite.observation_dim)
        self._rows: Array = self._observations.numpy()
        contexts = torch.zeros(width, suite.context_dim)
        contexts[: len(episodes)] = torch.tensor([episode.task.context for episode in episodes])
        self._contexts = contexts.to(self._device)

    def act(self, running: NDArray[np.intp], observations: Array) -> Array:
        """Actions [r, A] of the episodes `running` [r] for their observations [r, O]."""
        self._rows[running] = observations
        actions = _tensor(self._actor.act(self._observations.to(self._device), self._contexts))
        expected = (len(self._rows), self._suite.action_dim)
        if actions.shape != expected:
            raise InputError(
                f"The actor gave actions of shape {tuple(actions.shape)} for {expected[0]} rows of suite "
                f"'{self._suite.name}', which has {expected[1]} action dimensions."
            )
        rows: Array = actions.detach().float().cpu().numpy()
        return rows[running]


def _tensor(actions: Any) -> Tensor:
    """What an actor gave; arrays of numpy and lists are taken for what they mean."""
    try:
        return torch.as_tensor(actions)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The actor gave a {type(actions).__name__}; act(observations, contexts) must return a tensor [N, A], one "
            f"row of actions for each row of observations ({error})."
        ) from error


def _one_hot(chosen: Array) -> Array:
    """The largest entry of each row [r, A]: one-hot rows stay as they are, scores of any size become a choice."""
    choices: Array = np.eye(chosen.shape[1], dtype=np.float32)[chosen.argmax(axis=1)]
    return choices


def _noises(episodes: Sequence[Episode], longest: int, action_dim: int, scale: float) -> Array:
    """What is added to the actions, [T, n, A]."""
    noises = np.zeros((longest, len(episodes), action_dim), dtype=np.float32)
    for number, episode in enumerate(episodes):
        generator = keyed_generator(episode.seed, Purpose.DEMONSTRATE)
        drawn = torch.randn(episode.task.horizon, action_dim, generator=generator)
        noises[: episode.task.horizon, number] = (scale * drawn).numpy()
    return noises


def _finite(what: str, values: Array, running: NDArray[np.intp], episodes: Sequence[Episode], step: int) -> Array:
    """`values` [r, ...] if they are finite; else InputError about the first episode of which they are not."""
    if not (finite := np.isfinite(values)).all():
        number = running[int(np.argmin(finite.all(axis=1)))]
        raise InputError(f"{episodes[number].where(step)}: the {what} is not finite (NaN or infinite).")
    return values


def _device(actor: Actor) -> torch.device:
    first: Tensor | None = next(actor.parameters(), None) if isinstance(actor, nn.Module) else None
    return torch.device("cpu") if first is None else first.device


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
