"""Pictures of an episode."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.simulation.rollout import rollout
from amf_lightning.simulation.simulation import simulator_of
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.task import Episode, TaskSuite


class RenderingUnavailable(Exception):  # noqa: N818 - a state of the machine, not a mistake
    """Nothing on this machine can draw the environment: no display, no EGL, or the environment has no pictures."""


def render_frames(
    acting: Acting, suite: TaskSuite, episode: Episode, *, every: int, size: int
) -> list[NDArray[np.uint8]]:
    """Frames of one episode, the first state included; of one that broke off, up to the state before that.

    The episode is first run like any other and its actions are then repeated in an environment that draws, so that
    the pictures show what an evaluation of (weights, task, seed) counts.

    Args:
        acting: a controller, a policy, or an actor.
        suite: its simulator makes the environment.
        episode: task and seed.
        every: steps between two frames.
        size: width and height in pixels, where the environment lets it be chosen.

    Returns:
        Images [height, width, 3].

    Raises:
        RenderingUnavailable: with the reason.
        InputError: the suite has no simulator, or the episode cannot be run.
    """
    (trajectory,) = rollout(acting, suite, [episode], may_fail=True)
    choose_backend()
    with _drawing():
        env = simulator_of(suite).make(episode.task, render_mode="rgb_array")
    try:
        if (renderer := getattr(env.unwrapped, "mujoco_renderer", None)) is not None:
            renderer.width = renderer.height = size
            # On a CPU shadows of the default 4096 take two thirds of the time; small pictures show no difference.
            renderer.model.vis.quality.shadowsize = 8 * size
        with _drawing():  # one that cannot be begun has no picture
            env.reset(seed=episode.seed, options=dict(episode.task.options))
        frames = [_picture(env)]
        done = trajectory.length - (trajectory.failure is not None)
        for step, action in enumerate(trajectory.actions[:done], start=1):
            env.step(action)
            if step % every == 0:
                frames.append(_picture(env))
        return frames
    finally:
        env.close()


def choose_backend() -> None:
    """Makes MuJoCo draw by EGL where there is no screen: unless told otherwise it draws through a window."""
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")


def _picture(env: Any) -> NDArray[np.uint8]:
    with _drawing():
        frame = env.render()
    if frame is None:
        raise RenderingUnavailable("the environment gives no pictures")
    return np.asarray(frame, dtype=np.uint8)


@contextmanager
def _drawing() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # every graphics library fails in its own way
        raise RenderingUnavailable(f"{type(error).__name__}: {error}") from error
