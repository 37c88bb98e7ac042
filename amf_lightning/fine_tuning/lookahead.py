"""What a round would come to if certain tasks were demonstrated: the round itself, on copies."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial

import torch

from amf_lightning.campaign.collection import demonstrations_of
from amf_lightning.demonstrations.batches import RoundBatches, Shards
from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.errors import InputError
from amf_lightning.evaluation.simulated import SimulatedEvaluation
from amf_lightning.experts.expert import Expert
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.round import meet_demonstrations, round_rows, take_steps
from amf_lightning.fine_tuning.tail_average import TailAverage
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.seeding import Purpose, keyed_seed
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
            InputError: several processes train, or in precision 16-mixed.
        """
        _check(self.module)
        demonstrations = [*self.data.demonstrations, *self._demonstrate(tasks)]
        policy = deepcopy(self.module.policy)  # the run's own policy must come out of the trial as it went in
        averaged = deepcopy(self.module.averaged)
        self._train(policy, averaged, demonstrations)
        return self._evaluate(policy if averaged is None else averaged, len(demonstrations))

    def _demonstrate(self, tasks: Sequence[int]) -> list[Trajectory]:
        suite, demonstrations = self.module.suite, []
        of_pretraining = sum(self.module.pretraining_counts or ())  # numbered as the round itself will number it
        earlier = [suite.task(demonstration.task).index for demonstration in self.data.demonstrations]
        for position, task in enumerate(tasks):
            seed = keyed_seed(self.seed, Purpose.DEMONSTRATE, of_pretraining + self.first + position)
            episode = Episode(suite.tasks[task], seed, [*earlier, *tasks[:position]].count(task))
            if episode not in self._known:
                answers = demonstrations_of(self.expert, suite, [episode], self._count)
                if not answers:
                    raise InputError("Oracle tries out demonstrations, which takes an expert that answers at once.")
                self._known[episode] = answers[0]
            demonstrations.append(self._known[episode])
        return demonstrations

    def _count(self, steps: int) -> None:
        self.steps += steps

    def _train(self, policy: Policy, averaged: Policy | None, demonstrations: list[Trajectory]) -> None:
        """What the round does to the policy, with the optimiser's state of the last round."""
        module, data = self.module, self.data
        rows = round_rows(demonstrations, module.suite, module.retention, data.balance_tasks, policy.window)
        shown = rows["demonstrations"]
        meet_demonstrations(policy, module.pretrained, shown, module.device, self.seed, self.round)
        if isinstance(policy, RefittedPolicy):
            return
        optimizer = module.optimizer_for(policy)
        if not module.reset_optimizer:
            optimizer.load_state_dict(deepcopy(module.trainer.optimizers[0].state_dict()))
        shards = Shards.of(0, 1, data.accumulate_grad_batches)
        blocks = RoundBatches(
            lambda: rows, lambda: self.round, data.batch_size, data.steps_per_round, shards, data.training_seed
        )
        tail = TailAverage(policy, averaged, data.steps_per_round, module.average)
        with torch.enable_grad():
            for block in blocks:
                losses = partial(module.losses, policy)
                take_steps(block, losses, block.factors, optimizer, after_step=tail.after_step, seeds=block.seeds)

    def _evaluate(self, policy: Policy, demonstrations: int) -> float:
        acting, per_task = frozen_copy(policy).cpu(), self.data.evaluation_episodes
        evaluation = SimulatedEvaluation(self.module.suite, acting, per_task, on_step=self._count)
        for jobs in self.data.val_dataloader():
            with self.module.trainer.precision_plugin.val_step_context():  # as Lightning validates
                evaluation.run(jobs)
        return evaluation.finish(demonstrations).mean_score


def _check(module: BehaviouralCloning) -> None:
    trainer = module.trainer
    if trainer.world_size > 1 or str(trainer.precision) == "16-mixed":
        raise InputError(
            "Oracle repeats the training of a round on copies, which it can on one process, and in any precision but "
            "16-mixed, whose losses are scaled by what was seen before. Set trainer.devices: 1 and another "
            "trainer.precision, or choose another selector."
        )
