"""The proportional controller behind the protocol of experts."""

import pytest
import torch
from metaworld_marks import FETCH

from amf_lightning.errors import InputError
from amf_lightning.experts.fetch import FetchExpert
from amf_lightning.suites.fetch import Fetch
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode

pytestmark = FETCH


@pytest.mark.parametrize("kind", ["reach", "push", "pick"])
def test_it_solves_every_task_from_nine_of_ten_starts(kind: str) -> None:
    """At the first attempt, with the executed noise of the shipped configuration."""
    suite = Fetch(kind, reference=None)
    suite.parallel_episodes = 8  # environments take longer to make than to step
    expert = FetchExpert(noise=0.1, successes_only=False)
    demonstrations = expert.demonstrate(
        suite, [Episode(task, seed) for task in suite.tasks for seed in range(100, 110)]
    )
    solved = {
        task.name: sum(bool(shown.success) for shown in demonstrations if shown.task == task.name)
        for task in suite.tasks
    }
    assert min(solved.values()) >= 9, solved
    assert max(abs(shown.actions).max() for shown in demonstrations) == 1.0


def test_it_gives_equal_requests_equal_demonstrations() -> None:
    suite = Fetch(["pick-table-left", "reach-far-right"], horizon=30, reference=None)
    expert = FetchExpert(noise=0.1)
    episodes = [Episode(task, 7) for task in suite.tasks]
    first, second = (expert.demonstrate(suite, episodes) for _ in range(2))
    for one, other, episode in zip(first, second, episodes, strict=True):
        assert one.success and one.task == episode.task.name
        assert one.actions.tobytes() == other.actions.tobytes() and one.state.tobytes() == other.state.tobytes()


def test_it_acts_by_the_task_of_each_row() -> None:
    """With the gripper at rest above an object, open, and the goal in front of both."""
    suite = Fetch(["pick-table-left", "reach-near-left", "push-far-left"], reference=None)
    row = torch.zeros(28)
    row[:3], row[3:6], row[9:11] = torch.tensor([1.3, 0.7, 0.5]), torch.tensor([1.3, 0.7, 0.425]), 0.05
    row[25:28] = torch.tensor([1.32, 0.7, 0.425])
    tasks = torch.tensor([0, 1, 1, 2, 0])
    rows = torch.stack([row, row, row, row, torch.zeros(28)])
    actions = FetchExpert().actor(suite).act(Steps({"state": rows}, tasks, torch.eye(3)[tasks]))
    assert actions[0] == pytest.approx(torch.tensor([0.0, 0.0, -0.75, 1.0]), abs=1e-5), "down, with open fingers"
    assert actions[1] == pytest.approx(torch.tensor([0.2, 0.0, -0.75, -1.0]), abs=1e-5), "straight to the goal"
    assert torch.equal(actions[1], actions[2])
    assert actions[3].tolist() == [0.0, 0.0, 0.0, -1.0], "the object is near enough to the goal"
    assert torch.isfinite(actions[4]).all(), "a row of no episode"


def test_another_suite_is_refused() -> None:
    with pytest.raises(InputError, match="knows the suite Fetch, not 'HalfCheetahVelocity'"):
        FetchExpert().actor(HalfCheetahVelocity(reference=None))
