"""The data of a run: demonstrations as they come in, and the episodes of the evaluation."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from lightning import LightningDataModule

from amf_lightning.demonstrations.batches import RoundBatches, Rows, Shards
from amf_lightning.errors import InputError
from amf_lightning.tasks.task import EvaluationJob, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

SIDE_BY_SIDE = 32
"""Episodes that are evaluated at once."""


class EpisodeSource(Protocol):
    """Says which episodes an evaluation consists of."""

    def episodes(self, suite: TaskSuite, per_task: int, seed: int) -> list[EvaluationJob]:
        """Of every task of the suite, `per_task` each; none if nothing is simulated."""
        ...


class DemonstrationDataModule(LightningDataModule):
    """Serves the demonstrations that the active-sampling callback collects.

    Args:
        suite: given by the top-level key `suite`.
        evaluation: given by the top-level key `evaluation`.
        batch_size: state-action pairs in a global minibatch, whatever the number of processes, and as many again of
            what the retention replays.
        steps_per_round: optimiser steps in each round, whatever the amount of data.
        balance_tasks: draw every demonstrated task equally often.
        evaluation_episodes: episodes of each task in every evaluation; the same ones each time. The first and the last
            may have more, `SimulatedEpisodes.first_and_last`.
        seed: given by `seed_everything`.
        accumulate_grad_batches: given by `trainer.accumulate_grad_batches`: pieces of a minibatch, each with a
            backward pass of its own.
        training_seed: of the minibatches and of what losses draw; None: `seed`. With another one a run has the same
            episodes and another training, which is how a comparison measures its noise floor.
    """

    def __init__(
        self,
        suite: TaskSuite,
        evaluation: EpisodeSource,
        batch_size: int = 128,
        steps_per_round: int = 400,
        balance_tasks: bool = False,
        evaluation_episodes: int = 3,
        seed: int = 0,
        accumulate_grad_batches: int = 1,
        training_seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("batch_size", batch_size),
            ("steps_per_round", steps_per_round),
            ("evaluation_episodes", evaluation_episodes),
        ):
            if value < 1:
                raise InputError(f"data.{name} is {value}; it must be at least 1.")
        if accumulate_grad_batches < 1:
            raise InputError(f"trainer.accumulate_grad_batches is {accumulate_grad_batches}; it must be at least 1.")
        self.suite = suite
        self.evaluation = evaluation
        self.batch_size = batch_size
        self.steps_per_round = steps_per_round
        self.balance_tasks = balance_tasks
        self.evaluation_episodes = evaluation_episodes
        if training_seed is not None and training_seed < 0:
            raise InputError(f"data.training_seed is {training_seed}; it must be at least 0.")
        self.seed = seed
        self.training_seed = seed if training_seed is None else training_seed
        self.accumulate_grad_batches = accumulate_grad_batches
        self.demonstrations: list[Trajectory] = []
        """Those of the rounds so far, this one's included, in order."""
        self.rows: Mapping[str, Rows] = {}
        """What the current round trains on, by the name of its source; the LightningModule sets it at its start."""

    def train_dataloader(self) -> RoundBatches:
        """The current round in blocks of optimiser steps."""
        assert self.trainer is not None
        trainer = self.trainer
        return RoundBatches(
            sources=lambda: self.rows,
            current_round=lambda: trainer.current_epoch,
            batch_size=self.batch_size,
            steps=self.steps_per_round,
            shards=Shards.of(trainer.global_rank, trainer.world_size, self.accumulate_grad_batches),
            seed=self.training_seed,
        )

    def val_dataloader(self) -> "EpisodeChunks | list[Any]":
        """This rank's part of the evaluation; an empty list where nothing is simulated."""
        return self.episodes(self.evaluation_episodes)

    def episodes(self, per_task: int) -> "EpisodeChunks | list[Any]":
        """This rank's part of an evaluation of so many episodes of each task; as `val_dataloader`."""
        assert self.trainer is not None
        jobs = self.evaluation.episodes(self.suite, per_task, self.seed)
        if not jobs:
            return []  # Lightning then validates nothing
        mine = jobs[self.trainer.global_rank :: self.trainer.world_size]
        # Those that run at once, so that what is dear is kept before the next ones begin.
        return EpisodeChunks(mine, self.suite.parallel_episodes or SIDE_BY_SIDE)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Episodes stay where they are: they are run on the CPU. Rows of a block are moved when they are used."""
        return batch


class EpisodeChunks:
    """Episodes to be run side by side, in lists of at most `size`."""

    def __init__(self, jobs: list[EvaluationJob], size: int = SIDE_BY_SIDE) -> None:
        # A rank without an episode still takes part in the evaluation, with an empty list.
        self.chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)] or [[]]

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[list[EvaluationJob]]:
        return iter(self.chunks)
