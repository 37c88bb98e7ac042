import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import amf_lightning
from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.simulation.render import RenderingUnavailable, render_frames
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.suites.humanoid import HumanoidVelocity
from amf_lightning.tasks.task import Episode, TaskSuite


class Stretch:
    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.ones(len(observations), self.action_dim)


@pytest.mark.parametrize("suite", [HalfCheetahVelocity, HumanoidVelocity])
def test_frames_have_the_size_and_move(suite: type[TaskSuite]) -> None:
    made = suite(horizon=10, reference=None)  # type: ignore[call-arg]
    episode = Episode(made.tasks[0], 0)
    try:
        frames = render_frames(Stretch(made.action_dim), made, episode, every=3, size=128)
    except RenderingUnavailable as reason:
        pytest.skip(f"nothing can render here: {reason}")
    assert [frame.shape for frame in frames] == [(128, 128, 3)] * 4
    assert all(frame.dtype == np.uint8 and frame.std() > 10 for frame in frames)
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1
    again = render_frames(Stretch(made.action_dim), made, episode, every=3, size=128)
    assert np.abs(frames[-1].astype(int) - again[-1]).mean() < 1


def test_a_machine_that_cannot_render_says_so_in_one_exception() -> None:
    """In its own process, as the backend is chosen once; osmesa is not installed together with MuJoCo."""
    code = (
        "import os, torch\n"
        "from amf_lightning.suites.halfcheetah import HalfCheetahVelocity\n"
        "from amf_lightning.simulation.render import RenderingUnavailable, render_frames\n"
        "from amf_lightning.tasks.task import Episode\n"
        "class Still:\n"
        "    def act(self, o, c): return torch.zeros(len(o), 6)\n"
        "suite = HalfCheetahVelocity(horizon=2, reference=None)\n"
        "os.environ['MUJOCO_GL'] = 'osmesa'\n"
        "try: render_frames(Still(), suite, Episode(suite.tasks[0], 0), every=1, size=64)\n"
        "except RenderingUnavailable as reason: print('unavailable:', reason)\n"
    )
    environment = {"PYTHONPATH": str(Path(amf_lightning.__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert process.stdout.startswith("unavailable:"), process.stderr


def test_the_camera_stays_with_the_robot() -> None:
    suite = HalfCheetahVelocity()
    actor = TrainedExpert().actor(suite)
    try:
        frames = render_frames(actor, suite, Episode(suite.task("v=4"), 0), every=200, size=64)
    except RenderingUnavailable as reason:
        pytest.skip(f"nothing can render here: {reason}")
    for frame in frames:
        skin = frame[..., 0].astype(int) - frame[..., 2] > 30  # the robot is the only brown thing
        assert skin.sum() > 20
