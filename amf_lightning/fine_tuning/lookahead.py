"""What a round would come to if certain tasks were demonstrated: the round itself, on copies."""

from collections.abc import Sequence
from copy import deepcopy

import torch

from amf_lightning.campaign.collection import demonstrations_of
from amf_lightning.demonstrations.batches import Batch, RoundBatches, Shards, demonstration_rows
from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.errors import InputError
from amf_lightning.evaluation.metric import EpisodeMetric
from amf_lightning.evaluation.scores import evaluate_returns
from amf_lightning.experts.expert import Expert
from amf_lightning.fine_tuning.module import BehaviouralCloning, weighted_sum
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory


class Lookahead:
    """Collects, trains and evaluates as the coming round would, and leaves no trace in the run.

    The demonstrations are those that would really come (their seeds are keyed by their number), the minibatches those
    that would really be drawn, the evaluation episodes those of the run: a clairvoyant's view, for `Oracle`.

    Args:
        module: of the run, at the start of the round.
        data: of the run.
        expert: of the run.
        round: its number.
        first: number of the round's first demonstration.
        seed: of the run.
    """

    def __init__(
        self,
        module: BehaviouralCloning,
        data: DemonstrationDataModule,
        expert: Expert,
        round: int,
        first: int,
        seed: int,
    ) -> None:
        self.module, self.data, self.expert = module, data, expert
        self.round, self.first, self.seed = round, first, seed
        self.steps = 0
        """Environment steps so far, of the expert and of the evaluations."""
        self._known: dict[Episode, Trajectory] = {}

    def __call__(self, tasks: Sequence[int]) -> float:
        """Mean score of the policy after a round in which `tasks` are demonstrated, in this order.

        Raises:
            InputError: the run trains in a way that is not repeated here: several processes, accumulated gradients,
                reduced precision.
        """
        _check(self.module)
        demonstrations = [*self.data.demonstrations, *self._demonstrate(tasks)]
        policy = deepcopy(self.module.policy)
        if not policy.is_normalised:
            rows = demonstration_rows(demonstrations, self.module.suite)
            policy.fit_normaliser(rows.observations.to(self.module.device), rows.contexts.to(self.module.device))
        if isinstance(policy, RefittedPolicy):
            rows = demonstration_rows(demonstrations, self.module.suite)
            parts = (rows.observations, rows.contexts, rows.actions)
            policy.refit(self.module.pretrained, *(part.to(self.module.device) for part in parts))
        else:
            self._train(policy, demonstrations)
        return self._evaluate(policy, len(demonstrations))

    def _demonstrate(self, tasks: Sequence[int]) -> list[Trajectory]:
        suite, found = self.module.suite, []
        before = sum(self.module.pretraining_counts or ())  # numbered as the round itself will number it
        given = [suite.task(demonstration.task).index for demonstration in self.data.demonstrations]
        for position, task in enumerate(tasks):
            seed = keyed_seed(self.seed, Purpose.DEMONSTRATE, before + self.first + position)
            episode = Episode(suite.tasks[task], seed, [*given, *tasks[:position]].count(task))
            if episode not in self._known:
                shown = demonstrations_of(self.expert, suite, [episode], self._count)
                if not shown:
                    raise InputError("Oracle tries out demonstrations, which takes an expert that answers at once.")
                self._known[episode] = shown[0]
            found.append(self._known[episode])
        return found

    def _count(self, steps: int) -> None:
        self.steps += steps

    def _train(self, policy: Policy, demonstrations: list[Trajectory]) -> None:
        """The optimiser steps of the round, with the optimiser's state of the last one."""
        module, suite, trainer = self.module, self.module.suite, self.module.trainer
        optimizer = module.optimizer_for(policy)
        if not module.reset_optimizer:
            optimizer.load_state_dict(deepcopy(trainer.optimizers[0].state_dict()))
        sources = {"demonstrations": demonstration_rows(demonstrations, suite, self.data.balance_tasks)}
        replay = module.retention.replay(frozenset(suite.task(d.task).index for d in demonstrations))
        if replay is not None:
            sources["replay"] = replay
        factors = {} if replay is None else {"replay": replay.loss_weight}
        batches = RoundBatches(
            lambda: sources,
            lambda: self.round,
            self.data.batch_size,
            self.data.steps_per_round,
            Shards.of(0, 1, 1),
            self.seed,
        )
        trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        with torch.enable_grad():
            for batch in batches:
                moved = {name: _moved(rows, module.device) for name, rows in batch.items()}
                optimizer.zero_grad()
                weighted_sum(module.losses(policy, moved), factors).backward()  # type: ignore[no-untyped-call]
                module.prepare_step(policy)
                if trainer.gradient_clip_val:
                    torch.nn.utils.clip_grad_norm_(trained, trainer.gradient_clip_val)
                optimizer.step()

    def _evaluate(self, policy: Policy, demonstrations: int) -> float:
        suite, acting = self.module.suite, frozen_copy(policy).cpu()
        metric = EpisodeMetric(len(suite.tasks), self.data.evaluation_episodes)
        for jobs in self.data.val_dataloader():
            trajectories = rollout(acting, suite, [episode for _, episode in jobs], on_step=self._count)
            tasks = [episode.task.index for _, episode in jobs]
            metric.update(trajectories, tasks, [number for number, _ in jobs])
        returns, successes = metric.compute()
        return evaluate_returns(demonstrations, returns, successes, suite).mean_score


def _moved(rows: Batch, device: torch.device) -> Batch:
    observations, contexts, actions = rows
    return observations.to(device), contexts.to(device), actions.to(device)


def _check(module: BehaviouralCloning) -> None:
    trainer = module.trainer
    several = trainer.world_size > 1 or trainer.accumulate_grad_batches > 1
    by_value = trainer.gradient_clip_val and trainer.gradient_clip_algorithm not in (None, "norm")
    if several or by_value or str(trainer.precision) != "32-true":
        raise InputError(
            "Oracle repeats the training of a round on copies, which it can on one process, without accumulated "
            "gradients, in precision 32-true, clipping by norm if at all. Set the trainer so, or choose another "
            "selector."
        )
