"""What `amf export` writes is read by LeRobot, Minari and robomimic themselves, and what they write now by us.

Run by `make test-formats`, in an environment of their own.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import SAMPLES, awkward, exported, imported, store_of
from reference import FPS, Reference, references

from amf_lightning.demonstrations.importing.reading import Reading, read_keys
from amf_lightning.demonstrations.importing.source import episodes
from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.shipped import shipped_folder
from amf_lightning.tasks.trajectory import Trajectory

KEYS = shipped_folder("configs") / "import"
MISSING = [name for name in ("lerobot", "minari", "robomimic", "av") if find_spec(name) is None]
pytestmark = [
    pytest.mark.formats,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed: `make test-formats` runs this"),
]


def trajectory(reference: Reference, after_last: bool) -> Trajectory:
    return Trajectory(
        reference.observations(after_last),
        reference.actions,
        reference.rewards,
        reference.task,
        reference.seed,
        reference.success,
    )


@pytest.fixture(params=[False, True], ids=["T", "T+1"])
def store(tmp_path: Path, request: Any) -> DemonstrationStore:
    return store_of(tmp_path / "store", [trajectory(each, request.param) for each in references()])


def test_lerobot_reads_what_we_write(store: DemonstrationStore, tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("amf/ours", root=exported(store, tmp_path / "there", "lerobot"))
    assert len(dataset) == sum(len(each.actions) for each in references()) and dataset.meta.fps == FPS
    place = 0
    for each in references():
        for step in range(len(each.actions)):
            frame = dataset[place]
            place += 1
            assert frame["task"] == each.task
            picture = (frame["observation.images.front"].numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
            assert np.array_equal(picture, each.front[step])
            assert np.array_equal(frame["observation.state"].numpy(), each.state[step])
            assert np.array_equal(frame["action"].numpy(), each.actions[step])
            assert frame["next.reward"].item() == np.float32(each.rewards[step])  # LeRobot reads all as float32
    actions = np.concatenate([each.actions for each in references()])
    statistics = dataset.meta.stats
    for name, expected in (("mean", actions.mean(0)), ("std", actions.std(0)), ("max", actions.max(0))):
        np.testing.assert_allclose(statistics["action"][name], expected, rtol=1e-5)
    assert statistics["observation.images.front"]["mean"].shape == (3, 1, 1)


def test_lerobot_reads_entries_of_many_shapes(tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    recorded = awkward(True)
    store = store_of(tmp_path / "store", recorded)
    frame = LeRobotDataset("amf/ours", root=exported(store, tmp_path / "there", "lerobot"))[0]
    assert np.array_equal(frame["observation.depth"].numpy(), recorded[0].observations["depth"][0])
    assert np.array_equal(frame["observation.ticks"].numpy(), recorded[0].observations["ticks"][0])


def test_lerobot_goes_on_recording_behind_what_we_wrote(tmp_path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    store = store_of(tmp_path / "store", [trajectory(each, False) for each in references()])
    there = exported(store, tmp_path / "there", "lerobot")
    dataset = LeRobotDataset.resume("amf/ours", root=there)
    each = references()[0]
    for step, action in enumerate(each.actions):
        dataset.add_frame(
            {
                "observation.state": each.state[step],
                "observation.images.front": each.front[step],
                "action": action,
                "next.reward": each.rewards[step : step + 1],
                "next.success": np.array([True]),
                "task": "a new task",
            }
        )
    dataset.save_episode()
    dataset.finalize()
    read = list(episodes(there))
    assert [each.task for each in read][-2:] == [references()[2].task, "a new task"]
    assert [fingerprint(each) for each in read[:3]] == [fingerprint(store.read(number)) for number in range(3)]


def test_minari_reads_what_we_write(store: DemonstrationStore, tmp_path: Path) -> None:
    import minari

    dataset = minari.MinariDataset(exported(store, tmp_path / "there", "minari") / "data")
    assert dataset.total_episodes == 3
    for read, each in zip(dataset.iterate_episodes(), references(), strict=True):
        steps = len(each.actions)
        assert len(read.observations["state"]) == steps + 1
        assert np.array_equal(read.observations["image"]["front"][:steps], each.front[:steps])
        assert np.array_equal(read.observations["state"][:steps], each.state[:steps])
        assert np.array_equal(read.actions, each.actions) and np.array_equal(read.rewards, each.rewards)
        assert read.truncations[-1] != read.terminations[-1]
    assert [each["seed"] for each in dataset.storage.get_episode_metadata(range(3))] == [100, 101, 102]


def test_robomimic_reads_what_we_write(store: DemonstrationStore, tmp_path: Path) -> None:
    from robomimic.utils import file_utils, obs_utils
    from robomimic.utils.dataset import SequenceDataset

    there = str(exported(store, tmp_path / "there.hdf5", "robomimic"))
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["state"], "rgb": ["image_front"]}})
    after_last = len(store.read(0).observations["state"]) > store.read(0).length
    dataset = SequenceDataset(
        there,
        obs_keys=["state", "image_front"],
        dataset_keys=["actions", "rewards", "dones"],
        load_next_obs=after_last,
        hdf5_cache_mode=None,
    )
    place = 0
    for each in references():
        for step in range(len(each.actions)):
            read = dataset[place]
            place += 1
            assert np.array_equal(read["obs"]["state"][0], each.state[step])
            assert np.array_equal(read["obs"]["image_front"][0], each.front[step])
            assert np.array_equal(read["actions"][0], each.actions[step])
    assert place == len(dataset)
    assert file_utils.get_demos_for_filter_key(there, references()[0].task) == ["demo_0", "demo_2"]
    dataset.close_and_delete_hdf5_handle()


def test_robomimic_reads_our_sample_of_libero_as_we_do() -> None:
    """LIBERO itself trains on its files through this class of robomimic's."""
    from robomimic.utils import obs_utils
    from robomimic.utils.dataset import SequenceDataset

    file = sorted((SAMPLES / "libero").glob("*.hdf5"))[0]
    ours = list(episodes(file, Reading(**read_keys(KEYS / "libero.yaml"))))
    vectors, pictures = ["ee_states", "gripper_states"], ["agentview_rgb", "eye_in_hand_rgb"]
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": vectors, "rgb": pictures}})
    dataset = SequenceDataset(
        str(file),
        obs_keys=[*vectors, *pictures],
        dataset_keys=["actions", "rewards", "dones"],
        load_next_obs=False,
        hdf5_cache_mode=None,
    )
    place = 0
    for each in ours:
        for step in range(each.length):
            read = dataset[place]
            place += 1
            state = np.concatenate([read["obs"][name][0] for name in vectors]).astype(np.float32)
            assert np.array_equal(state, each.observations["state"][step])
            assert np.array_equal(read["obs"]["agentview_rgb"][0], each.observations["image/agentview"][step])
            assert np.array_equal(read["actions"][0].astype(np.float32), each.actions[step])
    assert place == len(dataset) > 0
    dataset.close_and_delete_hdf5_handle()


def test_minari_reads_our_sample_of_the_kitchen_as_we_do() -> None:
    import minari

    dataset = minari.MinariDataset(SAMPLES / "minari" / "kitchen" / "complete-v2" / "data")
    cut = iter(episodes(SAMPLES / "minari" / "kitchen" / "complete-v2", Reading(**read_keys(KEYS / "kitchen.yaml"))))
    for read in dataset.iterate_episodes():
        begin = 0
        for task in ("microwave", "kettle", "light switch", "slide cabinet"):
            part = next(cut)
            end = begin + part.length
            assert part.task == task
            achieved, desired = (read.observations[f"{which}_goal"][task] for which in ("achieved", "desired"))
            off = np.linalg.norm(achieved - desired, axis=1)
            assert (off[:end] >= 0.3).all() and off[end] < 0.3
            whole = read.observations["observation"].astype(np.float32)
            assert np.array_equal(part.observations["state"], whole[begin : end + 1])
            assert np.array_equal(part.actions, read.actions[begin:end].astype(np.float32))
            begin = end
    assert next(cut, None) is None


def test_what_the_libraries_write_today_is_what_is_committed(tmp_path: Path) -> None:
    import make_samples

    make_samples.main(tmp_path / "samples")
    for place in ("lerobot-image", "lerobot-video", "minari/pictures-v0", "minari/state-parquet-v0", "robomimic.hdf5"):
        now, committed = (
            [fingerprint(each) for each in episodes(root / place)] for root in (tmp_path / "samples", SAMPLES)
        )
        assert now == committed
        assert imported(tmp_path / "samples" / place, tmp_path / place.replace("/", "-")).written == 3
    downloads = {"libero": "libero", "robomimic-tasks": "robomimic", "minari/kitchen/complete-v2": "kitchen"}
    for place, keys in downloads.items():
        reading = Reading(**read_keys(KEYS / f"{keys}.yaml"))
        now, committed = (
            [fingerprint(each) for each in episodes(root / place, reading)] for root in (tmp_path / "samples", SAMPLES)
        )
        assert now == committed and len(set(now)) == len(now)


def test_videos_are_decoded_as_lerobot_decodes_them() -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset("amf/reference", root=SAMPLES / "lerobot-video", video_backend="pyav")
    place = 0
    for each in episodes(SAMPLES / "lerobot-video"):
        for picture in each.observations["image/front"][: each.length]:
            theirs = (dataset[place]["observation.images.front"].numpy() * 255).round().astype(np.uint8)
            assert np.array_equal(theirs.transpose(1, 2, 0), picture)
            place += 1
