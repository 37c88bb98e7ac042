"""Runs whose expert does not answer at once: they end in good order, and the same command goes on with the answers."""

from collections.abc import Callable
from typing import Any

from tiny_runs import Run, assert_same_outcome

from amf_lightning.campaign.campaign import Campaign
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()
WAITING = 75
CHANGES: dict[str, Any] = {"active": {"budget": 4, "batch_size": 2}}
"""Two rounds of two."""


def absent(*knows: str) -> dict[str, Any]:
    return CHANGES | {"expert": {"class_path": "absent.AbsentExpert", "init_args": {"knows": list(knows)}}}


def answer(run: Run) -> list[int]:
    """Somebody answers all open requests, the last one first; returns their numbers."""
    campaign = Campaign(run.path, SUITE)
    pending = campaign.pending
    for request, episode in reversed(list(zip(pending, campaign.episodes(pending), strict=True))):
        campaign.tell(request, TinyExpert().demonstrate(SUITE, [episode])[0])
    return [request.demonstration for request in pending]


def test_a_run_that_waits_in_every_round_ends_like_one_that_never_waits(make_run: Callable[..., Run]) -> None:
    run = make_run("run", absent())
    assert run.finish() == WAITING
    assert "Demonstration 1 (round 0): " in run.log.read_text() and "Traceback" not in run.log.read_text()
    assert not run.folder.policy.exists() and not run.folder.report.exists()
    assert run.finish() == WAITING, "asking again changes nothing"
    assert answer(run) == [0, 1]
    assert run.finish() == WAITING
    assert answer(run) == [2, 3]
    run.complete()
    reference = make_run("reference", CHANGES).complete()
    assert_same_outcome(run, reference)


def test_the_part_of_a_batch_that_is_answered_is_kept(make_run: Callable[..., Run]) -> None:
    schedule = {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["goal=1", "goal=-1"] * 2}}}
    run = make_run("run", absent("goal=-1") | schedule)
    assert run.finish() == WAITING
    status = Campaign(run.path).status()
    assert (status.total.answered, [request.task for request in status.pending]) == (1, ["goal=1"])
    assert answer(run) == [0]
    assert run.finish() == WAITING
    assert answer(run) == [2]
    assert_same_outcome(run.complete(), make_run("reference", CHANGES | schedule).complete())


def test_a_request_that_is_skipped_is_made_up_for(make_run: Callable[..., Run]) -> None:
    run = make_run("run", absent() | {"selector": {"class_path": "RoundRobin"}})
    assert run.finish() == WAITING
    campaign = Campaign(run.path, SUITE)
    for request in campaign.pending:
        campaign.skip(request, "the robot is broken")
    for numbers in ([2, 3], [4, 5]):
        assert run.finish() == WAITING
        assert answer(run) == numbers
    run.complete()
    assert [request.demonstration for request in run.folder.read_selections()] == [2, 3, 4, 5]
    assert run.folder.finished(4)


def test_a_demonstration_that_nobody_asked_for_is_trained_on_with_the_round(make_run: Callable[..., Run]) -> None:
    run = make_run("run", absent())
    assert run.finish() == WAITING
    campaign = Campaign(run.path, SUITE)
    [shown] = TinyExpert().demonstrate(SUITE, [campaign.pending[0].episode(SUITE)])
    unasked = campaign.tell_unasked(shown)
    assert answer(run) == [0, 1]
    assert run.finish() == WAITING
    assert answer(run) == [3], "the budget is what counts, asked for or not"
    run.complete()
    requests = run.folder.read_selections()
    assert [request.round for request in requests] == [0, 0, 0, 1]
    assert repr(requests[2]) == repr(unasked)
    assert run.folder.finished(4)


def test_bad_input_after_a_run_has_waited_leaves_its_requests(make_run: Callable[..., Run]) -> None:
    run = make_run("run", absent())
    assert run.finish() == WAITING
    before = Campaign(run.path).pending
    assert make_run("run", absent() | {"active": {"budget": 1, "batch_size": 1}}).finish() == 2
    assert repr(Campaign(run.path).pending) == repr(before)
    answer(run)
    assert run.finish() == WAITING
