"""A run on Fetch that was killed and goes on is the run that nobody killed: its environments are used anew."""

import signal
from pathlib import Path

import kill_points
from metaworld_marks import FETCH
from tiny_runs import Run, assert_same_outcome

pytestmark = FETCH
CHANGES = {
    "suite": {"class_path": "Fetch", "init_args": {"tasks": ["reach-far-left", "pick-air-right"], "one_hot": False}},
    "expert": {"class_path": "FetchExpert", "init_args": {"noise": 0.1}},
    "selector": {"class_path": "RoundRobin"},
    "retention": {"class_path": "NoRetention"},
    "active": {"budget": 3, "batch_size": 1},
    "data": {"evaluation_episodes": 1, "steps_per_round": 6},
}


def test_a_run_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    run, reference = Run(tmp_path / "killed", CHANGES), Run(tmp_path / "reference", CHANGES).complete()
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), reference)
