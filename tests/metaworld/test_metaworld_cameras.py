"""Metaworld's tasks as cameras see them."""

from typing import Any

import numpy as np
import pytest
import torch
from metaworld_marks import PICTURED

from amf_lightning.errors import InputError
from amf_lightning.experts.metaworld import MetaworldExpert
from amf_lightning.suites.metaworld import Metaworld
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode

pytestmark = PICTURED
TASKS, CAMERAS = ["coffee-push", "faucet-open"], ["topview", "corner3"]


@pytest.fixture(scope="module")
def suite() -> Metaworld:
    return Metaworld(TASKS, cameras=CAMERAS, pixels=32)


@pytest.fixture(scope="module")
def episodes(suite: Metaworld) -> list[Episode]:
    return [Episode(task, seed) for task in suite.tasks for seed in (1, 2)]


def test_an_episode_is_the_same_with_and_without_cameras(suite: Metaworld, episodes: list[Episode]) -> None:
    seen = MetaworldExpert().demonstrate(suite, episodes)
    told = MetaworldExpert().demonstrate(Metaworld(TASKS), episodes)
    for picture, vector in zip(seen, told, strict=True):
        assert picture.success and picture.rewards is not None and vector.rewards is not None
        assert np.array_equal(picture.actions, vector.actions) and np.array_equal(picture.rewards, vector.rewards)
        numbers = vector.state
        state = picture.acted_on["state"]
        assert np.array_equal(state, np.concatenate([numbers[: len(state), -3:], numbers[: len(state), :4]], axis=1))
        for camera in CAMERAS:
            frames = picture.acted_on[f"image/{camera}"]
            assert frames.shape == (len(state), 32, 32, 3) and frames.dtype == np.uint8
            assert frames[0].std() > 10 and not np.array_equal(frames[0], frames[-1]), "an arm moves before a table"


def test_pictures_do_not_depend_on_what_runs_beside(suite: Metaworld, episodes: list[Episode]) -> None:
    together = MetaworldExpert().demonstrate(suite, episodes)
    alone = MetaworldExpert().demonstrate(suite, episodes[2:3])[0]
    for name, entry in alone.acted_on.items():
        assert np.array_equal(entry, together[2].acted_on[name]), name


def test_pictures_show_where_things_are(suite: Metaworld) -> None:
    """The mug of other episodes stands elsewhere; hand and gripper begin where they always do."""
    env = suite.make(suite.tasks[0])
    scene: Any = env.unwrapped
    for seed in (1, 2):
        env.reset(seed=seed)
        for number in range(1, scene.model.nbody):
            if scene.model.body_parentid[number] == 0 and scene.model.body_mocapid[number] < 0:
                free = scene.model.body_dofnum[number] > 0
                assert free or np.allclose(scene.data.xpos[number], scene.model.body_pos[number]), number
    seen = [env.reset(seed=seed)[0] for seed in (1, 2)]
    assert np.array_equal(seen[0]["state"][3:], seen[1]["state"][3:])
    moved = np.argwhere((seen[0]["image/topview"] != seen[1]["image/topview"]).any(-1))
    assert 0 < len(moved) < 32 * 32 / 4, "the mug and what it is put under, and not the whole picture"


def test_the_scripts_are_no_answer_to_another_episode_and_take_no_noise(suite: Metaworld) -> None:
    scripts = MetaworldExpert().actor(suite)
    assert isinstance(scripts, Controller)
    scripts.begin([Episode(suite.tasks[0], 1)], 1)
    observation, _ = suite.make(suite.tasks[0]).reset(seed=2)
    rows = {name: torch.from_numpy(np.asarray(entry))[None] for name, entry in observation.items()}
    with pytest.raises(InputError, match=r"seed 1: MetaworldExpert acts in whole episodes of its own only"):
        scripts.act(Steps(rows, torch.zeros(1, dtype=torch.int64), suite.contexts[:1]))
    with pytest.raises(InputError, match=r"expert\.noise is 0\.1; with cameras MetaworldExpert can only act without"):
        MetaworldExpert(noise=0.1).actor(suite)


def test_large_pictures_are_drawn_to_their_edges() -> None:
    suite = Metaworld(TASKS[:1], cameras=["topview"], pixels=640)
    picture = suite.make(suite.tasks[0]).reset(seed=0)[0]["image/topview"]
    assert picture.shape == (640, 640, 3)
    assert picture.any((0, 2)).all() and picture.any((1, 2)).all()


def test_cameras_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="there is no camera 'side'; the cameras are topview"):
        Metaworld(TASKS, cameras=["side"])
    with pytest.raises(InputError, match=r"cameras is \['topview', 'topview'\]; name at least one, each once"):
        Metaworld(TASKS, cameras=["topview", "topview"])
    with pytest.raises(InputError, match="pixels is 4; it must be between 8 and 1024"):
        Metaworld(TASKS, cameras=CAMERAS, pixels=4)
