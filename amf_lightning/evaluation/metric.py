"""Collects the outcomes of evaluation episodes, on one process or several, into one number a task."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from amf_lightning.simulation.outcomes import EpisodeResult, Failures, count_failures
from amf_lightning.tasks.failure import REASONS


class Measured(NamedTuple):
    """What the episodes of all tasks came to."""

    returns: Tensor
    """Mean `counted_return` of each task, [K] float64."""
    successes: Tensor
    """Success rate of each task, [K] float64."""
    failures: tuple[Failures, ...]
    """Of each task, [K]."""
    begun: bool
    """Whether any episode got further than its first step."""
    first: "Measured | None" = None
    """What the first episodes of each task alone came to, if that was asked for."""


class EpisodeMetric(Metric):
    """Mean return, success rate and reasons of failures of each of K tasks over E episodes.

    Every episode has a slot of its own, [K, E], and processes are merged by adding zeros to it. The mean is taken
    afterwards, in one order, so the result has the same bits however the episodes were divided.

    Args:
        task_count: K.
        episodes: E, evaluation episodes of each task.
        first: F ≤ E, also tell what the first F of each task came to, with the bits of a metric of F episodes.
        device: of the run; the numbers are on it if it is a GPU, because NCCL merges no others.
    """

    full_state_update = False
    returns: Tensor
    successes: Tensor
    reasons: Tensor
    begun: Tensor
    counted: Tensor

    def __init__(
        self, task_count: int, episodes: int, device: torch.device | None = None, first: int | None = None
    ) -> None:
        super().__init__()
        self._first = first
        shape = (task_count, episodes)
        self.add_state("returns", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("successes", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        # 0: it did not end before its time without a success; else the number of the reason, from 1.
        self.add_state("reasons", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("begun", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("counted", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        if device is not None and device.type == "cuda":
            self.to(device)

    def update(
        self, results: Sequence[EpisodeResult], task_indices: Sequence[int], episode_indices: Sequence[int]
    ) -> None:
        """Puts each result into the slot (task, episode). A process without episodes gives empty sequences."""
        for result, *slot in zip(results, task_indices, episode_indices, strict=True):
            self.returns[tuple(slot)] += result.counted_return
            self.successes[tuple(slot)] += float(result.success)
            self.reasons[tuple(slot)] += 0 if result.reason is None else 1 + REASONS.index(result.reason)
            self.begun[tuple(slot)] += int(result.begun)
            self.counted[tuple(slot)] += 1

    def compute(self) -> Measured:
        """What they came to, with tensors on the CPU.

        Raises:
            RuntimeError: an episode is missing or was counted twice; names the first.
        """
        wrong = torch.nonzero(self.counted != 1)
        if len(wrong):
            task, episode = wrong[0].tolist()
            raise RuntimeError(
                f"episode {episode} of task {task} was counted {int(self.counted[task, episode])} times instead of "
                f"once, and so were {len(wrong) - 1} other episodes counted wrongly"
            )
        first = None if self._first is None else self._of(self._first)
        return self._of(self.returns.shape[1])._replace(first=first)

    def _of(self, episodes: int) -> Measured:
        """What the first episodes of each task came to."""
        returns, successes, numbers, begun = (
            each[:, :episodes].contiguous().cpu() for each in (self.returns, self.successes, self.reasons, self.begun)
        )
        reasons = [[REASONS[number - 1] if number else None for number in row] for row in numbers.tolist()]
        failures = tuple(count_failures(row) for row in reasons)
        # A GPU adds in another order, and the scores of π0 would depend on where it is trained.
        return Measured(returns.mean(dim=1), successes.mean(dim=1), failures, bool(begun.any()))
