from collections import Counter

import pytest
import torch
from selection_world import context_of, demonstrate, mlp

from amf_lightning.errors import InputError
from amf_lightning.selection.baselines import FixedSchedule, RoundRobin, Uniform
from amf_lightning.selection.context import Selector
from amf_lightning.selection.privileged import Rebalancing
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)
REMAINING = (900, 0, 900, 0)


def run(selector: Selector, rounds: int, batch_size: int = 1, seed: int = 0) -> list[int]:
    """Picks of a run in which every pick is demonstrated."""
    picks: list[int] = []
    for number in range(rounds):
        known = demonstrate(SUITE, picks)
        context = context_of(SUITE, POLICY, demonstrations=known, round=number, seed=seed)
        picks += selector.select(context, batch_size).picks
    return picks


def test_uniform_draws_every_task_about_equally_often_and_with_replacement() -> None:
    context = context_of(SUITE, POLICY)
    counts = Counter(Uniform().select(context, 4000).picks)
    assert sorted(counts) == [0, 1, 2, 3]
    assert max(abs(count - 1000) for count in counts.values()) < 120  # 4 standard deviations
    assert any(len(set(run(Uniform(), 4, seed=seed))) < 4 for seed in range(5))


def test_uniform_is_keyed_by_seed_and_round() -> None:
    draws = {(seed, number): Uniform().select(context_of(SUITE, POLICY, seed=seed, round=number), 20).picks
             for seed in range(2) for number in range(2)}  # fmt: skip
    assert len(set(draws.values())) == 4
    assert draws[1, 1] == Uniform().select(context_of(SUITE, POLICY, seed=1, round=1), 20).picks


def test_every_cycle_of_round_robin_visits_every_task_once() -> None:
    picks = run(RoundRobin(), 12)
    cycles = [picks[start : start + 4] for start in range(0, 12, 4)]
    assert all(sorted(cycle) == [0, 1, 2, 3] for cycle in cycles)
    assert cycles[0] != cycles[1] or cycles[1] != cycles[2]
    assert picks != run(RoundRobin(), 12, seed=1)


def test_round_robin_does_not_depend_on_the_batch_size() -> None:
    assert run(RoundRobin(), 12) == run(RoundRobin(), 4, batch_size=3)


@pytest.mark.parametrize("selector", [Uniform(), RoundRobin(), Rebalancing()])
def test_tasks_that_ran_out_are_not_asked(selector: Selector) -> None:
    context = context_of(SUITE, POLICY, remaining=REMAINING, pretraining_counts=(5, 0, 5, 0))
    assert set(selector.select(context, 12).picks) == {0, 2}
    with pytest.raises(InputError, match="no task has a demonstration left"):
        selector.select(context_of(SUITE, POLICY, remaining=(0,) * 4, pretraining_counts=(0,) * 4), 1)


def test_a_schedule_of_names_is_followed_in_order_across_rounds() -> None:
    names = ["goal=1", "goal=-1", "goal=-1", "goal=0.5"]
    assert run(FixedSchedule(names), 2, batch_size=2) == [3, 0, 0, 2]


def test_a_schedule_of_counts_takes_turns() -> None:
    assert run(FixedSchedule({"goal=1": 3, "goal=-1": 1, "goal=0.5": 2}), 6) == [3, 0, 2, 3, 2, 3]


def test_a_schedule_is_checked_against_suite_and_budget() -> None:
    with pytest.raises(InputError, match=r"no task 'goal=0\.4'.*Did you mean"):
        FixedSchedule(["goal=0.4"]).check(SUITE, 1)
    schedule = FixedSchedule({"goal=1": 2})
    schedule.check(SUITE, 2)
    with pytest.raises(InputError, match=r"names 2 demonstrations, but 3 are asked for.*active\.budget"):
        schedule.check(SUITE, 3)
    with pytest.raises(InputError, match="names 2 demonstrations"):
        schedule.select(context_of(SUITE, POLICY), 3)
    with pytest.raises(InputError, match=r"'goal=-0\.5', of which no demonstration is left"):
        FixedSchedule(["goal=-0.5"]).select(context_of(SUITE, POLICY, remaining=REMAINING), 1)
    with pytest.raises(InputError, match="'goal=1', of which no demonstration is left"):
        FixedSchedule(["goal=1"] * 2).select(context_of(SUITE, POLICY, remaining=(1, 1, 1, 1)), 2)


def test_draws_do_not_depend_on_whether_there_is_an_end_of_demonstrations() -> None:
    endless, ample = (Uniform().select(context_of(SUITE, POLICY, remaining=left), 20) for left in (None, (99,) * 4))
    generator = context_of(SUITE, POLICY).generator()
    assert endless.picks == ample.picks == tuple(torch.randint(4, (20,), generator=generator).tolist())


@pytest.mark.parametrize(("tasks", "message"), [([], "names no"), ({"goal=1": 0}, "names no"), ({"a": -1}, "negative")])
def test_empty_schedules_are_refused(tasks: list[str] | dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FixedSchedule(tasks)
