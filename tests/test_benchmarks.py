"""The benchmarks run, small, and what they compare agrees."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_scoring_agrees_with_activeft_and_both_tables_are_printed(tmp_path: Path) -> None:
    options = ["--tasks", "2", "5", "--states=4", "--features=9", "--threads=1", "--repeats=2", "--device=cpu"]
    found = subprocess.run(
        [sys.executable, "benchmarks/selection.py", *options, f"--json={tmp_path / 'out.json'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "times faster" in found.stdout and "one matrix product" in found.stdout
    assert "tasks^" in found.stdout
    sizes = json.loads((tmp_path / "out.json").read_text())["sizes"]
    assert [len(rows) for rows in sizes] == [2, 2]
    for row in (row for rows in sizes for row in rows):
        assert row["same_pick"] and row["relative_error"] < 1e-6
        assert row["times_faster"] > 0 and row["products"] > 0 and row["peak_gib"] > 0
