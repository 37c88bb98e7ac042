"""The benchmarks run, small, and what they compare agrees; the size of a ratio is not for a busy machine to judge."""

import importlib.util
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
            {"bare", "gymnasium", "gymnasium_ratio", "ours", "ratio"}
            | {"integrator", "integrator_gymnasium", "integrator_ratio"},
        ),
        (
            "training",
            ("--rounds", "2", "--steps", "100", "--batch-size", "8"),
            {"amf", "bare", "step", "lightning", "ratio", "step_ratio", "lightning_ratio"},
        ),
        pytest.param(
            "images",
            ("--demonstrations=6", "--length=4", "--side=24", "--batch-size=4", "--steps=1", "--windows=1"),
            {"bare", "loader", "one_thread", "ratio", "processor_ratio", "bytes"}
            | {"bare_clock", "loader_clock", "one_thread_clock"}
            | {"training_bytes", "normaliser_bytes", "export_bytes", "minibatch", "minibatch_clock"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "large_policy",
            ("--parameters=1e4",),
            {"parameters", "weights", "least", "peak", "ratio", "seconds"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "startup",
            ("--repetitions", "1"),
            {"ratio"}
            | {
                f"{name}{suffix}"
                for name in ("bare", "fit_help", "fit_start", "help", "status", "completion")
                for suffix in ("", "_clock")
            },
            marks=pytest.mark.slow,
        ),
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


@pytest.mark.slow
def test_the_commands_at_the_robot_are_timed(tmp_path: Path) -> None:
    options = ["--demonstrations=6", "--tasks=3", "--steps=4", "--repetitions=1", f"--json={tmp_path / 'out.json'}"]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / "lab.py"), *options]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "out.json").read_text())
    assert f"| amf status | {numbers['status']:.2f} |" in done.stdout and "The limit is" in done.stdout


def test_the_scoring_agrees_with_activeft_and_both_tables_are_printed(tmp_path: Path) -> None:
    options = ["--tasks", "2", "5", "--states=4", "--features=9", "--threads=1", "--repeats=2", "--device=cpu"]
    found = subprocess.run(
        [sys.executable, "benchmarks/selection.py", *options, f"--json={tmp_path / 'out.json'}"],
        cwd=BENCHMARKS.parent,
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


def test_the_advisor_is_timed(tmp_path: Path) -> None:
    options = ["--advisor=6", "--features=5", "--threads=1", f"--json={tmp_path / 'out.json'}"]
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / "selection.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "among 6 tasks" in done.stdout
    assert 0 < json.loads((tmp_path / "out.json").read_text())["cpu_seconds"] < 60


def test_the_table_of_the_readme_is_that_of_the_committed_summaries() -> None:
    done = subprocess.run([sys.executable, BENCHMARKS / "evidence.py"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (BENCHMARKS.parent / "README.md").read_text()


def test_worlds_are_held_against_the_gaps_of_a_finished_run(tmp_path: Path) -> None:
    run, environment = tmp_path / "goals" / "runs" / "GapReduction" / "seed-0", {**os.environ, "OMP_NUM_THREADS": "1"}
    fit = [sys.executable, "-m", "amf_lightning", "fit", "--config", "configs/integrator.yaml", "--active.budget=3"]
    quiet = ["--selector=configs/selection/gap-reduction-policy-belief.yaml", "--reports.animation=false"]
    command = [*fit, *quiet, f"--trainer.default_root_dir={run}"]
    subprocess.run(command, cwd=BENCHMARKS.parent, env=environment, check=True, capture_output=True)
    command = [sys.executable, "benchmarks/foretold.py", str(run.parent), f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=BENCHMARKS.parent, env=environment, check=True, capture_output=True, text=True)
    rows = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert {(row["runs"], row["tasks"]) for row in rows} == {
        ("goals, GapReduction (1)", kind) for kind in ("independent", "linear")
    }
    asked = [json.loads(line)["task_index"] for line in (run / "selections.jsonl").read_text().splitlines()]
    specification = importlib.util.spec_from_file_location("foretold", BENCHMARKS / "foretold.py")
    assert specification is not None and specification.loader is not None
    foretold = importlib.util.module_from_spec(specification)
    sys.modules["foretold"] = foretold  # dataclasses look there
    specification.loader.exec_module(foretold)
    happened = foretold.played(run)
    assert happened.came.argmax(1).tolist() == asked and happened.came.sum(1).tolist() == [1, 1, 1]
    assert happened.gaps.shape == happened.came.shape and bool(((happened.gaps >= 0) & (happened.gaps <= 1)).all())
    assert happened.before.sum() == 0, "a Gaussian process keeps no statistics, so nobody knows what it was shown"
    assert rows[0]["gained"]["drift 0.2"] == 0 != rows[0]["gained"]["drift 0.05"]
    assert f"{rows[-1]['gained']['drift 0.2']:+.1f} |" in done.stdout
