"""Writes `tests/data/formats/` with the official libraries: `make samples`, in the environment of `make test-formats`.

The files are committed, so that the tests of every day read what the libraries wrote without having them.
"""

import copy
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


SPATIAL = (
    "between the plate and the ramekin",
    "next to the ramekin",
    "from table center",
    "on the cookie box",
    "in the top drawer of the wooden cabinet",
    "on the ramekin",
    "next to the cookie box",
    "on the stove",
    "next to the plate",
    "on the wooden cabinet",
)
"""Where the bowl is in each task of LIBERO-Spatial."""
STEPS = 4


def recorded_group(data: Any, number: int, observations: dict[str, Any]) -> None:
    """An episode in the form of robomimic: what its and LIBERO's scripts write, without the states of MuJoCo."""
    generator = np.random.default_rng(number)
    group = data.create_group(f"demo_{number}")
    group.create_dataset("actions", data=generator.uniform(-1, 1, (STEPS, 7)))
    group.create_dataset("rewards", data=np.array([0] * (STEPS - 1) + [1], np.uint8))
    group.create_dataset("dones", data=np.array([0] * (STEPS - 1) + [1], np.uint8))
    for name, shape in observations.items():
        entry = (
            np.broadcast_to(generator.integers(0, 256, (STEPS, *[1] * len(shape)), np.uint8), (STEPS, *shape))
            if len(shape) == 3
            else generator.normal(size=(STEPS, *shape))
        )
        group.create_dataset(f"obs/{name}", data=entry, compression="gzip" if len(shape) == 3 else None)
    group.attrs["num_samples"] = STEPS
    data.attrs["total"] = STEPS * (number + 1)


def libero(folder: Path) -> None:
    """LIBERO has no writer but its script: what its `create_dataset.py` writes, with pictures of one grey each."""
    import h5py

    folder.mkdir(parents=True)
    pictures = {"agentview_rgb": (128, 128, 3), "eye_in_hand_rgb": (128, 128, 3)}
    vectors = {"ee_ori": 3, "ee_pos": 3, "ee_states": 6, "gripper_states": 2, "joint_states": 7}
    for place in SPATIAL:
        words = f"pick up the black bowl {place} and place it on the plate"
        with h5py.File(folder / f"{words.replace(' ', '_')}_demo.hdf5", "w") as out:
            data = out.create_group("data")
            for number in range(3):
                recorded_group(data, number, pictures | {name: (size,) for name, size in vectors.items()})
            data.attrs["num_demos"] = 3
            data.attrs["env_name"] = "Libero_Tabletop_Manipulation"
            data.attrs["env_args"] = json.dumps({"type": 1, "env_name": "Libero_Tabletop_Manipulation"})
            data.attrs["problem_info"] = json.dumps(
                {
                    "problem_name": "libero_tabletop_manipulation",
                    "domain_name": "robosuite",
                    "language_instruction": f"Pick the akita black bowl {place} and place it on the plate",
                }
            )


def robomimic_tasks(folder: Path) -> None:
    """robomimic's files with pictures, of three tasks."""
    import h5py

    folder.mkdir(parents=True)
    pictures = {"agentview_image": (84, 84, 3), "robot0_eye_in_hand_image": (84, 84, 3)}
    vectors = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "robot0_joint_pos": 7}
    for task in ("Lift", "PickPlaceCan", "NutAssemblySquare"):
        with h5py.File(folder / f"{task}.hdf5", "w") as out:
            data = out.create_group("data")
            for number in range(3):
                recorded_group(data, number, pictures | {name: (size,) for name, size in vectors.items()})
            data.attrs["env_args"] = json.dumps({"env_name": task, "type": 1, "env_kwargs": {}})


def kitchen(folder: Path) -> None:
    """FrankaKitchen as Minari records it; the thing of each task is put where it should be, by nobody."""
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    import gymnasium
    import gymnasium_robotics  # noqa: F401
    import minari
    from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS, OBS_ELEMENT_INDICES
    from minari.data_collector.episode_buffer import EpisodeBuffer

    tasks = ["microwave", "kettle", "light switch", "slide cabinet"]
    env = gymnasium.make("FrankaKitchen-v1", tasks_to_complete=tasks, terminate_on_tasks_completed=False)
    inner: Any = env.unwrapped
    buffers = []
    for number in range(2):
        env.action_space.seed(number)
        seen, actions, rewards = [copy.deepcopy(env.reset(seed=number)[0])], [], []
        for step in range(len(tasks) * 3):
            if step % 3 == 2:
                done = tasks[step // 3]
                inner.robot_env.data.qpos[OBS_ELEMENT_INDICES[done]] = OBS_ELEMENT_GOALS[done]
            actions.append(env.action_space.sample())
            after, reward, *_ = env.step(actions[-1])
            seen.append(copy.deepcopy(after))
            rewards.append(float(reward))
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=number,
                observations=_stacked(seen),
                actions=actions,
                rewards=rewards,
                terminations=[False] * len(actions),
                truncations=[step == len(actions) - 1 for step in range(len(actions))],
                infos={},
            )
        )
    minari.create_dataset_from_buffers(dataset_id="kitchen/complete-v2", buffer=buffers, env=env, data_format="hdf5")


def _stacked(rows: list[Any]) -> Any:
    """Observations of a nested dictionary, one a step, as a dictionary of lists."""
    if isinstance(rows[0], dict):
        return {name: _stacked([row[name] for row in rows]) for name in rows[0]}
    return rows


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
    robomimic_tasks(folder / "robomimic-tasks")
    libero(folder / "libero")
    kitchen(folder / "minari")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
