"""The results that are committed: small, of today's settings, and enough to make the summaries from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from amf_lightning.shipped import shipped_folder
from amf_lightning.studies.archive import Archive
from amf_lightning.studies.command import add_compare_arguments, run_compare
from amf_lightning.studies.plan import plan_runs
from amf_lightning.studies.specification import read_specification

CONFIGS = shipped_folder("configs") / "compare"
RESULTS = Path(__file__).parents[2] / "docs" / "results"
BENCHMARKS = {"advisor-mt10": "benchmarks/advised.py"}
"""Studies whose comparison a benchmark writes."""
SEARCHES = {"search-halfcheetah": "default-halfcheetah", "search-integrator-3": "integrator-3"}
"""Searches for a schedule, and the comparison that each is over."""
STUDIES = sorted({path.parent.name for path in RESULTS.glob("*/runs.jsonl")} - {*BENCHMARKS, *SEARCHES})
LARGEST, LARGEST_OF_SEARCHES = 300_000, 500_000
"""Bytes of a file. A repository keeps every version of every file for ever."""


def test_no_file_is_large() -> None:
    assert len(STUDIES) > 10
    sizes = {path.relative_to(RESULTS): path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()}
    limits = {path: LARGEST_OF_SEARCHES if path.parts[0] in SEARCHES else LARGEST for path in sizes}
    assert [path for path, size in sizes.items() if size > limits[path]] == []


@pytest.mark.parametrize("name", STUDIES)
def test_rows_are_of_the_settings_that_the_comparison_has_now(name: str, tmp_path: Path) -> None:
    specification = read_specification(CONFIGS / f"{name}.yaml")
    archive = Archive(RESULTS / name, list(specification.strategies))
    runs = plan_runs(specification, archive.seeds, tmp_path)
    assert [conflict for run in runs if (conflict := archive.conflict(run))] == []
    assert archive.entries and len(archive.entries_of(runs)) == len(archive.entries)


@pytest.mark.parametrize("name", SEARCHES)
def test_rows_of_a_search_are_of_the_settings_that_its_comparison_has_now(name: str, tmp_path: Path) -> None:
    comparison = read_specification(CONFIGS / f"{SEARCHES[name]}.yaml")
    baseline = comparison.baseline
    rows = [json.loads(line) for line in (RESULTS / name / "runs.jsonl").read_text().splitlines()[1:]]
    tried = {
        row["strategy"]: {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": row["asked"]}}}
        for row in rows
        if row["strategy"] != baseline
    }
    strategies = {baseline: comparison.strategies[baseline], **tried}
    specification = replace(comparison, strategies=strategies, repeated=None, repeat_count=0)
    archive = Archive(RESULTS / name, list(strategies))
    runs = plan_runs(specification, archive.seeds, tmp_path)
    assert [conflict for run in runs if (conflict := archive.conflict(run))] == []
    assert len(archive.entries_of(runs)) == len(archive.entries) == len(runs)
    best = yaml.safe_load((RESULTS / name / "best.yaml").read_text())
    assert best in [settings["selector"] for settings in tried.values()]


def test_a_summary_follows_from_the_rows_beside_it(tmp_path: Path) -> None:
    name = "humanoid-one-hot"
    shutil.copytree(RESULTS / name, tmp_path / name)
    (tmp_path / name / "summary.md").unlink()
    (tmp_path / name / "summary.json").unlink()
    parser = ArgumentParser()
    add_compare_arguments(parser)
    arguments = [f"--config={CONFIGS / name}.yaml", f"--output={tmp_path / name}", "--from-curves"]
    assert run_compare(parser.parse_args(arguments)) == 0
    assert (tmp_path / name / "summary.md").read_text() == (RESULTS / name / "summary.md").read_text()
