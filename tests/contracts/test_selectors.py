"""What every selector keeps to, and every embedding, occupancy and aggregate within one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from making import every, made
from selection_world import context_of, demonstrate, mlp, statistics_of

from amf_lightning.catalogue import resolve
from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from tiny import TinySuite

SUITE = TinySuite()
SHOWN = [0, 1, 1]


def context(**changes: Any) -> SelectionContext:
    """The second round of a run in which everything that may be privileged is known."""
    policy, demonstrations = mlp(SUITE), demonstrate(SUITE, SHOWN)
    scores = ((0.1, 0.2, 0.3, 0.4), (0.5, 0.6, 0.2, 0.1))
    facts: dict[str, Any] = {
        "statistics": statistics_of(policy, SUITE, demonstrations[:1]),
        "demonstrations": demonstrations,
        "round": 1,
        "pretraining_counts": (3, 0, 1, 0),
        "scores": scores[-1],
        "score_history": scores,
        "evaluated_after": (0, len(demonstrations)),
        "lookahead": lambda tasks: sum((task + 1) / 10 for task in tasks),
    }
    return context_of(SUITE, policy, **{**facts, **changes})


def quick(selector: Selector) -> Selector:
    """The same with fewer optimiser steps, where it trains."""
    if hasattr(selector, "steps"):
        selector.steps = 5
    return selector


def select(name: str, batch: int = 3, **changes: Any) -> Selection:
    return quick(made("selector", name, SUITE)).select(context(**changes), batch)


def same(first: Selection, second: Selection) -> bool:
    return first.picks == second.picks and repr(first.scores) == repr(second.scores)


@pytest.mark.parametrize("name", every("selector"))
def test_it_picks_as_many_tasks_as_it_is_asked_for_with_a_score_of_every_task(name: str) -> None:
    for batch in (1, 3):
        selection = select(name, batch)
        assert len(selection.picks) == len(selection.scores) == batch
        assert set(selection.picks) <= set(range(len(SUITE.tasks)))
        assert {len(row) for row in selection.scores} == {len(SUITE.tasks)}
        assert all(isinstance(value, float) for value in selection.diagnostics.values())


@pytest.mark.parametrize("name", every("selector"))
def test_it_chooses_again_what_it_has_chosen_and_carries_nothing_from_round_to_round(name: str) -> None:
    used = quick(made("selector", name, SUITE))
    used.select(context(round=0, demonstrations=[]), 2) if name != "FixedSchedule" else None
    assert same(used.select(context(), 3), select(name))
    assert same(select(name), select(name))


@pytest.mark.parametrize("name", every("selector"))
def test_it_never_asks_for_what_ran_out(name: str) -> None:
    if name == "FixedSchedule":  # somebody wrote down what it asks for
        with pytest.raises(InputError, match="no demonstration is left"):
            select(name, 3, remaining=(0.0, 0.0, 2.0, 0.0))
        return
    assert set(select(name, 2, remaining=(0.0, 0.0, 2.0, 0.0)).picks) == {2}
    with pytest.raises(InputError):
        select(name, 1, remaining=(0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize("name", every("selector"))
def test_what_is_pending_is_as_good_as_asked_for(name: str) -> None:
    """It does not disturb the choice, and of a task whose last demonstration is pending nothing is asked."""
    selection = select(name, 2, pending=(3,), remaining=(9.0, 9.0, 9.0, 1.0) if name != "FixedSchedule" else None)
    assert len(selection.picks) == 2
    assert name == "FixedSchedule" or 3 not in selection.picks


@pytest.mark.parametrize("name", every("selector"))
def test_it_says_what_it_needs_and_the_suite_it_can_serve(name: str) -> None:
    selector = made("selector", name, SUITE)
    selector.check(SUITE, 4)
    assert all(isinstance(need, Need) for need in selector.needs)
    for component in selector.components.values():
        assert set(component.needs) <= set(selector.needs), "it needs what its parts need"
    privileged = "PRIVILEGED" in (type(selector).__doc__ or "")
    assert privileged == any(need.privileged for need in selector.needs), "its docstring says whether it is privileged"


@pytest.mark.parametrize("name", every("selector"))
def test_it_does_not_look_at_privileged_information_that_it_does_not_declare(name: str) -> None:
    needs = made("selector", name, SUITE).needs
    hidden: dict[str, Any] = {}
    if Need.PRETRAINING_COUNTS not in needs:
        hidden["pretraining_counts"] = None
    if Need.EVALUATIONS not in needs:
        hidden |= {"scores": None, "score_history": (), "evaluated_after": ()}
    if Need.TRIAL_TRAINING not in needs:
        hidden["lookahead"] = None
    if Need.SIMULATOR not in needs:

        def refuse(*_: Any) -> Any:
            raise AssertionError(f"{name} ran a rollout")

        hidden["rollout"] = refuse
    assert same(select(name, **hidden), select(name))


@pytest.mark.parametrize("occupancy", every("occupancy"))
@pytest.mark.parametrize("embedding", every("embedding"))
def test_an_embedding_and_an_occupancy_serve_information_gain_or_say_why_not(embedding: str, occupancy: str) -> None:
    parts = [made(key, name, SUITE) for key, name in (("embedding", embedding), ("occupancy", occupancy))]
    if Need.EXPERT_ACTIONS in parts[0].needs and not parts[1].has_actions:
        with pytest.raises(InputError, match=occupancy):
            resolve("selector", "InformationGain")(*parts)
        return
    selector = resolve("selector", "InformationGain")(*parts)
    if embedding == "PolicyBelief":
        with pytest.raises(InputError, match="GaussianProcessPolicy"):
            selector.select(context(), 3)
        return
    selection = selector.select(context(), 3)
    scored = [score for row in selection.scores for score in row if score == score]
    assert len(selection.picks) == 3 and all(score >= -1e-9 for score in scored), "information is never negative"


@pytest.mark.parametrize("aggregate", every("aggregate"))
@pytest.mark.filterwarnings("ignore:Variance is unbounded")
def test_gains_of_an_aggregate_are_not_negative_and_grow_with_uncertainty(aggregate: str) -> None:
    selector = resolve("selector", "InformationGain")(aggregate=made("aggregate", aggregate, SUITE))
    sure, unsure = (
        replace(selector.select(context(demonstrations=demonstrate(SUITE, shown)), 1)) for shown in ([3] * 6, [0])
    )
    assert all(score >= 0 for row in (*sure.scores, *unsure.scores) for score in row)
    assert unsure.scores[0][3] > sure.scores[0][3], "what was shown six times has less to tell"


@pytest.mark.parametrize("kernel", every("kernel"))
def test_a_kernel_is_a_covariance_of_unit_variance(kernel: str) -> None:
    points = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance = made("kernel", kernel, SUITE)(points, points)
    torch.testing.assert_close(covariance, covariance.T)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(12, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-9
