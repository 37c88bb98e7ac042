"""Pictures of an episode."""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amf_lightning.tasks.actor import Actor
from amf_lightning.tasks.task import Episode, TaskSuite


class RenderingUnavailable(Exception):
    """Nothing on this machine can draw the environment: no display, no EGL, or the environment has no pictures."""


@torch.no_grad()
def render_frames(
    actor: Actor, suite: TaskSuite, episode: Episode, *, every: int, size: int
) -> list[NDArray[np.uint8]]:
    """Frames of one episode, the first state included.

    Args:
        actor: who acts.
        suite: makes the environment.
        episode: task and seed.
        every: steps between two frames.
        size: width and height in pixels, where the environment lets it be chosen.

    Returns:
        Images [height, width, 3].

    Raises:
        RenderingUnavailable: with the reason.
    """
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # without a screen only EGL was seen to work
    env = suite.make(episode.task, render_mode="rgb_array")
    try:
        if (renderer := getattr(env.unwrapped, "mujoco_renderer", None)) is not None:
            renderer.width = renderer.height = size
        observation, _ = env.reset(seed=episode.seed, options=dict(episode.task.options))
        context = torch.tensor([episode.task.context], dtype=torch.float32)
        frames = [_picture(env)]
        for step in range(1, episode.task.horizon + 1):
            row = torch.from_numpy(np.asarray(observation, dtype=np.float32))[None]
            action = actor.act(row, context)[0].numpy().clip(-1.0, 1.0)
            observation, _, terminated, truncated, _ = env.step(action)
            if step % every == 0:
                frames.append(_picture(env))
            if terminated or truncated:
                break
        return frames
    finally:
        env.close()


def _picture(env: Any) -> NDArray[np.uint8]:
    try:
        frame = env.render()
    except Exception as error:  # every graphics library fails in its own way
        raise RenderingUnavailable(f"{type(error).__name__}: {error}") from error
    if frame is None:
        raise RenderingUnavailable("the environment gives no pictures")
    return np.asarray(frame, dtype=np.uint8)
