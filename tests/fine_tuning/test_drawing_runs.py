"""Runs of policies that draw by themselves: a seed says all about them too."""

import signal
from pathlib import Path
from typing import Any

import kill_points
import pytest
from drawing_policies import Dropping, Noisy
from process_groups import end_of
from test_two_processes import SAME_SHARDS, TWO_PROCESSES
from test_two_processes import start as start_processes
from tiny_runs import PRETRAINING, Run, assert_same_outcome, outcome

from amf_lightning.configuration import merge

POLICIES = [Dropping, Noisy]


def changes(policy: type, budget: int = 2, **more: Any) -> dict[str, Any]:
    """A run of one demonstration a round."""
    of_run = {
        "model": {"policy": {"class_path": f"drawing_policies.{policy.__name__}"}},
        "selector": {"class_path": "RoundRobin"},
        "data": {"steps_per_round": 12},
        "active": {"budget": budget, "batch_size": 1},
        **more,
    }
    return dict(merge(PRETRAINING, of_run))


@pytest.fixture(scope="module", params=POLICIES)
def policy(request: pytest.FixtureRequest) -> type:
    kind: type = request.param
    return kind


@pytest.fixture(scope="module")
def at_once(policy: type, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("at_once") / "run", changes(policy)).complete()


def test_a_run_that_is_prolonged_is_the_one_that_was_long_from_the_start(
    policy: type, at_once: Run, tmp_path: Path
) -> None:
    Run(tmp_path / "run", changes(policy, budget=1)).complete()
    assert_same_outcome(Run(tmp_path / "run", changes(policy)).complete(), at_once)


def test_a_run_that_was_killed_in_mid_round_ends_as_if_it_had_not_been(
    policy: type, at_once: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path / "run", changes(policy))
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), at_once)


def test_another_seed_draws_otherwise(policy: type, at_once: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "run", changes(policy, seed_everything=1)).complete()
    assert outcome(other)["policy.safetensors"] != outcome(at_once)["policy.safetensors"]


@pytest.mark.slow
def test_two_processes_draw_what_one_draws_that_accumulates_two_gradients(tmp_path: Path) -> None:
    together, alone = (
        Run(tmp_path / name, changes(Noisy, budget=1), options)
        for name, options in (("together", TWO_PROCESSES), ("alone", SAME_SHARDS))
    )
    assert end_of(start_processes(together), within=240) == 0, together.log.read_text()
    assert_same_outcome(together, alone.complete())
