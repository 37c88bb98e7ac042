"""Recordings of several tasks are cut at their sub-goals, entries are joined, and LIBERO's files say their task."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from recordings import SAMPLES, awkward, exported, imported, store_of

from amf_lightning.demonstrations.facts import Facts
from amf_lightning.demonstrations.importing.parts import parts
from amf_lightning.demonstrations.importing.reading import Reading, Subgoals, read_keys
from amf_lightning.demonstrations.importing.recorded import Recorded, trajectory
from amf_lightning.demonstrations.importing.source import episodes
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder

KEYS = shipped_folder("configs") / "import"
ASKED = Subgoals("achieved_goal", "desired_goal", 0.5)
KITCHEN = SAMPLES / "minari" / "kitchen" / "complete-v2"


def recorded(reached: dict[str, int], actions: int = 6) -> Recorded:
    """An episode in which each sub-goal jumps to where it should be at a row and stays there."""
    rows = np.arange(actions + 1)
    return Recorded(
        observations={"state": rows[:, None].astype(np.float32)},
        actions=np.linspace(-1, 1, actions)[:, None],
        rewards=rows[:-1] + 10.0,
        task="whatever the dataset is called",
        seed=7,
        subgoals={
            name: (np.where(rows >= row, 1.0, 3.0)[:, None] * [1, 1], np.ones((actions + 1, 2)))
            for name, row in reached.items()
        },
    )


def test_a_part_ends_with_the_observation_in_which_its_sub_goal_is_reached() -> None:
    cut = [part for _, part in parts("file", recorded({"light": 5, "door": 2}), ASKED)]
    assert [part.task for part in cut] == ["door", "light"]
    assert [part.observations["state"].ravel().tolist() for part in cut] == [[0, 1, 2], [2, 3, 4, 5]]
    assert [part.rewards.tolist() for part in cut if part.rewards is not None] == [[10, 11], [12, 13, 14]]
    np.testing.assert_array_equal(np.concatenate([part.actions for part in cut]), recorded({}).actions[:5])
    assert [part.seed for part in cut] == [7, None] and all(part.success for part in cut)


def test_what_is_reached_at_the_start_never_or_at_once_with_another_ends_no_part() -> None:
    episode = recorded({"open already": 0, "b": 3, "a": 3, "never": 99})
    assert [(part.task, len(part.actions)) for _, part in parts("file", episode, ASKED)] == [("a", 3)]
    assert list(parts("file", recorded({"never": 99}), ASKED)) == []


def test_nearness_is_euclidean_over_all_numbers_of_a_sub_goal() -> None:
    rows = np.array([[1.0, 1.0], [0.4, 0.4], [0.3, 0.3]])
    episode = replace(recorded({}, actions=2), subgoals={"cup": (rows, np.zeros((3, 2)))})
    [(_, part)] = parts("file", episode, ASKED)  # 0.57 is not near, 0.42 is
    assert len(part.actions) == 2


def test_without_sub_goals_a_recording_stays_whole() -> None:
    episode = recorded({"door": 2})
    assert list(parts("file", episode, None)) == [("file", episode)]


def test_sub_goals_without_a_row_for_each_observation_are_refused() -> None:
    episode = replace(recorded({}), subgoals={"door": (np.ones((6, 1)), np.ones((6, 1)))})
    with pytest.raises(InputError, match=r"'door' has shape.*6 actions"):
        list(parts("file", episode, ASKED))


def test_the_kitchen_that_minari_recorded_becomes_a_demonstration_of_each_task() -> None:
    cut = list(episodes(KITCHEN, Reading(**read_keys(KEYS / "kitchen.yaml"))))
    tasks = ["microwave", "kettle", "light switch", "slide cabinet"]
    assert [part.task for part in cut] == tasks * 2
    assert [len(part.actions) for part in cut] == [3] * 8  # `make_samples.py` puts each thing there in the third step
    assert {str(part.specs["state"]) for part in cut} == {str(cut[0].specs["state"])}
    assert cut[0].observations["state"].shape == (4, 59) and cut[0].observations["state"].dtype == np.float32
    np.testing.assert_array_equal(cut[0].observations["state"][-1], cut[1].observations["state"][0])
    assert [part.seed for part in cut] == [0, None, None, None, 1, None, None, None]


def test_sub_goals_that_are_not_there_are_named(tmp_path: Path) -> None:
    wrong = Reading(observation={"state": "observation"}, subgoals=replace(ASKED, achieved="goal"))
    with pytest.raises(InputError, match=r"'goal' and 'desired_goal' must have the same sub-goals"):
        list(episodes(KITCHEN, wrong))
    always = Reading(observation={"state": "observation"}, subgoals=Subgoals("achieved_goal", "desired_goal", 1e9))
    with pytest.raises(InputError, match="no recording reaches a sub-goal after its start"):
        list(episodes(KITCHEN, always))
    with pytest.raises(InputError, match="cuts recordings of Minari alone"):
        list(episodes(SAMPLES / "robomimic.hdf5", Reading(subgoals=ASKED)))


def test_the_files_of_libero_say_their_task_in_words_and_are_one_store(tmp_path: Path) -> None:
    reading = Reading(**read_keys(KEYS / "libero.yaml"))
    assert imported(SAMPLES / "libero", tmp_path / "store", reading).written == 30
    store = DemonstrationStore(tmp_path / "store")
    first = store.read(0)
    assert first.task == "pick up the black bowl between the plate and the ramekin and place it on the plate"
    assert {name: (spec.shape, spec.dtype) for name, spec in first.specs.items()} == {
        "image/agentview": ((128, 128, 3), "uint8"),
        "image/wrist": ((128, 128, 3), "uint8"),
        "state": ((8,), "float32"),
    }
    assert len({store.read(number).task for number in range(30)}) == 10


def test_an_export_of_ours_is_cut_like_any_other() -> None:
    """What our exporter noted is of the whole recording, and not of its parts."""
    facts = Facts("whole", 7, False, 1.0, {"error": 1.0}, True, {}, {})
    [(where, part)] = parts("file", replace(recorded({"door": 2}), facts=facts), ASKED)
    made = trajectory(where, part, Reading())
    assert made is not None and (made.task, made.seed, made.success, dict(made.metrics)) == ("door", 7, True, {})


@pytest.mark.parametrize("dtype", ["<f8", "|u1", "<i4"])
def test_sub_goals_of_any_type_of_number_are_cut_alike(dtype: str) -> None:
    reached = np.array([0, 3, 8, 9, 10, 12, 12]).astype(dtype)[:, None]
    episode = replace(recorded({}), subgoals={"door": (reached, np.full((7, 1), 10, dtype))})
    [(_, part)] = parts("file", episode, replace(ASKED, within=2.5))
    assert len(part.actions) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": {"state": np.zeros((14, 1), np.float32)}}, "'state' has 14 rows beside 6 actions"),
        ({"rewards": np.zeros(12)}, "'rewards' has 12 rows beside 6 actions"),
        ({"subgoals": {"door": (np.full((7, 1), np.nan), np.ones((7, 1)))}}, "'door' has numbers that are not finite"),
    ],
)
def test_a_recording_that_cannot_be_cut_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(parts("file", replace(recorded({"door": 2}), **changes), ASKED))


def libero_file(path: Path, instruction: object) -> Path:
    shutil.copy(sorted((SAMPLES / "libero").glob("*.hdf5"))[0], path)
    with h5py.File(path, "a") as file:
        file["data"].attrs["problem_info"] = json.dumps({"language_instruction": instruction})
    return path


@pytest.mark.parametrize(
    ("name", "instruction", "task"),
    [
        ("KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", "Switch it on", "turn on the stove"),
        ("renamed.hdf5", '"Switch it on"', "Switch it on"),
        ("renamed.hdf5", ["no", "sentence"], "Libero_Tabletop_Manipulation"),
    ],
)
def test_what_a_file_of_libero_is_called(name: str, instruction: object, task: str, tmp_path: Path) -> None:
    reading = Reading(**read_keys(KEYS / "libero.yaml"))
    assert {each.task for each in episodes(libero_file(tmp_path / name, instruction), reading)} == {task}


def test_a_name_that_cannot_be_shown_is_refused(tmp_path: Path) -> None:
    reading = Reading(**read_keys(KEYS / "libero.yaml"))
    for words in ("up\x1b[2Jdown", "up\ndown", "\ud800"):
        with pytest.raises(InputError, match="cannot be shown as it is"):
            list(episodes(libero_file(tmp_path / "renamed.hdf5", words), reading))


def test_a_path_without_files_makes_no_store(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match=r"is no HDF5 file and holds none"):
            list(episodes(place, format="robomimic"))


@pytest.mark.parametrize(("format", "prefix"), [("npz", "observation/"), ("lerobot", "observation.")])
def test_joined_entries_stand_in_the_order_of_the_list(tmp_path: Path, format: str, prefix: str) -> None:
    source = exported(store_of(tmp_path / "ours", awkward(after_last=True, count=2)), tmp_path / "there", format)
    [whole, *_] = episodes(source)
    named = {"state": [prefix + name for name in ("joints", "depth", "flag")], "clock": prefix + "ticks"}
    [joined, *_] = episodes(source, Reading(observation=named))
    rows = len(whole.observations["joints"])
    assert rows == whole.length + 1
    expected = [whole.observations[name].reshape(rows, -1) for name in ("joints", "depth", "flag")]
    np.testing.assert_array_equal(joined.observations["state"], np.concatenate(expected, axis=1).astype(np.float32))
    np.testing.assert_array_equal(joined.observations["clock"], whole.observations["ticks"])
    assert sorted(joined.observations) == ["clock", "state"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("observation: {state: [joints, joints]}", "names 'joints' twice"),
        ("observation: {state: joints, more: joints}", "names 'joints' twice"),
        ("observation: {state: []}", "must say for each of our entries"),
        ("observation: {state: [joints, 3]}", "must say for each of our entries"),
        ("observation: {state: [observation/joints, elbow]}", "no entry 'elbow'"),
        ("subgoals: {achieved: a, desired: b}", "two groups of arrays and a distance"),
        ("subgoals: {achieved: a, desired: 3, within: 1}", "two groups of arrays and a distance"),
        ("subgoals: {achieved: a, desired: b, within: near}", "two groups of arrays and a distance"),
        ("subgoals: {achieved: a, desired: b, within: 0}", "a distance above 0"),
        (f"subgoals: {{achieved: a, desired: b, within: {'9' * 400}}}", "a distance above 0"),
        ("subgoals: {achieved: a, desired: a, within: 1}", "two groups of arrays"),
        ("observation: {3: [observation/joints]}", "must say for each of our entries"),
        ("observation: {image/..: [observation/joints, observation/flag]}", "is no name for an entry"),
    ],
)
def test_keys_that_make_no_sense_are_refused(tmp_path: Path, content: str, message: str) -> None:
    source = exported(store_of(tmp_path / "ours", awkward(after_last=True, count=1)), tmp_path / "there", "npz")
    (tmp_path / "keys.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        list(episodes(source, Reading(**read_keys(tmp_path / "keys.yaml"))))
