"""Every shipped configuration, found by a glob: each run small in MuJoCo, each part used, each comparison planned."""

import csv
import json
import math
import shlex
import warnings
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from amf_process import amf, printed, tree
from babyai_marks import BABYAI
from jsonargparse import ArgumentParser
from metaworld_marks import FETCH, METAWORLD, PICTURED
from PIL import Image, ImageSequence

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.configuration import read_configuration
from amf_lightning.demonstrations.importing.into_store import import_demonstrations
from amf_lightning.demonstrations.importing.reading import Reading, read_keys
from amf_lightning.policies.weights import load_policy
from amf_lightning.shipped import shipped_folder
from amf_lightning.simulation.render import RenderingUnavailable, render_frames
from amf_lightning.studies.specification import Specification, read_specification
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.task import Episode, TaskSuite

CONFIGS = shipped_folder("configs")
SAMPLES = Path(__file__).resolve().parent / "data" / "formats"
PARTS = {
    "suite": "suite",
    "expert": "expert",
    "selection": "selector",
    "retention": "retention",
    "policy": "model.policy",
}
"""Folders of parts, and the key that each is put under."""


def shipped(*patterns: str) -> list[str]:
    return sorted(path.relative_to(CONFIGS).as_posix() for pattern in patterns for path in CONFIGS.glob(pattern))


BASE = "base.yaml"
"""What all runs share; not a run."""
FIRST_RUNS = [name for name in shipped("*.yaml") if name != BASE]
"""What a newcomer sees at the top: one run of each suite, and of each view of it."""
STUDY_BASES = shipped("compare/bases/*.yaml")
RUNS = [*FIRST_RUNS, *STUDY_BASES]
PRETRAINING = shipped("pretrain/*.yaml")
ANIMATED = "halfcheetah.yaml"
"""The one run of which the animation is drawn: a slow test, as MuJoCo draws for seconds where there is no GPU."""
COMPARISONS = shipped("compare/*.yaml")
DOWNLOADED = {
    "libero.yaml": "libero",
    "robomimic.yaml": "robomimic-tasks",
    "kitchen.yaml": "minari/kitchen/complete-v2",
}
"""Runs on recordings that have to be downloaded, and where small files of the same form lie."""
IMPORTS = shipped("import/*.yaml")
PART_FILES = shipped(*(f"{folder}/*.yaml" for folder in PARTS))


def marked(names: list[str]) -> list[Any]:
    """Parameters of a test; what needs an extra is left to who has it."""
    extras = {
        "metaworld-pixels": PICTURED,
        "metaworld": METAWORLD,
        "fetch": FETCH,
        "kitchen": FETCH,
        "babyai": BABYAI,
    }
    return [
        pytest.param(name, marks=next((marks for word, marks in extras.items() if word in name), [])) for name in names
    ]


LENGTHY = {"HalfCheetahVelocity": "halfcheetah", "HumanoidVelocity": "humanoid", "BabyAI": "babyai"}
"""Worlds whose steps take time, and the folder of the returns that they are scored by."""
SHORT_HORIZON = 20
"""Steps in which not all experts succeed: that they do within 200 is tested in `suites`."""
SELECTION_KEYS = ["demonstration", "round", "task", "task_index", "selector", "scores", "seed"]
SMALL = ("--data.steps_per_round=5", "--data.evaluation_episodes=1", "--trainer.enable_progress_bar=false")


def test_nothing_that_is_shipped_is_left_untested() -> None:
    assert {BASE, *RUNS, *PRETRAINING, *COMPARISONS, *PART_FILES, *IMPORTS} == set(shipped("**/*.yaml"))
    assert all([FIRST_RUNS, STUDY_BASES, PRETRAINING, COMPARISONS, PART_FILES])
    assert {Path(name).name for name in IMPORTS} == set(DOWNLOADED)


def test_at_the_top_there_is_one_run_of_each_suite_and_view_of_it() -> None:
    suites = [read_configuration(CONFIGS / name)["suite"] for name in FIRST_RUNS]
    options = [suite.get("init_args", {}) for suite in suites]
    views = [
        (suite["class_path"], given.get("name"), given.get("view"), bool(given.get("cameras")))
        for suite, given in zip(suites, options, strict=True)
    ]
    assert len(set(views)) == len(views)


@pytest.mark.parametrize("name", [*RUNS, *PRETRAINING])
def test_a_run_is_read_from_at_most_three_files_that_build_on_each_other(name: str) -> None:
    assert len(chain(CONFIGS / name)) <= 3


def chain(path: Path) -> list[Path]:
    """The longest way from a file over the files that its `config:` names."""
    bases = yaml.safe_load(path.read_text()).get("config", [])
    before = [chain(path.parent / base) for base in ([bases] if isinstance(bases, str) else bases)]
    return [path, *max(before, key=len, default=[])]


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", marked([*RUNS, *PRETRAINING]))
def test_a_small_run_leaves_every_file_that_is_promised(tmp_path: Path, name: str) -> None:
    rounds = 1 if name in PRETRAINING else 2
    options = [*short_episodes(name, tmp_path), *recordings_for(name, tmp_path)]
    folder = small_run(name, tmp_path, *options, "--reports.animation=false")
    config = yaml.safe_load(folder.config.read_text())
    suite = suite_of(config)
    budget, tasks = config["active"]["budget"], [task.name for task in suite.tasks]

    jobs = [json.loads(line) for line in folder.selections.read_text().splitlines()]
    assert [list(job)[: len(SELECTION_KEYS)] for job in jobs] == [SELECTION_KEYS] * budget
    assert [job["demonstration"] for job in jobs] == list(range(budget))
    assert {job["round"] for job in jobs} == set(range(rounds))
    assert all(tasks[job["task_index"]] == job["task"] and len(job["scores"]) == len(tasks) for job in jobs)
    assert len({job["seed"] for job in jobs}) == budget

    with folder.curve.open(newline="") as file:
        header, *rows = csv.reader(file)
    tried = suite.simulator is not None  # of what is held out there are no episodes and no successes
    assert header == ["demonstrations", "task", "return", "success", "score", *(["episodes"] if tried else [])]
    counts = [0, budget] if rounds == 1 else [0, 1, 2]
    assert [(int(row[0]), row[1]) for row in rows] == [(n, task) for n in counts for task in [*tasks, MEAN]]
    assert all(0 <= float(number) <= 1 for row in rows for number in (row[3:5] if tried else []))
    assert all(float(row[4]) <= 1 for row in rows)

    evaluation = json.loads(folder.evaluation.read_text())
    last = {row[1]: [number_of(text) for text in row[2:5]] for row in rows if int(row[0]) == budget}
    numbers = {task: [of[name] for name in ("return", "success", "score")] for task, of in evaluation["tasks"].items()}
    assert numbers | {MEAN: [evaluation["mean"][name] for name in ("return", "success", "score")]} == last
    assert evaluation["demonstrations"] == budget

    assert_pictures_are_whole(folder, drawn=name in FIRST_RUNS)
    policy = load_policy(str(folder.policy))
    policy.check_suite(suite.signature())
    policy.make()
    before = load_policy(pretrained) if (pretrained := config["model"]["pretrained"]) else None
    known = sum(before.pretraining_counts.values()) if before else 0
    assert sum(policy.pretraining_counts.values()) == known + budget
    assert folder.checkpoint.is_file() and folder.ledger.is_file()
    assert len(list(folder.demonstrations.glob("*.safetensors"))) == budget


def number_of(text: str) -> float | None:
    """What a table has for a number; None where there is none."""
    return None if math.isnan(number := float(text)) else number


@pytest.mark.slow
def test_the_animation_of_a_run_in_mujoco_differs_where_it_should(tmp_path: Path) -> None:
    assert_animation_differs_where_it_should(small_run(ANIMATED, tmp_path))


def small_run(name: str, cwd: Path, *options: str) -> RunFolder:
    """Runs a shipped configuration for two demonstrations and a few steps, or, a pre-training, for a few steps."""
    least = [] if name in PRETRAINING else ["--active.budget=2", "--active.batch_size=1"]
    arguments = [f"--config=configs/{name}", "--trainer.default_root_dir=run", *SMALL, *least, *options]
    outcome = amf("fit", *arguments, cwd=cwd, drawn=name in FIRST_RUNS)
    assert outcome.code == 0, outcome.said
    return RunFolder(cwd / "run")


def suite_of(config: Mapping[str, Any]) -> TaskSuite:
    """The suite of a resolved configuration."""
    parser = ArgumentParser()
    parser.add_subclass_arguments(TaskSuite, "suite")
    suite: TaskSuite = parser.instantiate(parser.parse_object({"suite": config["suite"]})).suite
    return suite


def short_episodes(name: str, folder: Path) -> list[str]:
    """Options that shorten the episodes of worlds most of whose steps show nothing more.

    The returns that scores are normalised by are taken for those of the shorter episodes.
    """
    suite = read_configuration(CONFIGS / name)["suite"]["class_path"]
    if suite not in LENGTHY:
        return []
    reference = json.loads((shipped_folder("checkpoints") / LENGTHY[suite] / "reference.json").read_text())
    path = folder / "reference.json"
    path.write_text(json.dumps(reference | {"horizon": SHORT_HORIZON}))
    suite_options = [f"--suite.init_args.horizon={SHORT_HORIZON}", f"--suite.init_args.reference={path}"]
    return [*suite_options, "--expert.init_args.successes_only=false"]


def recordings_for(name: str, folder: Path) -> list[str]:
    """Options that put small recordings, imported by the shipped keys, in the place of those to be downloaded."""
    if name not in DOWNLOADED:
        return []
    reading = Reading(**read_keys(CONFIGS / "import" / name))
    import_demonstrations(SAMPLES / DOWNLOADED[name], folder / "recordings", reading)
    held_out = [] if name == "kitchen.yaml" else ["--expert.init_args.held_out=1"]
    return [f"--expert.init_args.folder={folder / 'recordings'}", *held_out]


def assert_pictures_are_whole(folder: RunFolder, drawn: bool) -> None:
    report = folder.report.read_text()
    for picture in (folder.curve_picture, folder.allocation_picture):
        image = Image.open(picture).convert("RGB")
        assert not drawn or (min(image.size) > 100 and image.getextrema() != ((255, 255),) * 3)
        assert f"({picture.name})" in report


def assert_animation_differs_where_it_should(folder: RunFolder) -> None:
    """`before` is on the left of `after`: both begin alike, move, and end differently."""
    if (reason := why_nothing_renders()) is not None:
        assert not folder.animation.exists()
        pytest.skip(f"all but policy.gif was checked, because nothing can be rendered here: {reason}")
    frames = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(Image.open(folder.animation))]
    assert len(frames) > 10
    first, last = frames[0], frames[-1]
    assert differing(first, last) > 0.02
    labels = 20  # rows of text above each picture; the first task's picture is below the first of them
    left, right = (frame[labels:130, side] for frame in (first,) for side in halves(first))
    assert differing(left, right) < 0.02
    left, right = (last[labels:130, side] for side in halves(last))
    assert differing(left, right) > 0.02
    assert f"({folder.animation.name})" in folder.report.read_text()


def halves(frame: np.ndarray[Any, Any]) -> tuple[slice, slice]:
    width = frame.shape[1] // 2
    return slice(0, width), slice(width, 2 * width)


def differing(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Share of pixels that are clearly not the same; a GIF has few colours."""
    return float((np.abs(first - second).max(axis=2) > 40).mean())


def why_nothing_renders() -> str | None:
    suite = HalfCheetahVelocity(horizon=2, reference=None)

    class Still:
        def act(self, observations: Any, contexts: Any) -> Any:
            return observations.new_zeros(len(observations), suite.action_dim)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            render_frames(Still(), suite, Episode(suite.tasks[0], 0), every=1, size=16)
        except RenderingUnavailable as reason:
            return str(reason)
    return None


@pytest.mark.parametrize("name", marked(PART_FILES))
def test_a_part_can_be_put_into_a_run(tmp_path: Path, name: str) -> None:
    """Everything is made, and then the checkpoint is missing; so the parts are known to fit without a run."""
    part = read_configuration(CONFIGS / name)
    key = PARTS[name.partition("/")[0]]
    content: dict[str, Any] = {"config": str(CONFIGS / "halfcheetah.yaml")}
    if key == "model.policy":
        content["model"] = {"policy": str(CONFIGS / name), "pretrained": None}  # weights are of one policy
        content["retention"] = {"class_path": "NoRetention"}
    else:
        content[key] = str(CONFIGS / name)
    if key == "suite":
        content["model"] = {"pretrained": None}  # weights are of one suite
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    printed = amf("fit", "--config=run.yaml", "--print_config", cwd=tmp_path)
    assert printed.code == 0, printed.said
    resolved = yaml.safe_load(printed.stdout)
    for word in key.split("."):
        resolved = resolved[word]
    assert resolved["class_path"].rpartition(".")[2] == part["class_path"]
    assert set(leaves(part.get("init_args", {}))) <= set(leaves(resolved.get("init_args", {})))
    made = amf("fit", "--config=run.yaml", "--ckpt_path=none.ckpt", cwd=tmp_path)
    assert made.code == 2 and "There is no checkpoint none.ckpt" in made.stderr, made.said


# -- comparisons -----------------------------------------------------------------------------------------------------


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def values(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted key."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        found |= values(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def planned(name: str, cwd: Path) -> tuple[Specification, list[list[str]]]:
    """A comparison, and the arguments of the commands that `amf compare --dry-run` lists for seeds 0 and 1."""
    arguments = (f"--config=configs/compare/{Path(name).name}", "--seeds=0:2", "--output=out", "--dry-run")
    outcome = amf("compare", *arguments, cwd=cwd)
    assert outcome.code == 0, outcome.said
    assert tree(cwd) == {}, "a dry run writes nothing"
    commands = [shlex.split(line) for line in outcome.stdout.splitlines()]
    assert all(command[0] == "OMP_NUM_THREADS=1" for command in commands)
    assert all(command[2:5] == ["-m", "amf_lightning", "fit"] for command in commands)
    return read_specification(CONFIGS / name), [command[5:] for command in commands]


def under(key: str, names: set[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_lists_a_run_for_each_strategy_and_seed(tmp_path: Path, name: str) -> None:
    comparison, commands = planned(name, tmp_path)
    folders = [option for command in commands for option in command if option.startswith("--trainer.default_root_dir=")]
    places = [*(["pretrained"] if comparison.pretrain else []), *(f"runs/{label}" for label in comparison.labels)]
    expected = [f"out/{place}/seed-{seed}" for seed in (0, 1) for place in places]
    assert [folder.partition("=")[2] for folder in folders] == expected
    for command, folder in zip(commands, folders, strict=True):
        assert f"--seed_everything={folder[-1]}" in command and "--reports.animation=false" in command
        if comparison.pretrain and "/runs/" in folder:
            assert f"--model.pretrained=out/pretrained/seed-{folder[-1]}/policy.safetensors" in command


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one of a kind", "every"])
@pytest.mark.parametrize("name", COMPARISONS)
def test_strategies_differ_in_nothing_but_what_the_comparison_names(tmp_path: Path, name: str, every: bool) -> None:
    """Sweeps have dozens of strategies that differ in a number: one of each set of parts is quick to resolve."""
    comparison, commands = planned(name, tmp_path)
    named = {key for settings in comparison.strategies.values() for key in settings}
    if Path(name).stem.startswith("halfcheetah"):
        assert named == {"selector"}
    kinds = {str(parts_of(settings)): label for label, settings in comparison.strategies.items()}
    labels = list(comparison.strategies if every else kinds.values())
    resolving = []
    for label in labels:
        (command,) = [words for words in commands if f"--trainer.default_root_dir=out/runs/{label}/seed-0" in words]
        resolving.append(["fit", *command, "--print_config"])
    texts = printed(resolving, tmp_path)
    resolved = {label: values(yaml.safe_load(text)) for label, text in zip(labels, texts, strict=True)}
    for first, second in combinations(resolved, 2):
        a, b = resolved[first], resolved[second]
        differing = {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}
        others = {key for key in differing if not under(key, named)}
        assert others == {"trainer.default_root_dir"}, (first, second)
        assert differing != others, f"{first} and {second} are the same strategy"


def parts_of(settings: Any) -> Any:
    """The settings of a strategy with the names of classes, but without numbers."""
    if isinstance(settings, Mapping):
        return {key: parts_of(value) for key, value in settings.items()}
    return settings if isinstance(settings, str) else None


@pytest.mark.parametrize("name", COMPARISONS)
def test_pre_training_is_the_same_for_all_strategies_and_fits_what_follows(name: str) -> None:
    comparison = read_specification(CONFIGS / name)
    assert comparison.baseline in comparison.strategies
    base = read_configuration(comparison.base)
    if comparison.pretrain is not None:
        before = read_configuration(comparison.pretrain)
        for key in ("suite", "threads"):
            assert before[key] == base[key]
        assert before["model"]["policy"] == base["model"]["policy"]
