from collections.abc import Sequence

import numpy as np
import pytest
import torch

from amf_lightning.evaluation.metric import EpisodeMetric, Measured
from amf_lightning.simulation.outcomes import EpisodeResult
from amf_lightning.tasks.failure import FailureReason

TASKS, EPISODES = 4, 5
Slot = tuple[int, int]


def episode(task: int, number: int) -> EpisodeResult:
    rng = np.random.default_rng([task, number])
    total = float(rng.normal(size=int(rng.integers(1, 30))).sum() * 10.0 ** rng.integers(-8, 8))
    reason = (None, FailureReason.EARLY, FailureReason.ACTION)[int(rng.integers(3))]
    return EpisodeResult(total, bool(rng.integers(2)), reason, begun=number > 0)


def metric_of(slots: Sequence[Slot], batch: int = 3) -> EpisodeMetric:
    metric = EpisodeMetric(TASKS, EPISODES)
    metric.update([], [], [])
    for start in range(0, len(slots), batch):
        part = slots[start : start + batch]
        metric.update([episode(*slot) for slot in part], [task for task, _ in part], [number for _, number in part])
    return metric


def merged(parts: Sequence[EpisodeMetric]) -> EpisodeMetric:
    """What synchronising processes does to states whose `dist_reduce_fx` is "sum"."""
    whole = EpisodeMetric(TASKS, EPISODES)
    whole.update([], [], [])
    for name in ("returns", "successes", "reasons", "begun", "counted"):
        reduction = whole._reductions[name]
        assert callable(reduction)
        setattr(whole, name, reduction(torch.stack([getattr(part, name) for part in parts])))
    return whole


def bits(measured: Measured) -> list[object]:
    return [measured.returns.numpy().tobytes(), measured.successes.numpy().tobytes(), *measured[2:]]


ALL = [(task, number) for task in range(TASKS) for number in range(EPISODES)]


def test_means_are_those_of_numpy() -> None:
    returns, successes, failures, begun, _ = metric_of(ALL).compute()
    assert begun
    assert returns.dtype == successes.dtype == torch.float64
    for task in range(TASKS):
        episodes = [episode(task, number) for number in range(EPISODES)]
        assert returns[task].item() == pytest.approx(np.mean([e.counted_return for e in episodes]), rel=1e-12)
        assert successes[task].item() == np.mean([e.success for e in episodes])
        reasons = [str(e.reason) for e in episodes if e.reason is not None]
        assert failures[task] == {reason: reasons.count(reason) for reason in ("action", "early") if reason in reasons}


@pytest.mark.parametrize("ranks", [1, 2, 3, 20, 25])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_division_of_episodes_over_processes_does_not_change_a_bit(ranks: int, batch: int) -> None:
    order = np.random.default_rng(ranks).permutation(len(ALL))
    shuffled = [ALL[i] for i in order]
    whole = merged([metric_of(shuffled[rank::ranks], batch) for rank in range(ranks)])
    assert bits(whole.compute()) == bits(metric_of(ALL).compute())


def test_a_missing_episode_is_named() -> None:
    with pytest.raises(RuntimeError, match="episode 4 of task 3 was counted 0 times"):
        metric_of(ALL[:-1]).compute()


def test_an_episode_counted_on_two_processes_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"episode 1 of task 2 was counted 2 times .* 0 other"):
        merged([metric_of(ALL), metric_of([(2, 1)])]).compute()


def test_an_episode_counted_twice_does_not_stand_for_a_missing_one() -> None:
    with pytest.raises(RuntimeError, match="counted 2 times"):
        metric_of([*ALL[:-1], ALL[0]]).compute()


def test_an_episode_outside_the_table_is_refused() -> None:
    with pytest.raises(IndexError):
        metric_of([(TASKS, 0)])
    with pytest.raises(ValueError, match="shorter"):
        EpisodeMetric(TASKS, EPISODES).update([episode(0, 0)], [0], [])


def test_reset_empties_the_table() -> None:
    metric = metric_of(ALL)
    metric.reset()
    metric.update([], [], [])
    with pytest.raises(RuntimeError, match="episode 0 of task 0 was counted 0 times"):
        metric.compute()
