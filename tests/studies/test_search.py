"""`amf search-schedule`: what it runs, what it keeps, and that it goes on."""

import json
import math
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
import yaml
from amf_process import TESTS, amf, fresh, write_config
from jsonargparse import ArgumentParser

from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.studies.plan import Run
from amf_lightning.studies.search import add_search_arguments, run_search

TASKS, LENGTH = ("slow", "fast"), 3


def mean_scores(schedule: Sequence[int], seed: int) -> list[float]:
    """After 0 … N demonstrations. `fast` teaches both, but not the first time; seeds differ in their start."""
    gains = [0.15 if task == 0 else 0.25 * schedule[:place].count(1) for place, task in enumerate(schedule)]
    return [0.1 * (seed + 1) + sum(gains[:count]) for count in range(len(schedule) + 1)]


class World:
    """Makes the folder of a run at once, in place of a process."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.failing: str | None = None

    def __call__(self, run: Run) -> "World":
        self.made.append(run.name)
        self._code = int(run.label == self.failing)
        if not self._code:
            write(run)
        return self

    def poll(self) -> int:
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        return self._code

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def write(run: Run) -> None:
    given = dict(option.removeprefix("--").split("=", 1) for option in run.command if option.startswith("--"))
    names = ["fast", "slow", "slow"]
    if given["selector"] != "Uniform":
        names = json.loads(given["selector"])["init_args"]["tasks"]
    picks = [TASKS.index(name) for name in names]
    scores = mean_scores(picks, run.seed)
    evaluations = [Evaluation(n, (1.0, 1.0), (0.0, 0.0), (score, score), score) for n, score in enumerate(scores)]
    folder = RunFolder(run.folder)
    requests = [Request(i, i, TASKS[pick], pick, "any", (0.0, 0.0), i) for i, pick in enumerate(picks)]
    folder.write_selections(requests)
    folder.write_curve(evaluations, TASKS)
    folder.write_evaluation(
        evaluations[-1], TASKS, selector="any", uses=[], environment_steps=0, pretraining_tasks=[], budget=LENGTH
    )
    folder.report.write_text("made")
    folder.policy.write_bytes(b"made")


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(f"active: {{budget: {LENGTH}}}")
    path = tmp_path / "comparison.yaml"
    strategies = "{Uniform: {selector: Uniform}, RoundRobin: {selector: RoundRobin}}"  # only the baseline is run
    path.write_text(
        f"base: base.yaml\nbaseline: Uniform\nstrategies: {strategies}\nnoise_floor: {{strategy: RoundRobin}}"
    )
    return path


def search(comparison: Path, world: World, *options: str) -> int:
    parser = ArgumentParser()
    add_search_arguments(parser)
    places = (f"--output={comparison.parent / 'out'}", f"--runs={comparison.parent / 'runs'}", "--seeds=0:2")
    arguments = [f"--config={comparison}", *places, "--children=2", *options]
    return run_search(parser.parse_args(arguments), ("amf",), world)


def areas() -> dict[tuple[int, ...], float]:
    """Of every schedule, by brute force."""
    return {
        schedule: math.fsum(score for seed in (0, 1) for score in mean_scores(schedule, seed)) / 2 / (LENGTH + 1)
        for schedule in product((0, 1), repeat=LENGTH)
    }


def test_it_finds_the_schedule_that_brute_force_finds_and_writes_it_as_a_selector(comparison: Path) -> None:
    world = World()
    assert search(comparison, world, "--generations=3") == 0
    every = areas()
    best = max(every, key=every.__getitem__)
    out = comparison.parent / "out"
    selector = yaml.safe_load((out / "best.yaml").read_text())
    assert selector == {"class_path": "FixedSchedule", "init_args": {"tasks": [TASKS[task] for task in best]}}
    assert len(world.made) == 2 * (1 + 8), "the baseline and all eight schedules, once for each seed"
    page = (out / "search.md").read_text()
    assert f"Of 8 schedules of 3 demonstrations the best is\n\n> {', '.join(TASKS[t] for t in best)}\n" in page
    assert f"{every[best]:.3f}" in page and "Uniform" in page


def test_it_goes_on_from_committed_rows_alone(comparison: Path) -> None:
    first = World()
    assert search(comparison, first, "--generations=0") == 0
    out, page = comparison.parent / "out", (comparison.parent / "out" / "search.md").read_bytes()
    rows = {path: path.read_bytes() for path in [*out.glob("curves/*"), out / "runs.jsonl"]}
    shutil.rmtree(comparison.parent / "runs")
    again = World()
    assert search(comparison, again, "--generations=0") == 0
    assert again.made == [] and (out / "search.md").read_bytes() == page
    assert {path: path.read_bytes() for path in rows} == rows
    assert search(comparison, again, "--generations=2") == 0
    assert again.made and not set(again.made) & set(first.made)
    straight = World()
    shutil.rmtree(out)
    shutil.rmtree(comparison.parent / "runs")
    assert search(comparison, straight, "--generations=2") == 0
    assert straight.made == first.made + again.made


def test_a_failed_run_ends_it_without_a_result_and_the_same_command_goes_on(comparison: Path) -> None:
    world = World()
    world.failing = "Uniform"
    assert search(comparison, world) == 1 and not (comparison.parent / "out" / "best.yaml").exists()
    world.failing = None
    world.made.clear()
    assert search(comparison, world, "--generations=0") == 0 and world.made[:2] == ["Uniform seed 0", "Uniform seed 1"]


def test_rows_of_other_settings_and_arguments_that_make_no_sense_are_refused(comparison: Path) -> None:
    assert search(comparison, World(), "--generations=0") == 0
    (comparison.parent / "base.yaml").write_text(f"active: {{budget: {LENGTH}}}\ndata: {{batch_size: 3}}")
    with pytest.raises(InputError, match=r"data\.batch_size"):
        search(comparison, World(), "--generations=0")
    for option in ("--children=0", "--generations=-1", "--budget=0"):
        with pytest.raises(InputError, match=option.partition("=")[0]):
            search(comparison, World(), option)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_over_real_runs_and_its_result_put_into_one(tmp_path: Path) -> None:
    shutil.copy(TESTS / "tiny.py", tmp_path)
    write_config(tmp_path, suite={"class_path": "tiny.TinySuite", "init_args": {"goals": 2}})
    comparison = {"base": "tiny.yaml", "baseline": "Uniform", "strategies": {"Uniform": {"selector": "Uniform"}}}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(comparison))
    options = ("--seeds=0:1", "--budget=1", "--generations=0", "--output=out", "--share-imports", "--jobs=2")
    outcome = fresh("search-schedule", "--config=comparison.yaml", *options, cwd=tmp_path)
    assert outcome.code == 0, outcome.said
    areas = {
        path.parent.parent.name: [row.score for row in RunFolder(path.parent).read_curve() if row.task == "mean"]
        for path in tmp_path.glob("out/runs/schedule-*/seed-0/curve.csv")
    }
    assert len(areas) == 2, "of one demonstration there is a schedule for each task"
    assert f"{max(sum(scores) / 2 for scores in areas.values()):.3f}" in (tmp_path / "out" / "search.md").read_text()
    found = ("--selector=out/best.yaml", "--active.budget=1", "--trainer.default_root_dir=again")
    assert amf("fit", "--config=tiny.yaml", *found, cwd=tmp_path).code == 0
    scores = [row.score for row in RunFolder(tmp_path / "again").read_curve() if row.task == "mean"]
    assert scores in areas.values() and sum(scores) == max(map(sum, areas.values()))
