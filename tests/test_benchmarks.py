"""The benchmarks of speed run and give their numbers; how large those are is not for a busy machine to judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("name", "options", "keys"),
    [
        (
            "rollouts",
            ("--episodes", "1", "--repetitions", "1"),
            {"bare", "gymnasium", "gymnasium_ratio", "ours", "ratio"},
        ),
        ("training", ("--rounds", "2", "--steps", "150"), {"amf", "bare", "ratio"}),
    ],
)
def test_a_benchmark_prints_a_table_and_writes_its_numbers(
    tmp_path: Path, name: str, options: tuple[str, ...], keys: set[str]
) -> None:
    path = tmp_path / "numbers.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options, "--json", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads(path.read_text())
    assert numbers.keys() == keys
    assert all(number > 0 for number in numbers.values())
    assert f"{numbers['ratio']:.2f} |" in done.stdout
    assert "The limit is" in done.stdout
