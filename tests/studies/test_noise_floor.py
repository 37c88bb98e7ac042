"""The noise floor of a comparison: repeats are runs of their own, no strategies, and tell what training alone does."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from amf_lightning.campaign.curve import MEAN, CurveRow
from amf_lightning.errors import InputError
from amf_lightning.studies.archive import Entry
from amf_lightning.studies.plan import plan_runs
from amf_lightning.studies.report import write_summary
from amf_lightning.studies.rows import RunFacts, RunRows, read_rows, write_rows
from amf_lightning.studies.specification import Specification, read_specification


def described(folder: Path, **floor: object) -> Specification:
    (folder / "base.yaml").write_text("active: {budget: 1}\n")
    content = {"base": "base.yaml", "baseline": "A", "strategies": {"A": {}, "B": {"selector": "Uniform"}}}
    (folder / "study.yaml").write_text(yaml.safe_dump({**content, "noise_floor": floor}))
    return read_specification(folder / "study.yaml")


def test_repeats_are_runs_of_the_strategy_with_training_seeds_of_their_own(tmp_path: Path) -> None:
    specification = described(tmp_path, strategy="B", repeats=2)
    runs = plan_runs(specification, range(3), tmp_path / "out")
    assert [run.label for run in runs[:4]] == ["A", "B", "B again 1", "B again 2"]
    assert [*specification.strategies] == ["A", "B"] and specification.labels == [run.label for run in runs[:4]]
    seeds = [run.settings.get("data.training_seed") for run in runs if run.label.startswith("B")]
    given = [seed for seed in seeds if seed is not None]
    assert seeds.count(None) == 3 and len({*given}) == 6 and not {*given} & {*range(3)}
    assert {run.settings["seed_everything"] for run in runs[:4]} == {0}
    assert all(run.settings.get("selector") == "Uniform" for run in runs if run.label.startswith("B"))


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        ({"strategy": "C"}, "'C' is not among the strategies"),
        ({"strategy": "B", "repeats": 0}, "repeats is 0"),
        ({"strategy": "B", "repeats": True}, "repeats is True"),
        ({"strategy": "B", "seeds": 3}, "must say which strategy"),
        ({"repeats": 3}, "must say which strategy"),
    ],
)
def test_a_noise_floor_that_makes_no_sense_is_refused(tmp_path: Path, floor: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        described(tmp_path, **floor)


def entry(strategy: str, seed: int, last: float) -> Entry:
    scores = {0: 0.5, 1: last}
    rows = [CurveRow(n, "here", 0.0, 0.75, score, 20, score) for n, score in scores.items()]
    rows += [replace(row, task=MEAN) for row in rows]
    return Entry(RunRows(strategy, seed, tuple(rows)), RunFacts((), None, ("here",), ("here",)))


def test_the_summary_tells_the_floor_and_the_repeats_are_no_strategies(tmp_path: Path) -> None:
    specification = described(tmp_path, strategy="B", repeats=1)
    entries = [entry(label, seed, last + 0.1 * seed) for label, last in (("A", 0.4), ("B", 0.6)) for seed in (0, 1)]
    again = [entry("B again 1", seed, 0.6 + 0.1 * seed + 0.02) for seed in (0, 1)]
    text = write_summary(tmp_path, [*entries, *again], specification, 1, []).read_text()
    content = json.loads((tmp_path / "summary.json").read_text())
    assert [*content["strategies"]] == ["A", "B"] and "again 1" not in text
    floor = content["meta"]["noise_floor"]
    assert floor["runs"] == 4 and floor["deviations"]["final"] == pytest.approx(0.02 / 2**0.5)  # of two: half the gap²
    assert "## Noise floor" in text and "4 runs of B over 2 seeds" in text
    assert content["strategies"]["A"]["setback"]["per_seed"] == [pytest.approx(0.1), 0.0]
    assert content["meta"]["setbacks"]["A"] == [1, None]
    rate = content["meta"]["success"]["B"]
    assert (rate["successes"], rate["trials"]) == (30, 40) and rate["lo"] < 0.75 < rate["hi"]
    assert content["meta"]["best"]["with_best"] == ["B"]


def test_rows_say_how_many_episodes_they_have_and_older_ones_are_read(tmp_path: Path) -> None:
    curve = entry("A", 0, 0.625).curve
    older = RunRows("B", 0, tuple(replace(row, episodes=None, score_of_rounds=None) for row in curve.rows))
    write_rows(tmp_path, [curve, older])
    assert read_rows([tmp_path / "seed-0.csv.gz"]) == [curve, older]
    write_rows(tmp_path, [older])
    assert read_rows([tmp_path / "seed-0.csv.gz"]) == [older]
