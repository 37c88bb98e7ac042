"""`amf compare` with real runs of the tiny world, each in a process of its own."""

import csv
import gzip
import json
import shutil
from pathlib import Path

import pytest
import yaml
from amf_process import TESTS, Outcome, amf, write_config

from amf_lightning.campaign.run_folder import RunFolder

OUT = "out"


def compare(folder: Path) -> Outcome:
    options = ("--config=comparison.yaml", "--seeds=0:2", f"--output={OUT}", "--jobs=2")
    return amf("compare", *options, cwd=folder, timeout=500)


def lay_comparison(folder: Path) -> None:
    shutil.copy(TESTS / "tiny.py", folder)  # the runs find it in the folder in which the comparison is started
    write_config(folder)
    content = {
        "base": "tiny.yaml",
        "baseline": "Uniform",
        "strategies": {"in turn": {}, "Uniform": {"selector": "Uniform"}},
    }
    (folder / "comparison.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.timeout(1200)  # a busy machine takes its time
def test_a_comparison_from_its_first_failure_to_its_summary(tmp_path: Path) -> None:
    lay_comparison(tmp_path)
    out = tmp_path / OUT
    foreign = out / "runs" / "Uniform" / "seed-1" / "curve.csv"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")

    first = compare(tmp_path)
    assert first.code == 1, first.said
    assert "FAILED Uniform seed 1: exit code 2" in first.stdout and "which a run would overwrite" in first.stdout
    assert foreign.read_text() == "mine"
    finished = {path.parent.relative_to(out / "runs").as_posix() for path in out.glob("runs/*/*/policy.safetensors")}
    assert finished == {"in turn/seed-0", "in turn/seed-1", "Uniform/seed-0"}, "a failed run does not stop the rest"
    assert json.loads((out / "summary.json").read_text())["meta"]["missing"] == ["Uniform seed 1"]

    foreign.unlink()
    logs = {path: path.read_bytes() for path in out.glob("runs/*/*.log")}
    second = compare(tmp_path)
    assert second.code == 0, second.said
    assert "3 of 4 runs are finished already" in second.stdout
    changed = {path for path in out.glob("runs/*/*.log") if path.read_bytes() != logs[path]}
    assert changed == {out / "runs" / "Uniform" / "seed-1.log"}, "only what is missing is run"
    assert_whole(out)

    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    third = compare(tmp_path)
    assert third.code == 0 and "4 of 4 runs are finished already" in third.stdout
    assert "started" not in third.stdout
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == before, "nothing is run again"


def assert_whole(out: Path) -> None:
    """Every file of a finished comparison, against the run folders that it comes from."""
    for seed in (0, 1):
        with gzip.open(out / "curves" / f"seed-{seed}.csv.gz", "rt", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["strategy", "seed", "demonstrations", "task", "return", "success", "score", "episodes"]
        expected = [
            (
                [label, str(seed), str(row.demonstrations), row.task],
                [row.episode_return, row.success, row.score, row.episodes],
            )
            for label in ("in turn", "Uniform")
            for row in RunFolder(out / "runs" / label / f"seed-{seed}").read_curve()
        ]
        assert len(rows) == 2 * 3 * 5  # strategies, evaluations, four tasks and their mean
        for row, (names, numbers) in zip(rows, expected, strict=True):
            assert row[:4] == names and list(map(float, row[4:])) == pytest.approx(numbers, rel=1e-5)

    summary = json.loads((out / "summary.json").read_text())
    assert list(summary) == ["strategies", "paired", "meta"]
    assert list(summary["strategies"]) == ["in turn", "Uniform"] and list(summary["paired"]) == ["in turn"]
    for metrics in summary["strategies"].values():
        assert {"auc", "final", "demos_to_80", "demos_to_90", "forgetting"} <= metrics.keys()
        assert len(metrics["auc"]["per_seed"]) == 2
        assert metrics["auc"]["lo"] <= metrics["auc"]["mean"] <= metrics["auc"]["hi"]
    ours, uniform = (summary["strategies"][label]["auc"]["per_seed"] for label in ("in turn", "Uniform"))
    difference = sum(a - b for a, b in zip(ours, uniform, strict=True)) / 2
    assert summary["paired"]["in turn"]["auc"]["mean"] == pytest.approx(difference)
    for name in ("summary.md", "curves.png", "allocation.png"):
        assert (out / name).stat().st_size > 0
    for seed in (0, 1):
        paths = (out / "runs" / label / f"seed-{seed}" / "config.yaml" for label in ("in turn", "Uniform"))
        a, b = (yaml.safe_load(path.read_text()) for path in paths)
        assert a.pop("selector") != b.pop("selector")
        assert a["trainer"].pop("default_root_dir") != b["trainer"].pop("default_root_dir")
        assert a == b
