"""What LeRobot, Minari and robomimic wrote (`make_samples.py`, committed) is read as it was, bit for bit."""

from pathlib import Path

import numpy as np
import pytest
from recordings import SAMPLES
from reference import TASKS, references

from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.source import count, detect, episodes
from amf_lightning.demonstrations.store import fingerprint
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory

ROBOMIMIC = {"image/front": "front_image", "state": "state"}


def expected(after_last: bool, pictures: bool, seeds: bool = True, success: bool = True) -> list[str]:
    """Fingerprints of the reference episodes: of every bit of their arrays, task, seed and success."""
    return [
        fingerprint(
            Trajectory(
                {name: entry for name, entry in each.observations(after_last).items() if pictures or name == "state"},
                each.actions,
                each.rewards,
                each.task,
                each.seed if seeds else None,
                each.success if success else None,
            )
        )
        for each in references()
    ]


@pytest.mark.parametrize(
    ("place", "after_last", "pictures", "seeds"),
    [
        ("lerobot-image", False, True, False),
        ("minari/pictures-v0", True, True, True),
        ("minari/pictures-v0/data", True, True, True),
        ("minari/pictures-parquet-v0", True, True, True),
        ("minari/state-hdf5-v0", True, False, True),
        ("minari/state-arrow-v0", True, False, True),
        ("minari/state-parquet-v0", True, False, True),
    ],
)
def test_every_bit_is_read(place: str, after_last: bool, pictures: bool, seeds: bool) -> None:
    read = [fingerprint(each) for each in episodes(SAMPLES / place)]
    assert read == expected(after_last, pictures, seeds)
    assert count(SAMPLES / place) == 3


def test_robomimic_says_neither_task_nor_success_and_next_obs_gives_the_last_observation() -> None:
    read = list(episodes(SAMPLES / "robomimic.hdf5", Reading(observation=ROBOMIMIC)))
    assert [each.task for each in read] == ["Lift"] * 3
    for each, reference in zip(read, references(), strict=True):
        assert np.array_equal(each.observations["image/front"], reference.front)
        assert np.array_equal(each.observations["state"], reference.state)
        assert np.array_equal(each.actions, reference.actions) and each.success is None


def test_pictures_that_minari_wrote_as_jpeg_are_read_as_they_are_now() -> None:
    [first, *_] = episodes(SAMPLES / "minari" / "jpeg-v0")
    off = np.abs(first.observations["image/front"].astype(int) - references()[0].front)
    assert first.observations["image/front"].shape == references()[0].front.shape and 0 < off.mean() < 90


@pytest.mark.parametrize(
    ("place", "format"),
    [
        ("lerobot-image", "lerobot"),
        ("lerobot-video", "lerobot"),
        ("minari/jpeg-v0", "minari"),
        ("robomimic.hdf5", "robomimic"),
    ],
)
def test_the_format_is_found_by_the_content(place: str, format: str, tmp_path: Path) -> None:
    link = tmp_path / "something"
    link.symlink_to(SAMPLES / place)
    assert detect(link) == format


def test_files_in_any_case_are_found_and_a_table_of_notes_beside_them_is_none(tmp_path: Path) -> None:
    (tmp_path / "DEMO.HDF5").symlink_to(SAMPLES / "robomimic.hdf5")
    (tmp_path / "notes.csv").write_text("who,when\n")
    assert detect(tmp_path) == "robomimic"
    reading = Reading(observation=ROBOMIMIC)
    assert [fingerprint(each) for each in episodes(tmp_path, reading)] == [
        fingerprint(each) for each in episodes(SAMPLES / "robomimic.hdf5", reading)
    ]


def test_a_map_of_tasks_renames_and_leaves_out() -> None:
    reading = Reading(tasks={TASKS[0]: "reach", TASKS[1]: None})
    assert [each.task for each in episodes(SAMPLES / "lerobot-image", reading)] == ["reach", "reach"]


def test_units_of_actions_are_changed_by_their_limits() -> None:
    reading = Reading(action_low=(-2.0, -4.0), action_high=(2.0, 4.0))
    [first, *_] = episodes(SAMPLES / "lerobot-image", reading)
    np.testing.assert_allclose(first.actions, references()[0].actions / [2, 4], rtol=1e-6)


def test_lossy_videos_need_pyav_and_say_so_without_it() -> None:
    source = SAMPLES / "lerobot-video"
    try:
        import av  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pip install 'amf-lightning\[video\]'"):
            list(episodes(source))
        return
    [first, *_] = episodes(source)
    off = np.abs(first.observations["image/front"].astype(int) - references()[0].front[:-1])
    assert 0 < off.mean() < 90
