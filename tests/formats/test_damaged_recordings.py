"""Damaged and foreign files are refused by name with what to do; the store stays as it was, and no code of "
"theirs runs."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from amf_process import tree
from damage import DAMAGED, LEROBOT, MINARI, PARQUET, ROBOMIMIC, archive, pictures, table
from recordings import SAMPLES, imported, store_of

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.command_line import add
from amf_lightning.demonstrations.importing.reading import Reading, read_keys, read_tasks
from amf_lightning.demonstrations.importing.source import episodes
from amf_lightning.errors import InputError
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.suites.static import StaticSuite
from amf_lightning.tasks.trajectory import Trajectory

ADVICE = re.compile(
    "Record|[Cc]onvert|Give|Name|Say|Correct|Export|Choose|Split|Move|Rename|Write|Save|Copy|record it again"
)
"""What somebody is told to do."""


def still(size: int) -> Trajectory:
    """An episode of three steps with a state of so many numbers."""
    return Trajectory({"state": np.zeros((3, size), np.float32)}, np.zeros((3, 2), np.float32), None, "reach")


def test_there_are_a_hundred_of_them() -> None:
    assert len(DAMAGED) >= 100


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_source_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, phrase = DAMAGED[name]
    (tmp_path / "given").mkdir()
    monkeypatch.chdir(tmp_path)
    source = make(tmp_path / "given")
    before = tree(tmp_path / "given")
    with pytest.raises(InputError) as refused:
        imported(source, tmp_path / "store")
    said = str(refused.value)
    assert phrase in said and str(tmp_path / "given") in said, said
    assert ADVICE.search(said) and "\n" not in said and len(said) < 700, said
    assert tree(tmp_path / "given") == before
    assert not (tmp_path / "store").exists() and not (tmp_path / "code-was-run").exists()


OTHERWISE = {
    "a folder of HDF5 files, one of them damaged": "has no task 'Lift'",
    "nothing": "There is no file",
    "robomimic: another camera in one episode": "its observations consist of 'side_image'",
    "robomimic: another picture in one episode": "its observations 'front_image' are [16, 16, 3]",
    "npz: no task": "Say it with --task",
    "pictures: no task": "Say it with --task",
}
"""Phrases of `amf add`, where they differ from those of `amf import`."""
ONE_BY_ONE = "npz: one of two is another kind"
"""Given to `amf add`, a folder of files is one file after another."""


def kind_of(source: Path) -> str:
    """What a source would hold if it were not damaged."""
    if (source / "one" / "front").exists():
        return "pictures"
    return {"recordings": "table", "data": "pictures-v0"}.get(source.name, source.name.partition(".")[0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with open requests, in which recordings fit that are like the sound ones; by `kind_of`."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    sound = [make(folder) for make in (LEROBOT, MINARI, PARQUET, ROBOMIMIC, archive, table)]
    (folder / "more").mkdir()
    for source in [*sound, pictures(folder / "more", (4, 4), (4, 4))]:
        shown = list(episodes(source))
        suite = StaticSuite(
            "lab",
            shown[0].specs,
            shown[0].actions.shape[1],
            list(dict.fromkeys(each.task for each in shown)),
            max(each.length for each in shown),
        )
        run = made[kind_of(source)] = folder / f"run-{kind_of(source)}"
        Campaign(run, suite, RoundRobin()).ask(2)
        kept = Path(shutil.copytree(run, folder / f"kept-{kind_of(source)}"))
        add.main([str(kept), str(source)])  # so that what is refused is refused for its damage
        assert len(Campaign(kept).arrived()) == len(shown)
    return made


@pytest.mark.parametrize("group", dict.fromkeys(name.partition(":")[0] for name in DAMAGED))
def test_amf_add_refuses_all_of_them_and_leaves_the_run_as_it_was(
    group: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(each for each in DAMAGED if each.partition(":")[0] == group and each != ONE_BY_ONE):
        make, phrase = DAMAGED[name]
        (given := tmp_path / str(number)).mkdir()
        source = make(given)
        run = runs.get(kind_of(source), runs["episode"])
        before = tree(run)
        with pytest.raises(InputError) as refused:
            add.main([str(run), str(source)])
        said = str(refused.value)
        assert OTHERWISE.get(name, phrase) in said and str(given) in said, f"{name}: {said}"
        assert ADVICE.search(said) and "\n" not in said and len(said) < 700, f"{name}: {said}"
        assert tree(run) == before and not (tmp_path / "code-was-run").exists(), name


@pytest.mark.parametrize(
    "name", ["lerobot: NaN in a state", "npz: a pickle", "robomimic: another camera in one episode"]
)
def test_a_store_with_demonstrations_stays_as_it_was(name: str, tmp_path: Path) -> None:
    state = still(3)
    store_of(tmp_path / "store", [state])
    before = tree(tmp_path / "store")
    (tmp_path / "given").mkdir()
    with pytest.raises(InputError):
        imported(DAMAGED[name][0](tmp_path / "given"), tmp_path / "store")
    assert tree(tmp_path / "store") == before


def test_demonstrations_of_another_kind_are_not_mixed(tmp_path: Path) -> None:
    other = still(9)
    store_of(tmp_path / "store", [other])
    state = still(3)
    store_of(tmp_path / "given", [state])
    with pytest.raises(InputError, match=r"'state' \[3\] float32 .* the store .* \[9\]"):
        imported(tmp_path / "given", tmp_path / "store")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("observation: [state]", "which of theirs it is"),
        ("observation: {}", "which of theirs it is"),
        ("obs: {state: state}", "there is no key 'obs'"),
        ("action_low: [-1]", "give both"),
        ("action_low: [.nan]\naction_high: [1]", "must be numbers"),
        ("fps: fast", "must be numbers"),
        ("action: 3", "name of an entry"),
        ("- state", "must hold a mapping"),
        ("{", "cannot be read as YAML"),
        ("a: &a [*a]", "cannot be read as YAML"),
        ("observation: !!python/object/apply:os.system ['touch code-was-run']", "cannot be read as YAML"),
    ],
)
def test_a_map_of_keys_that_says_something_else_is_refused(text: str, phrase: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=phrase):
        read_keys(path)


@pytest.mark.parametrize("text", ["3: reach", "reach: [a]", "reach: ''", "- reach"])
def test_a_map_of_tasks_that_says_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tasks.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_tasks(path)


@pytest.mark.parametrize(
    ("reading", "phrase"),
    [
        (Reading(fps=30.0), "not 30 as --keys says"),
        (Reading(observation={"state": "observation.stat"}), "has no entry 'observation.stat'"),
        (Reading(observation={"../state": "observation.state"}), "no name for an entry"),
        (Reading(action="actions"), "has no 'actions'"),
        (Reading(reward="reward"), "has no 'reward'"),
        (Reading(action_low=(-1.0,), action_high=(1.0,)), "an action has shape"),
        (Reading(action_low=(1.0, 1.0), action_high=(1.0, 2.0)), "each low must be below its high"),
    ],
)
def test_a_map_that_does_not_fit_the_source_is_refused(reading: Reading, phrase: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(phrase)):
        imported(SAMPLES / "lerobot-image", tmp_path / "store", reading)
    assert not (tmp_path / "store").exists()
