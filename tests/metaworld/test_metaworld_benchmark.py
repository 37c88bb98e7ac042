"""The benchmark runs, small; how long things take is not for a busy machine to judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

from metaworld_marks import METAWORLD

ROOT = Path(__file__).resolve().parents[2]
pytestmark = METAWORLD


def test_it_prints_a_table_and_writes_its_numbers(tmp_path: Path) -> None:
    options = ["--tasks", "reach", "window-open", "--horizon", "100", f"--json={tmp_path / 'numbers.json'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "benchmarks" / "metaworld_speed.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["tasks"] == 2 and 50 < numbers["demonstrated_steps"] < 200
    assert 200 < numbers["rollout_steps"] <= 2 * 2 * 100
    assert min(numbers.values()) > 0
    assert "| 2 tasks | seconds |" in done.stdout and "The limits are" in done.stdout
