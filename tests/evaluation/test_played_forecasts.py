"""What `benchmarks/forecast.py` says of a forecast once the run has gone on."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from amf_lightning.evaluation.forecast import Forecast

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "forecast.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    specification = importlib.util.spec_from_file_location("played_forecasts", FILE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["played_forecasts"] = module  # dataclasses look there
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("left", "took", "became"),
    [
        (9, 3, "right"),
        (9, 5, "right"),
        (9, 2, "reached before"),
        (9, 6, "reached after"),
        (2, None, "right"),  # all of the interval lies beyond the budget
        (5, None, "reached after"),  # it was not there when the interval ended
        (4, None, "open"),
    ],
)
def test_an_interval_is_judged_by_when_the_target_came(
    benchmark: ModuleType, left: int, took: int | None, became: str
) -> None:
    assert benchmark.judged(Forecast(0.8, low=3, middle=4, high=5), left, took) == became
    assert benchmark.judged(Forecast(0.8, unknown="flat"), left, took) == "cannot tell"


def test_a_run_is_played_until_the_target_is_there(benchmark: ModuleType) -> None:
    scores = [0.2, 0.4, 0.55, 0.62, 0.85, 0.7]
    run = benchmark.PlayedRun("integrator-1", "Uniform", 1, "a", 2, range(6), scores, [0, 1, 1, 2, 2, 3], None)
    each = list(benchmark.outcomes(run, 0.8))
    assert [outcome.took for outcome in each] == [4, 3, 2, 1] and [outcome.own for outcome in each] == [2, 1, 1, 0]
    assert [outcome.became for outcome in each[:2]] == ["cannot tell", "cannot tell"], "two evaluations are too few"
    never = list(benchmark.outcomes(run, 0.9))
    assert len(never) == 5 and {outcome.took for outcome in never} == {None}
    assert run.suite == "integrator"


def test_the_committed_runs_are_found(benchmark: ModuleType) -> None:
    runs = list(benchmark.played("odd", False, "metaworld-mt50"))
    assert [(run.task, run.tasks, run.seed) for run in runs] == [("mean", 50, 1)] * 2
    assert (runs[0].episodes, runs[0].suite) == (100, "MT50"), "two of each task"


def test_every_committed_study_is_of_the_suite_that_its_rows_say(benchmark: ModuleType) -> None:
    words = {"HalfCheetahVelocity": "HalfCheetah", "HumanoidVelocity": "Humanoid", "Integrator": "integrator"}
    words |= {"Fetch": "Fetch", "BabyAI": "BabyAI"}
    found = set()
    for rows in sorted(benchmark.RESULTS.glob("*/runs.jsonl")):
        suite = benchmark.PlayedRun(rows.parent.name, "Uniform", 1, "mean", 2, [], [], None, None).suite
        shared = json.loads(rows.read_text().splitlines()[0]).get("shared_settings", {})
        name = str(shared.get("suite.class_path", shared.get("suite"))).rpartition(".")[2]
        if name in words:
            assert suite == words[name], rows.parent.name
            found.add(name)
    assert found == {*words}
