import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from amf_process import amf, write_config
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from torch import Tensor

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.reports import animation
from amf_lightning.reports.animation import side_by_side, write_animation
from amf_lightning.simulation.render import RenderingUnavailable
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.task import Episode, TaskSuite

SUITE = HalfCheetahVelocity(targets=[0, 3], horizon=6, reference=None)


class Constant:
    """Always the same action; as a picture, always the same shade."""

    def __init__(self, action: float) -> None:
        self.action = action

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.full((len(observations), 6), self.action)


def shades(actor: Actor, suite: TaskSuite, episode: Episode, *, every: int, size: int) -> list[NDArray[np.uint8]]:
    """Stands in for a renderer: the action as a grey, one frame more for each task."""
    grey = round(255 * float(actor.act(torch.zeros(1, 17), torch.zeros(1, 1))[0, 0]))
    frame = np.full((size, size, 3), grey, dtype=np.uint8)
    return [frame // (1 + i) for i in range(2 + episode.task.index)]


def frames_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])


def test_before_is_on_the_left_after_on_the_right_and_every_task_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animation, "render_frames", shades)
    path = tmp_path / "policy.gif"
    assert write_animation(path, SUITE, Constant(1.0), Constant(0.6), [0, 1], seed=0)
    frames = frames_of(path)
    assert len(frames) == 3  # as long as the longest episode
    height, width = frames.shape[1:3]
    for row in (0.4, 0.9):  # within the first and the second task's pictures
        left, right = (frames[0, int(row * height), int(column * width), 0] for column in (0.25, 0.75))
        assert left == pytest.approx(255, abs=6) and right == pytest.approx(153, abs=6)


def test_the_same_policy_twice_gives_equal_halves_apart_from_the_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animation, "render_frames", shades)
    path = tmp_path / "policy.gif"
    assert write_animation(path, SUITE, Constant(0.5), Constant(0.5), [1], seed=0)
    left, right = np.split(frames_of(path), 2, axis=2)
    assert np.array_equal(left[:, 20:], right[:, 20:])
    assert not np.array_equal(left[:, :16], right[:, :16])


def test_a_thinned_animation_is_smaller_and_lasts_as_long() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    whole = animation._gif(list(noise), 128, 100)
    thin = animation.thinned(whole)
    assert len(thin) < 0.6 * len(whole)
    lasting = [
        [frame.info["duration"] for frame in ImageSequence.Iterator(Image.open(BytesIO(g)))] for g in (whole, thin)
    ]
    assert sum(lasting[0]) == sum(lasting[1]) == 2000
    assert len(lasting[1]) == 10


def test_an_episode_that_ends_early_waits_in_its_last_frame() -> None:
    short, long = ([np.full((8, 64, 3), 10 * i, dtype=np.uint8) for i in range(1, n + 1)] for n in (2, 5))
    pairs = side_by_side(short, long, "a", "b")
    assert [int(frame[20, 10, 0]) for frame in pairs] == [10, 20, 20, 20, 20]
    assert [int(frame[20, 80, 0]) for frame in pairs] == [10, 20, 30, 40, 50]


def test_where_nothing_can_render_one_warning_is_given_and_no_file_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> list[NDArray[np.uint8]]:
        raise RenderingUnavailable("no graphics library")

    monkeypatch.setattr(animation, "render_frames", fail)
    path = tmp_path / "policy.gif"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert not write_animation(path, SUITE, Constant(0.0), Constant(0.0), [0, 1], seed=0)
    (warning,) = caught
    assert "policy.gif" in str(warning.message) and "no graphics library" in str(warning.message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_real_environments_are_drawn_or_the_picture_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "policy.gif"
    written = write_animation(path, SUITE, Constant(0.0), Constant(1.0), [1], seed=0)
    assert path.exists() == written
    if written:
        frames = frames_of(path)
        left, right = np.split(frames, 2, axis=2)
        assert np.array_equal(left[0, 20:], right[0, 20:])  # the same initial state
        assert not np.array_equal(left[-1, 20:], right[-1, 20:])
        assert not np.array_equal(frames[0], frames[-1])


def test_a_run_shows_its_policy_before_and_after(tmp_path: Path) -> None:
    write_config(tmp_path, reports={"animation": True}, data={"steps_per_round": 50})
    outcome = amf("fit", "--config=tiny.yaml", "--trainer.default_root_dir=run", cwd=tmp_path)
    assert outcome.code == 0, outcome.said
    folder = RunFolder(tmp_path / "run")
    frames = frames_of(folder.animation)
    assert len(frames) == 13  # the first state, and the twelve after a step
    below_label = frames[:, 16:48].astype(int)
    (left, right) = (below_label[:, :, :32], below_label[:, :, 36:68])
    assert np.array_equal(left[0], right[0]), "both begin in the same state"
    assert abs(left[-1] - right[-1]).max() > 100 and abs(right[0] - right[-1]).max() > 100
    assert f"({folder.animation.name})" in folder.report.read_text()
