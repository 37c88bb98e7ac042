"""Writes `tests/data/formats/` with the official libraries: `make samples`, in the environment of `make test-formats`.

The files are committed, so that the tests of every day read what the libraries wrote without having them.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from reference import FPS, HEIGHT, TASKS, WIDTH, references

DATA = Path(__file__).resolve().parents[1] / "data" / "formats"


def lerobot(folder: Path, camera: str) -> None:
    """LeRobot v3.0, as LeRobotDataset records it; the camera as `image` (PNG in parquet) or `video` (AV1)."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "observation.images.front": {
            "dtype": camera,
            "shape": (HEIGHT, WIDTH, 3),
            "names": ["height", "width", "channels"],
        },
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "next.reward": {"dtype": "float64", "shape": (1,), "names": None},
        "next.success": {"dtype": "bool", "shape": (1,), "names": None},
    }
    dataset = LeRobotDataset.create(
        "amf/reference", fps=FPS, features=features, root=folder, use_videos=camera == "video"
    )
    for episode in references():
        for step, action in enumerate(episode.actions):
            last = step == len(episode.actions) - 1
            dataset.add_frame(
                {
                    "observation.state": episode.state[step],
                    "observation.images.front": episode.front[step],
                    "action": action,
                    "next.reward": episode.rewards[step : step + 1],
                    "next.success": np.array([last and episode.success]),
                    "task": episode.task,
                }
            )
        dataset.save_episode()
    dataset.finalize()


def minari(folder: Path, name: str, data_format: str, pictures: bool, jpeg: bool = False) -> None:
    """Minari, as `create_dataset_from_buffers` writes it."""
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    import minari
    from gymnasium import spaces
    from minari.data_collector.episode_buffer import EpisodeBuffer

    state = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    front = spaces.Box(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    observation = spaces.Dict({"state": state, "image": spaces.Dict({"front": front})}) if pictures else state
    buffers = [
        EpisodeBuffer(
            id=number,
            seed=episode.seed,
            options={"task": episode.task},
            observations={"state": episode.state, "image": {"front": episode.front}} if pictures else episode.state,
            actions=episode.actions,
            rewards=list(episode.rewards),
            terminations=[False] * len(episode.actions),
            truncations=[step == len(episode.actions) - 1 for step in range(len(episode.actions))],
            infos={"success": np.array([False] * len(episode.actions) + [episode.success])},
        )
        for number, episode in enumerate(references())
    ]
    minari.create_dataset_from_buffers(
        dataset_id=name,
        buffer=buffers,
        observation_space=observation,
        action_space=spaces.Box(-1, 1, (2,), np.float32),
        data_format=data_format,
        jpeg_encoding=jpeg,
    )


def robomimic(file: Path) -> None:
    """robomimic has no writer but its converters: the calls of its `dataset_states_to_obs.py`, and its filter keys."""
    import h5py
    from robomimic.utils.file_utils import create_hdf5_filter_key

    with h5py.File(file, "w") as out:
        data = out.create_group("data")
        for number, episode in enumerate(references()):
            group = data.create_group(f"demo_{number}")
            steps = len(episode.actions)
            group.create_dataset("actions", data=np.array(episode.actions))
            group.create_dataset("rewards", data=np.array(episode.rewards))
            group.create_dataset("dones", data=np.array([0] * (steps - 1) + [1]))
            for name, entry in (("state", episode.state), ("front_image", episode.front)):
                group.create_dataset(f"obs/{name}", data=entry[:-1], compression="gzip")
                group.create_dataset(f"next_obs/{name}", data=entry[1:], compression="gzip")
            group.attrs["num_samples"] = steps
        data.attrs["total"] = sum(len(episode.actions) for episode in references())
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
    for task in TASKS:
        members = [f"demo_{number}" for number, episode in enumerate(references()) if episode.task == task]
        create_hdf5_filter_key(str(file), members, task.split()[0])


def main(folder: Path) -> None:
    """Writes all samples anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "minari").mkdir(parents=True)
    lerobot(folder / "lerobot-image", "image")
    lerobot(folder / "lerobot-video", "video")
    minari(folder / "minari", "pictures-v0", "hdf5", pictures=True)
    minari(folder / "minari", "jpeg-v0", "hdf5", pictures=True, jpeg=True)
    for data_format in ("hdf5", "arrow", "parquet"):
        minari(folder / "minari", f"state-{data_format}-v0", data_format, pictures=False)
    minari(folder / "minari", "pictures-parquet-v0", "parquet", pictures=True)
    robomimic(folder / "robomimic.hdf5")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
