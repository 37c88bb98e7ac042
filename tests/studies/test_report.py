from pathlib import Path

from amf_lightning.campaign.run_folder import MEAN, CurveRow
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
