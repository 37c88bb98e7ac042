import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from selection_world import demonstrate, mlp, statistics_of

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.learner import Learner
from amf_lightning.campaign.request import Request
from amf_lightning.errors import InputError
from amf_lightning.experts.scripted import IntegratorExpert
from amf_lightning.policies.weights import save_policy
from amf_lightning.selection.baselines import RoundRobin, Uniform
from amf_lightning.selection.informed import InformationGain
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()


def shown(campaign: Campaign, request: Request) -> Trajectory:
    """What the expert answers to a request."""
    return TinyExpert().demonstrate(SUITE, campaign.episodes([request]))[0]


def other(request: Request) -> Trajectory:
    """Another demonstration of the same task."""
    return TinyExpert().demonstrate(SUITE, [replace(request, seed=request.seed + 1).episode(SUITE)])[0]


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "run", SUITE, RoundRobin(), seed=5)


# -- by hand, as the README shows it ----------------------------------------------------------------------------------


def test_a_campaign_is_driven_by_hand(tmp_path: Path) -> None:
    suite, expert = Integrator(), IntegratorExpert()
    campaign = Campaign(tmp_path, suite, RoundRobin())
    for _ in range(3):
        requests = campaign.ask(4)
        assert campaign.ask(4) == requests
        for request, trajectory in zip(requests, expert.demonstrate(suite, campaign.episodes(requests)), strict=True):
            campaign.tell(request, trajectory)
        demonstrations = campaign.close_round()  # train on these
        assert len(demonstrations) == 4
    assert {name: counts.answered for name, counts in campaign.status().tasks.items()} == {
        task.name: 1 for task in suite.tasks
    }


@pytest.mark.filterwarnings("ignore:The largest variance of the belief")
def test_a_campaign_asks_by_information_gain_with_a_policy_from_a_file(tmp_path: Path) -> None:
    suite, expert = Integrator(angles=(0, 90, 180, 270)), IntegratorExpert()
    path, policy = tmp_path / "policy.safetensors", mlp(suite)
    before = demonstrate(suite, [0, 0, 1], expert=expert.actor(suite))
    save_policy(path, policy, suite.signature(), statistics_of(policy, suite, before), {"0": 2})
    campaign = Campaign(tmp_path / "run", suite, InformationGain())
    learner = Learner.from_file(str(path), suite)
    requests = campaign.ask(2, learner)
    assert "chosen by InformationGain with score" in requests[0].why([task.name for task in suite.tasks])
    for request, trajectory in zip(requests, expert.demonstrate(suite, campaign.episodes(requests)), strict=True):
        campaign.tell(request, trajectory)
    assert campaign.ledger.diagnostics(0)["environment_steps"] > 0
    with pytest.raises(InputError, match="`ask` was given no learner"):
        campaign.ask(1)


# -- asking -----------------------------------------------------------------------------------------------------------


def test_asking_again_gives_the_same_requests_until_they_are_answered(campaign: Campaign) -> None:
    first = campaign.ask(2)
    assert repr(Campaign(campaign.folder, SUITE, RoundRobin(), seed=5).ask(2)) == repr(first)
    campaign.tell(first[1], shown(campaign, first[1]))
    second = campaign.ask(2)
    assert second[0].demonstration == 0 and second[1].demonstration == 2
    assert len({request.task for request in (*first, second[1])}) == 3
    assert len(campaign.ask(0)) == 0


def test_uniform_draws_go_on_within_a_round(tmp_path: Path) -> None:
    """A round that is never closed must not ask for the same task for ever."""
    campaign = Campaign(tmp_path, SUITE, Uniform())
    for _ in range(12):
        [request] = campaign.ask(1)
        campaign.tell(request, shown(campaign, request))
    assert len(campaign.status().tasks) == 4


def test_seeds_are_those_of_a_run_that_asks_for_the_same_numbers(tmp_path: Path) -> None:
    policy = mlp(SUITE)
    fresh, continued = (
        Campaign(tmp_path / name, SUITE, RoundRobin(), seed=5).ask(3, learner)
        for name, learner in (
            ("fresh", Learner(policy, policy)),
            ("continued", Learner(policy, policy, pretraining_counts=(1, 1, 0, 0))),
        )
    )
    assert continued[0].seed == fresh[2].seed, "what π0 has seen is not demonstrated again"


# -- being told -------------------------------------------------------------------------------------------------------


def test_telling_twice_is_once_and_another_answer_is_refused(campaign: Campaign) -> None:
    [request] = campaign.ask(1)
    trajectory = shown(campaign, request)
    sha256 = campaign.tell(request, trajectory)
    assert campaign.tell(0, trajectory) == sha256
    file = campaign.folder / "demonstrations" / "000000.safetensors"
    content = file.read_bytes()
    with pytest.raises(InputError, match="collected twice with different outcomes"):
        campaign.tell(request, other(request))
    assert file.read_bytes() == content


def test_answers_that_do_not_fit_are_not_kept(campaign: Campaign) -> None:
    [request] = campaign.ask(1)
    trajectory = shown(campaign, request)
    elsewhere = next(task.name for task in SUITE.tasks if task.name != request.task)
    with pytest.raises(InputError, match=f"'{request.task}' .* cannot be used: it is one of task '{elsewhere}'"):
        campaign.tell(request, replace(trajectory, task=elsewhere))
    with pytest.raises(InputError, match="each entry must lie in"):
        campaign.tell(request, replace(trajectory, actions=trajectory.actions * 3 + 2))
    with pytest.raises(InputError, match="no request 7"):
        campaign.tell(7, trajectory)
    with pytest.raises(InputError, match="no task 'elsewhere'"):
        campaign.tell_unasked(replace(trajectory, task="elsewhere"))
    assert not (campaign.folder / "demonstrations").exists()
    assert repr(campaign.pending) == repr([request])


def test_of_several_processes_that_answer_one_request_one_is_believed(campaign: Campaign) -> None:
    [request] = campaign.ask(1)
    answers = [replace(shown(campaign, request), seed=number) for number in range(4)]
    campaign.ledger.close()  # a connection must not be shared with a forked process
    children = []
    for answer in answers:
        if (child := os.fork()) == 0:
            try:
                Campaign(campaign.folder, SUITE).tell(request, answer)
            except InputError:
                os._exit(7)
            os._exit(0)
        children.append(child)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0, 7, 7, 7]
    [kept] = campaign.close_round()  # which compares the file with the recorded hash
    assert kept.seed in range(4)


def test_several_processes_share_the_answering(campaign: Campaign) -> None:
    requests = campaign.ask(8)
    answers = {request.demonstration: shown(campaign, request) for request in requests}
    unasked = other(requests[0])
    campaign.ledger.close()
    children = []
    for rank in range(2):
        if (child := os.fork()) == 0:
            mine = Campaign(campaign.folder, SUITE)
            for number in list(answers)[rank::2]:
                mine.tell(number, answers[number])
            mine.tell_unasked(unasked)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert campaign.status().total.answered == 8 and campaign.status().total.unasked == 2
    assert [request.demonstration for request in campaign.arrived()] == list(range(10))
    assert len(campaign.close_round()) == 10


def test_a_demonstration_nobody_asked_for_takes_the_next_number_and_counts(campaign: Campaign) -> None:
    first = campaign.ask(1)
    unasked = campaign.tell_unasked(other(first[0]))
    assert (unasked.demonstration, unasked.asked) == (1, False)
    assert "without being asked for" in unasked.why([task.name for task in SUITE.tasks])
    for request in campaign.ask(4)[1:]:
        assert request.task != first[0].task
    assert [request.demonstration for request in campaign.pending] == [0, 2, 3, 4]
    assert [trajectory.task for trajectory in campaign.close_round()] == [first[0].task]


# -- skipping and undoing ---------------------------------------------------------------------------------------------


def test_what_is_skipped_is_not_pending_and_can_be_taken_up_again(campaign: Campaign) -> None:
    requests = campaign.ask(2)
    campaign.skip(requests[0], "no such object")
    assert [request.demonstration for request in campaign.pending] == [1]
    assert campaign.ledger.skipped()[0].reason == "no such object"
    with pytest.raises(InputError, match="is skipped"):
        campaign.tell(requests[0], shown(campaign, requests[0]))
    assert [request.demonstration for request in campaign.ask(2)] == [1, 2]
    campaign.undo(requests[0])
    campaign.tell(requests[0], shown(campaign, requests[0]))
    with pytest.raises(InputError, match="is there already"):
        campaign.skip(requests[0], "too late")


def test_an_answer_is_taken_back_only_before_it_is_trained_on(campaign: Campaign) -> None:
    requests = campaign.ask(2)
    campaign.tell(requests[0], shown(campaign, requests[0]))
    campaign.undo(requests[0])
    assert [request.demonstration for request in campaign.pending] == [0, 1]
    campaign.tell(requests[0], other(requests[0]))
    [trained_on] = campaign.close_round()
    assert trained_on.seed == requests[0].seed + 1
    with pytest.raises(InputError, match="was trained on"):
        campaign.undo(requests[0])
    with pytest.raises(InputError, match="nothing to undo"):
        campaign.undo(requests[1])


def test_what_nobody_asked_for_is_taken_back_for_good(campaign: Campaign) -> None:
    [request] = campaign.ask(1)
    unasked = campaign.tell_unasked(other(request))
    campaign.undo(unasked)
    assert [each.demonstration for each in campaign.pending] == [0]
    assert campaign.status().total.unasked == 0
    with pytest.raises(InputError, match="nothing to undo"):
        campaign.undo(unasked)
    assert campaign.tell_unasked(other(request)).demonstration == 2, "numbers have no gaps and are used once"


# -- rounds -----------------------------------------------------------------------------------------------------------


def test_an_answer_that_comes_late_counts_in_the_round_in_which_it_comes(campaign: Campaign) -> None:
    late, early = campaign.ask(2)
    campaign.tell(early, shown(campaign, early))
    assert len(campaign.close_round()) == 1
    requests = campaign.ask(2)
    assert [(request.demonstration, request.round) for request in requests] == [(0, 0), (2, 1)]
    for request in reversed(requests):
        campaign.tell(request, shown(campaign, request))
    assert [trajectory.task for trajectory in campaign.close_round()] == [late.task, requests[1].task]
    assert [request.demonstration for request in campaign.arrived()] == [1, 0, 2]
    assert [request.demonstration for request in campaign.arrived(since=1)] == [0, 2]
    assert campaign.open_round == 2


def test_an_empty_round_is_not_closed(campaign: Campaign) -> None:
    campaign.ask(1)
    with pytest.raises(InputError, match="no demonstration to train on yet"):
        campaign.close_round()


def test_the_status_counts_all_of_it(campaign: Campaign) -> None:
    requests = campaign.ask(4)
    campaign.tell(requests[0], shown(campaign, requests[0]))
    campaign.skip(requests[1], "no time")
    campaign.tell_unasked(other(requests[2]))
    status = Campaign(campaign.folder).status()
    total = status.total
    assert (total.asked, total.answered, total.skipped, total.pending, total.unasked) == (4, 1, 1, 2, 1)
    assert [request.demonstration for request in status.pending] == [2, 3]
    assert list(status.tasks) == [task.name for task in SUITE.tasks]
    assert status.tasks[requests[2].task].unasked == 1
    assert status.open_round == 0


# -- without more than it needs ---------------------------------------------------------------------------------------


def test_a_campaign_is_read_without_torch(campaign: Campaign) -> None:
    campaign.ask(2)
    code = (
        "import sys; from pathlib import Path; from amf_lightning.campaign.campaign import Campaign\n"
        f"status = Campaign(Path({str(campaign.folder)!r})).status()\n"
        "assert status.total.pending == 2\n"
        "print([name for name in ('torch', 'gymnasium', 'mujoco', 'lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_campaign_for_reading_says_what_asking_takes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no selector to ask"):
        Campaign(tmp_path, SUITE).ask(1)
    with pytest.raises(InputError, match="made for reading alone"):
        Campaign(tmp_path, selector=RoundRobin()).ask(1)
    assert list(tmp_path.iterdir()) == []
