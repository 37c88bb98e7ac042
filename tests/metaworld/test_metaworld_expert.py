"""The scripted policies behind the protocol of experts."""

import warnings

import pytest
import torch
from metaworld_marks import METAWORLD

from amf_lightning.errors import InputError
from amf_lightning.experts.metaworld import MetaworldExpert
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.suites.metaworld import Metaworld
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode

pytestmark = METAWORLD


def test_it_shows_all_of_mt10_and_says_nothing() -> None:
    suite = Metaworld("MT10")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        demonstrations = MetaworldExpert().demonstrate(suite, [Episode(task, 1000) for task in suite.tasks])
    assert [shown.task for shown in demonstrations] == [task.name for task in suite.tasks]
    assert all(shown.success for shown in demonstrations)
    assert max(abs(shown.actions).max() for shown in demonstrations) == 1.0


def test_an_episode_that_fails_is_tried_again_from_elsewhere() -> None:
    """sweep-into is solved in 80 % of the episodes."""
    suite = Metaworld(["sweep-into"])
    episodes = [Episode(suite.tasks[0], seed) for seed in range(1000, 1020)]
    once = MetaworldExpert(successes_only=False).demonstrate(suite, episodes)
    failed = [shown.seed for shown in once if not shown.success]
    assert failed
    again = MetaworldExpert().demonstrate(suite, episodes)
    assert all(shown.success for shown in again)
    retried = [episode.seed for episode, shown in zip(episodes, again, strict=True) if shown.seed != episode.seed]
    assert retried == failed


@pytest.mark.filterwarnings("ignore:Constant")  # the script itself says that the arm cannot do all that it asks
def test_it_acts_as_the_script_of_the_task_in_each_row() -> None:
    from metaworld.policies import SawyerFaucetCloseV3Policy, SawyerFaucetOpenV3Policy

    suite = Metaworld(["faucet-open", "faucet-close"])
    episodes = [Episode(task, 1000) for task in suite.tasks]
    rows = torch.stack([torch.from_numpy(shown.state[10]) for shown in MetaworldExpert().demonstrate(suite, episodes)])
    tasks = torch.tensor([0, 1, 0])
    steps = Steps({"state": torch.cat([rows, torch.zeros(1, 39)])}, tasks, torch.eye(2)[tasks])
    actions = MetaworldExpert().actor(suite).act(steps)
    for row, action, policy in zip(
        rows, actions, (SawyerFaucetOpenV3Policy(), SawyerFaucetCloseV3Policy()), strict=False
    ):
        assert action.tolist() == policy.get_action(row.double().numpy()).clip(-1, 1).tolist()
    assert actions[2].tolist() == [0.0] * 4, "a row of no episode"


def test_another_suite_is_refused() -> None:
    with pytest.raises(InputError, match="knows the suite Metaworld, not 'HalfCheetahVelocity'"):
        MetaworldExpert().actor(HalfCheetahVelocity(reference=None))
