"""A run on Metaworld that was killed and goes on is the run that nobody killed: its environments are used anew."""

import signal
from pathlib import Path

import kill_points
from metaworld_marks import METAWORLD
from tiny_runs import Run, assert_same_outcome

pytestmark = METAWORLD
CHANGES = {
    "suite": {"class_path": "Metaworld", "init_args": {"tasks": ["faucet-open", "door-open"]}},
    "expert": {"class_path": "MetaworldExpert"},
    "selector": {"class_path": "RoundRobin"},
    "retention": {"class_path": "NoRetention"},
    "active": {"budget": 3, "batch_size": 1},
    "data": {"evaluation_episodes": 1, "steps_per_round": 6},
}


def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    run, reference = Run(tmp_path / "killed", CHANGES), Run(tmp_path / "reference", CHANGES).complete()
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), reference)
