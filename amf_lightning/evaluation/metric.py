"""Collects the outcomes of evaluation episodes, on one process or several, into one number a task."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from amf_lightning.tasks.trajectory import Trajectory


class EpisodeMetric(Metric):
    """Mean return and success rate of each of K tasks over E episodes.

    Every episode has a slot of its own, [K, E], and processes are merged by adding zeros to it. The mean is taken
    afterwards, in one order, so the result has the same bits however the episodes were divided.

    Args:
        task_count: K.
        episodes: E, evaluation episodes of each task.
        device: of the run; the numbers are on it if it is a GPU, because NCCL merges no others.
    """

    full_state_update = False
    returns: Tensor
    successes: Tensor
    counted: Tensor

    def __init__(self, task_count: int, episodes: int, device: torch.device | None = None) -> None:
        super().__init__()
        shape = (task_count, episodes)
        self.add_state("returns", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("successes", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counted", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        if device is not None and device.type == "cuda":
            self.to(device)

    def update(
        self, trajectories: Sequence[Trajectory], task_indices: Sequence[int], episode_indices: Sequence[int]
    ) -> None:
        """Puts each trajectory into the slot (task, episode). A process without episodes gives empty sequences."""
        for trajectory, *slot in zip(trajectories, task_indices, episode_indices, strict=True):
            self.returns[tuple(slot)] += trajectory.episode_return
            self.successes[tuple(slot)] += float(bool(trajectory.success))
            self.counted[tuple(slot)] += 1

    def compute(self) -> tuple[Tensor, Tensor]:
        """Mean return [K] and success rate [K], float64 on the CPU.

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
        # A GPU adds in another order, and the scores of π0 would depend on where it is trained.
        return self.returns.cpu().mean(dim=1), self.successes.cpu().mean(dim=1)
