"""A round's policy is deployed only where the rollouts before the next choice say that it is better."""

import signal
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import kill_points
import pytest
from tiny_runs import Run, assert_same_outcome

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.configuration import merge
from amf_lightning.demonstrations.batches import BLOCK
from amf_lightning.errors import InputError
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.policies.weights import load_policy
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.gap_reduction import GapReduction

GOALS = ("goal=-1", "goal=-0.5", "goal=0.5", "goal=1")


def changes(margin: float | None, budget: int = 8, resolution: float = 0.0) -> dict[str, Any]:
    selector = {"class_path": "GapReduction", "init_args": {"deploy_margin": margin, "resolution": resolution}}
    return {"selector": selector, "active": {"budget": budget, "batch_size": 2}}


def scores(run: Run) -> list[dict[str, float]]:
    """Of every task at every evaluation."""
    found: dict[int, dict[str, float]] = {}
    for row in run.folder.read_curve():
        if row.task != MEAN:
            found.setdefault(row.demonstrations, {})[row.task] = row.score
    return list(found.values())


def before_choices(run: Run) -> list[float]:
    """The mean gap before each of its five choices."""
    with closing(Ledger(run.folder.ledger, read_only=True)) as ledger:
        said = [ledger.diagnostics(number) for number in range(5)]
    return [sum(each[f"gap/{goal}"] for goal in GOALS) / len(GOALS) for each in said]


def tell_gaps() -> None:
    """Has every decision print the mean gaps of all policies that it goes by."""
    gaps = GapReduction.gaps

    def told(self: GapReduction, context: SelectionContext) -> Any:
        found = gaps(self, context)
        assert found is not None
        print("GAPS", *(float(each).hex() for each in found.mean(1)))
        return found

    GapReduction.gaps = told  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def latest(runs_from: Callable[..., Callable[..., Run]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Five rounds, of which the latest policy is always deployed."""
    run: Run = runs_from(tmp_path_factory.mktemp("latest"))("run", changes(None, 10)).complete()
    return run


@pytest.mark.parametrize(
    ("margin", "resolution", "last"),
    [(0.0, 0.0, 4), (0.05, 0.0, 3), (0.1, 0.0, 3), (0.3, 0.0, 0), (0.4, 0.0, 4), (0.15, 0.99, 0)],
)
def test_what_is_deployed_is_what_looked_better_and_nothing_else_changes(
    make_run: Callable[..., Run], latest: Run, pretrained: Path, margin: float, resolution: float, last: int
) -> None:
    if resolution:  # below which other choices are made, too
        latest = make_run("latest", changes(None, 10, resolution)).complete()
    run = make_run("run", changes(margin, resolution=resolution)).complete(tell_gaps)
    assert [job.task for job in run.folder.read_selections()] == [
        job.task for job in latest.folder.read_selections()[:8]
    ]
    said = [line.split()[1:] for line in run.log.read_text().splitlines() if line.startswith("GAPS")]
    decisions = [[float.fromhex(gap) for gap in line] for line in said]
    assert [len(gaps) for gaps in decisions] == [2, 3, 4, 5]
    # The policy that each looked at is the one before the next choice; the longer run made that after the last, too.
    assert [gaps[-1] for gaps in decisions] == pytest.approx(before_choices(latest)[1:])
    of_latest, deployed = scores(latest), 0
    expected = of_latest[:1]
    for number, gaps in enumerate(decisions, start=1):
        if gaps[number] < max(gaps[deployed] - margin, margin / 2):
            deployed = number
        expected.append(of_latest[deployed])
    assert scores(run) == expected
    assert deployed == last
    kept = "Deployed is the policy after" in run.folder.report.read_text()
    assert kept == (deployed < 4) and ("stays deployed" in run.log.read_text()) == (len(set(map(str, expected))) < 5)
    if not deployed:
        assert "the policy after 0 stays deployed" in run.log.read_text()
        exported, start = (load_policy(str(path)).make() for path in (run.folder.policy, pretrained))
        assert weights_hash(exported) == weights_hash(start)


def test_it_is_remembered_over_a_kill_and_when_the_budget_is_raised(make_run: Callable[..., Run]) -> None:
    whole, run = make_run("whole", changes(0.05)).complete(), make_run("run", changes(0.05, 4))
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    run.complete()
    assert make_run("run", changes(None)).finish() == 2
    assert "selector.init_args.deploy_margin" in run.log.read_text().splitlines()[-1]
    assert_same_outcome(make_run("run", changes(0.05)).complete(), whole)


def test_what_is_evaluated_in_the_middle_of_a_round_is_not_decided_on(make_run: Callable[..., Run]) -> None:
    longer = merge(changes(0.0), {"data": {"steps_per_round": BLOCK + 1}})
    twice = make_run("twice", longer, ("--trainer.val_check_interval", "1")).complete()
    assert scores(twice) == scores(make_run("once", longer).complete())


@pytest.mark.parametrize("evidence", [{"class_path": "PrequentialError"}, None], ids=["what was", "nothing"])
def test_evidence_that_sees_nothing_of_the_policy_is_refused(make_run: Callable[..., Run], evidence: Any) -> None:
    run = make_run("run", merge(changes(0.0), {"selector": {"init_args": {"evidence": evidence}}}))
    assert run.finish() == 2
    assert "sees nothing of a policy that was just trained" in run.log.read_text()


@pytest.mark.parametrize("margin", [-0.1, 1.1, float("nan")])
def test_a_margin_that_means_nothing_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="a difference of two gaps"):
        GapReduction(deploy_margin=margin)


def count_episodes() -> None:
    """Has every evaluation print how many episodes it ran."""
    simulated = import_module("amf_lightning.evaluation.simulated")
    rollout = simulated.rollout

    def counted(acting: Any, suite: Any, episodes: Any, **options: Any) -> Any:
        print("EPISODES", len(episodes))
        return rollout(acting, suite, episodes, **options)

    vars(simulated)["rollout"] = counted


def test_a_policy_that_stays_deployed_is_not_evaluated_again(make_run: Callable[..., Run]) -> None:
    """It would do the same in the same episodes; no later policy is better by 0.3."""
    run = make_run("run", changes(0.3)).complete(count_episodes)
    ran = [int(line.split()[1]) for line in run.log.read_text().splitlines() if line.startswith("EPISODES")]
    assert ran == [8, 8, 0, 0, 0], "two of each task before the first round and after it"
    assert all(row == first for row, first in zip(scores(run), scores(run)[:1] * 5, strict=True))
