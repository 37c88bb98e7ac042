"""The benchmark of a GPU runs, small, and says what it is of."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.gpu
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_it_measures_every_device_and_names_it(tmp_path: Path) -> None:
    options = ["--widths", "8", "--steps", "60", "--tasks", "5", "--features", "9", "--budget", "2", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py", *options, "--json", str(tmp_path / "gpu.json")],
        cwd=BENCHMARKS.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "gpu.json").read_text())
    there = torch.cuda.is_available()
    assert facts["device"] == (torch.cuda.get_device_name() if there else None)
    assert there or "no GPU is at hand" in done.stdout
    devices = {"cpu", "cuda"} if there else {"cpu"}
    assert {row["device"] for row in facts["steps"]} == {row["device"] for row in facts["selection"]} == devices
    assert all(row["microseconds"] > 0 for row in facts["steps"])
    assert all(row["same_pick"] and row["relative_difference"] < 1e-8 for row in facts["selection"])
    assert facts["agreement"]["same_bits"]
    first, *later = facts["agreement"]["rounds"]
    assert first["cpu"] == first["gpu"] and first["relative_difference"] < 1e-6
    assert len(later) == 1 and (there or later[0]["relative_difference"] == 0)
