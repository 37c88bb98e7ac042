import json
from pathlib import Path
from typing import Any

import pytest

from amf_lightning.campaign.curve import MEAN, CurveRow
from amf_lightning.studies.archive import Entry
from amf_lightning.studies.report import write_summary
from amf_lightning.studies.rows import RunFacts, RunRows
from amf_lightning.studies.specification import Specification


def entry(strategy: str, seed: int, last: float) -> Entry:
    rows = [CurveRow(count, task, 0.0, 0.0, score) for count, score in ((0, 0.5), (1, last)) for task in ("here", MEAN)]
    facts = RunFacts(uses=(), environment_steps=None, pretraining_tasks=("here",), asked=("here",))
    return Entry(RunRows(strategy, seed, tuple(rows)), facts)


def written(folder: Path, labels: list[str], missing: list[str], sweep: str | None = None) -> str:
    entries = [entry(label, seed, 0.5 + 0.01 * number) for number, label in enumerate(labels) for seed in range(2)]
    comparison = Specification(folder / "base.yaml", labels[0], {label: {} for label in labels}, sweep=sweep)
    return write_summary(folder, entries, comparison, 1, missing).read_text()


def test_labels_with_a_number_are_drawn_against_it(tmp_path: Path) -> None:
    text = written(tmp_path, ["none", "Fisher@0.25", "Fisher@0.5"], [], "share")
    assert "](sweep.png)" in text and (tmp_path / "sweep.png").stat().st_size > 10_000
    (tmp_path / "plain").mkdir()
    assert "sweep.png" not in written(tmp_path / "plain", ["none", "Fisher"], [])
    assert not (tmp_path / "plain" / "sweep.png").exists()


def test_very_many_strategies_are_not_compared_each_with_each(tmp_path: Path) -> None:
    labels = [f"setting {number}" for number in range(16)]
    text = written(tmp_path, labels, [])
    assert "each against each" not in text and "allocation.png" not in text
    assert all(f"| {label}" in text for label in labels)
    few = written(tmp_path, labels[:3], [])
    assert "each against each" in few and "allocation.png" in few


def test_many_missing_runs_are_counted_and_few_are_named(tmp_path: Path) -> None:
    missing = [f"{label} seed {seed}" for label in ("A seed", "B") for seed in range(5)]
    assert "**10 runs missing:** 5 of A seed, 5 of B." in written(tmp_path, ["none"], missing)
    assert "**2 runs missing:** A seed seed 0, B seed 4." in written(tmp_path, ["none"], [missing[0], missing[-1]])


def told(folder: Path, failed: dict[str, list[int]], sweep: str | None = None) -> tuple[str, dict[str, Any]]:
    """The summary of three strategies over four seeds, some of which failed."""
    labels = ["base", "F@1", "F@2"]
    entries = [
        entry(label, seed, 0.5 + 0.1 * number + 0.01 * seed)
        for number, label in enumerate(labels)
        for seed in range(4)
        if seed not in failed.get(label, ())
    ]
    missing = [f"{label} seed {seed}" for label, seeds in failed.items() for seed in seeds]
    comparison = Specification(folder / "base.yaml", "base", {label: {} for label in labels}, sweep=sweep)
    text = write_summary(folder, entries, comparison, 1, missing, failed).read_text()
    return text, json.loads((folder / "summary.json").read_text())


def row(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {label} "))


def test_a_mean_over_survivors_is_not_printed_as_if_it_were_the_mean(tmp_path: Path) -> None:
    whole, _ = told(tmp_path, {})
    assert "failed" not in whole and "‡" not in whole and "[0.6" in row(whole, "F@1")
    text, numbers = told(tmp_path, {"F@1": [1, 3]})
    assert "**2 runs failed:** F@1 seed 1, F@1 seed 3." in text and "missing:**" not in text
    shown = row(text, "F@1 ‡")
    assert "| 2 of 4 |" in shown and "(0.610)" in shown and "[" not in shown, "no interval"
    difference = row(text.split("## Difference")[1], "F@1 ‡")
    assert set(difference.replace("F@1 ‡", "")) <= set("| –"), "no difference"
    assert row(text, "F@2").split() == row(whole, "F@2").split(), "the others are told as ever"
    told_of = numbers["strategies"]["F@1"]["final"]
    assert (told_of["mean"], told_of["lo"], told_of["hi"]) == (None, None, None)
    assert told_of["over_finished"] == pytest.approx(0.61) and told_of["per_seed"] == pytest.approx([0.6, 0.62])
    assert numbers["paired"]["F@1"]["auc"]["mean"] is None and numbers["meta"]["failed"] == {"F@1": [1, 3]}
    assert numbers["meta"]["pairs"]["F@2"]["F@1"]["mean"] is None
    assert numbers["meta"]["pairs"]["F@2"]["base"]["mean"] == pytest.approx(0.1)
    assert numbers["meta"]["largest_fall"]["F@1"] is None


def test_where_runs_of_the_baseline_failed_there_are_no_differences(tmp_path: Path) -> None:
    text, numbers = told(tmp_path, {"base": [0]}, "share")
    assert {each["auc"]["mean"] for each in numbers["paired"].values()} == {None}
    assert not {"▲", "▼"} & {*text.split("## Difference")[1].split("Strategy minus")[0]}


def test_a_sweep_of_which_a_point_failed_is_drawn_without_it(tmp_path: Path) -> None:
    text, _ = told(tmp_path, {"F@1": [0]}, "share")
    assert "](sweep.png)" in text


def test_seeds_that_were_not_run_are_told_and_what_is_there_is_compared(tmp_path: Path) -> None:
    text = written(tmp_path, ["base", "other"], ["other seed 2"])
    assert "| 2 of 3 |" in row(text, "other") and "[" in row(text, "other") and "‡" not in text
    assert "Over the seeds that both have." in text
