"""An entry that no task of π0 moved, and that a new task moves: it is learned from, or somebody is told."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from still_world import StillExpert, StillSuite
from tiny_runs import PRETRAINING, Run
from torch import Tensor

from amf_lightning.configuration import merge
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.unfamiliar import Familiarity
from amf_lightning.tasks.steps import Steps, steps_of
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = StillSuite()


@pytest.fixture(autouse=True)
def nothing_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def demonstrations(*tasks: int) -> list[Trajectory]:
    return list(StillExpert().demonstrate(SUITE, [Episode(SUITE.tasks[task], 5 + task) for task in tasks]))


def policy(**options: Any) -> MLPPolicy:
    """Normalised to tasks whose last entry is still."""
    torch.manual_seed(0)
    made = MLPPolicy(SUITE.observation, 1, 1, (32, 32), **options)
    made.fit_normaliser(steps_of(demonstrations(0, 1, 2), SUITE))
    return made


def trained(learner: MLPPolicy) -> Tensor:
    """Error of each action of the new task after 60 steps on one demonstration of it, from a π0 that was trained."""
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    for tasks, count in (((0, 1, 2), 300), ((3,), 60)):
        rows = steps_of(demonstrations(*tasks), SUITE)
        for _ in range(count):
            optimizer.zero_grad()
            learner.loss(rows).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return learner.loss(steps_of(demonstrations(3), SUITE)).detach()


def test_an_entry_that_never_moved_is_divided_by_its_magnitude_and_at_least_by_one() -> None:
    made = MLPPolicy(4, 1, 1)
    state = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    state[:, 0], state[:, 1], state[:, 2] = 0.0, -300.0 + 1e-5 * state[:, 1], 0.005 * state[:, 2]
    made.fit_normaliser(Steps.of_state(state, torch.zeros(50, 1)))
    assert made.std[:3].tolist() == pytest.approx([1.0, 300.0, 0.01])
    assert made.std[3] == state[:, 3].std(), "what moves is divided as ever"


def test_a_first_demonstration_of_one_step_and_numbers_whose_squares_are_infinite_leave_finite_weights() -> None:
    one, huge = MLPPolicy(2, 1, 1), MLPPolicy(2, 1, 1)
    one.fit_normaliser(Steps.of_state(torch.tensor([[0.0, 5.0]]), torch.zeros(1, 1)))
    assert one.std.tolist() == [1.0, 5.0]
    huge.fit_normaliser(Steps.of_state(torch.tensor([[0.0, 1e25], [1.0, -1e25]]), torch.zeros(2, 1)))
    assert huge.std.isfinite().all() and huge.std[1] > 1e25


def test_numbers_of_another_type_are_read_as_those_of_the_weights() -> None:
    made = policy()
    rows = steps_of(demonstrations(0), SUITE)
    double = Steps.of_state(rows.state.double(), rows.contexts)
    assert torch.equal(made.act(double), made.act(rows))


def test_the_default_learns_a_task_that_moves_an_entry_which_was_still() -> None:
    near, far = trained(policy()), trained(policy(smallest_std=1e-3))
    assert float(near.mean()) < 0.02 < float(far.mean())


def test_the_task_the_entry_how_far_off_it_is_and_the_way_out_are_said_once() -> None:
    message = (
        r"^Round 2: in the demonstrations of task 'goal=1' entry 2 of the observation, about 1, is 100 standard "
        r"deviations from .*smallest_std as large as"
    )
    familiarity, made = Familiarity(SUITE), policy(smallest_std=0.01)
    familiarity.look(made, demonstrations(0, 1), round=0)
    with pytest.warns(UserWarning, match=message) as told:
        familiarity.look(made, demonstrations(0, 1, 3, 3), round=2)
    assert len(told) == 1
    familiarity.look(made, demonstrations(0, 1, 3, 3, 3), round=3)


def test_what_is_made_of_others_is_looked_at_too_and_what_is_not_normalised_is_not() -> None:
    isolated = IsolatedPolicy.of(policy(smallest_std=0.01), SUITE.contexts, (0, 0, 1, 1), SUITE.dimensions)
    with pytest.warns(UserWarning, match="is 100 standard deviations"):
        Familiarity(SUITE).look(isolated, demonstrations(3), round=0)

    class Plain(Policy):
        def act(self, steps: Steps) -> Tensor:
            return steps.contexts

    Familiarity(SUITE).look(Plain(), demonstrations(3), round=0)


def test_contexts_that_nobody_scaled_are_told_at_the_start() -> None:
    suite = TinySuite()
    suite.tasks = (*suite.tasks[:3], type(suite.tasks[3])("far", 3, (800.0,), 12, {"goal": 1.0}))
    with pytest.warns(UserWarning, match="context of task 'far' has an entry of size 800.*scale them to about 1"):
        Familiarity(suite)


def test_a_run_says_it_in_the_round_in_which_it_appears(tmp_path: Path) -> None:
    world = {
        "suite": {"class_path": "still_world.StillSuite"},
        "expert": {"class_path": "still_world.StillExpert"},
        "model": {"policy": {"class_path": "MLPPolicy", "init_args": {"hidden": [16], "smallest_std": 0.01}}},
    }
    start = Run(tmp_path / "start", merge(PRETRAINING, merge(world, {"data": {"steps_per_round": 20}}))).complete()
    shown = {"class_path": "FixedSchedule", "init_args": {"tasks": ["goal=0.5", "goal=1"]}}
    further = {
        "model": {"pretrained": str(start.folder.policy)},
        "selector": shown,
        "retention": {"class_path": "NoRetention"},
        "active": {"budget": 2, "batch_size": 1},
    }
    run = Run(tmp_path / "run", merge(world, further)).complete()
    assert "standard deviations" not in start.log.read_text()
    log = run.log.read_text()
    assert log.count("Round 1: in the demonstrations of task 'goal=1' entry 2 of the observation") == 1
    assert log.count("standard deviations") == 1
