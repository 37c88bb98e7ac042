"""The LightningModule: behavioural cloning of a pre-trained policy, some of whose weights are protected."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor
from torch.optim import AdamW, Optimizer

from amf_lightning.demonstrations.batches import Block, MicroBatch
from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.evaluation.simulated import KnownEpisodes, SimulatedEvaluation
from amf_lightning.fine_tuning.checkpoint_io import check_checkpoint
from amf_lightning.fine_tuning.divergence import LossWatch
from amf_lightning.fine_tuning.judged import journal_of
from amf_lightning.fine_tuning.origin import Origin
from amf_lightning.fine_tuning.precision import clip_gradients, converted, scaled_back
from amf_lightning.fine_tuning.refitting import check_refitted, idle_optimizer
from amf_lightning.fine_tuning.round import losses_of, meet_demonstrations, round_rows, take_steps
from amf_lightning.fine_tuning.tail_average import TailAverage, checked_share
from amf_lightning.policies.categorical import check_actions
from amf_lightning.policies.controllers import PolicyController
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.preflight import rehearse_export
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.policies.statistics import FeatureStatistics, weights_hash
from amf_lightning.policies.unfamiliar import Familiarity
from amf_lightning.policies.weights import PolicyFactory, build_policy, load_policy
from amf_lightning.retention.frozen import hold_statistics, mask_gradients, placed, restore_frozen
from amf_lightning.retention.retention import NoRetention, Retention, RetentionContext
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.tasks.task import EvaluationJob, TaskSuite
from amf_lightning.user_code import ends_nothing

ControllerFactory = Callable[[Policy], PolicyController]


class BehaviouralCloning(LightningModule):
    """Fine-tunes a policy on demonstrations, with a retention that protects what it could do.

    Args:
        suite: given by the top-level key `suite`.
        policy: class of the policy and its options.
        controller: class of what acts by the policy's predictions, and its options; None: what the policy says.
        pretrained: name of shipped weights or path of a policy file to start from; None for a fresh policy.
        retention: given by the top-level key `retention`.
        optimizer: class of the optimiser and its options.
        reset_optimizer: forget the optimiser's state (momentum) at the start of each round.
        average: share of each round's optimiser steps, its last, whose weights' mean acts: is evaluated, rolled out and
            exported. Training goes on from the last weights. 0: the last weights act.
        store_importance: keep in the exported file how much each weight matters, for `StoredImportance`.
        seed: given by `seed_everything`.
        gradient_clip_val: given by `trainer.gradient_clip_val`; None or 0 clips nothing.
        gradient_clip_algorithm: given by `trainer.gradient_clip_algorithm`: `norm` (also if None) or `value`.
        log_every_n_steps: given by `trainer.log_every_n_steps`, optimiser steps between two logged losses; 0 for none.
    """

    def __init__(
        self,
        suite: TaskSuite,
        policy: PolicyFactory = MLPPolicy,
        controller: ControllerFactory | None = None,
        pretrained: str | None = None,
        retention: Retention | None = None,
        optimizer: OptimizerCallable = lambda p: AdamW(p, lr=1e-3, weight_decay=0.0, fused=True),
        reset_optimizer: bool = False,
        average: float = 0.0,
        store_importance: bool = False,
        seed: int = 0,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
        log_every_n_steps: int | None = None,
    ) -> None:
        super().__init__()
        if (clip := gradient_clip_algorithm) not in (None, "norm", "value"):
            raise InputError(f"trainer.gradient_clip_algorithm is '{clip}'; it must be 'norm' or 'value'.")
        # Lightning's own loop costs an eighth of a step of a small network; ours takes many steps for one of its.
        self.automatic_optimization = False
        self.suite = suite
        self.retention = retention or NoRetention()
        self.optimizer = optimizer
        self.reset_optimizer = reset_optimizer
        self.average = checked_share(average)
        self.store_importance, self.seed = store_importance, seed
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.log_every_n_steps = 50 if log_every_n_steps is None else log_every_n_steps
        self._policy_class, self._controller_class = policy, controller
        self.policy = self._fresh()
        check_actions(self.policy, suite)
        self.origin = Origin.of(self.policy)
        if pretrained is not None:
            self.start_from(pretrained)
        if isinstance(self.policy, RefittedPolicy):
            check_refitted(self.policy, self.retention)
        deployed = self.origin.deploy(self.policy, self.retention.wrap(self.policy, suite))
        self.policy = self._controlled(deployed)
        averages = average > 0 and not isinstance(self.policy, RefittedPolicy)
        # In training mode as the rest, or Lightning warns; what acts is a copy in evaluation mode.
        self.averaged = frozen_copy(self.policy).train() if averages else None
        self.kept: Policy | None = None  # deployed instead of what acts; see `Deployment`
        self.featured, self._familiarity = rehearse_export(self.policy, suite), Familiarity(suite)
        self.masks, self._known = dict[str, Tensor](), KnownEpisodes()
        self.trained_on = 0
        """Demonstrations that the policy was fine-tuned on."""
        self.evaluation: Evaluation | None = None
        """The last evaluation."""

    def _fresh(self) -> Policy:
        """The configured policy with its initial weights."""
        generator = keyed_generator(self.seed, Purpose.INITIALISE)
        return self._controlled(build_policy(self._policy_class, self.suite.dimensions, generator))

    def _controlled(self, policy: Policy) -> Policy:
        """The policy with the configured controller, which its copies have too."""
        policy.make_controller = self._controller_class
        return policy

    def start_from(self, pretrained: str) -> None:
        """Takes the policy of a file; InputError if it belongs to another suite or is not like the configured one."""
        file = load_policy(pretrained)
        file.check_suite(self.suite.signature())
        self.policy = self._controlled(file.like(self._fresh()))
        self.origin = Origin.of(self.policy, file)

    @property
    def pretrained(self) -> Policy:
        """π0, frozen."""
        return self.origin.policy

    @property
    def statistics(self) -> FeatureStatistics | None:
        """What π0's file says about its pre-training states."""
        return self.origin.statistics

    @property
    def pretraining_counts(self) -> tuple[int, ...] | None:
        """Demonstrations of each task that π0 was trained on, [K]; None if π0 is a fresh policy."""
        if self.origin.file is None:
            return None
        return tuple(self.origin.counts.get(task.name, 0) for task in self.suite.tasks)

    def trainable(self) -> dict[str, Tensor]:
        """Which entries of each named parameter are trained, bool on the CPU; those not named are trained whole."""
        parameters = self.policy.named_parameters()
        frozen = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in parameters if not p.requires_grad}
        return {**{name: mask.cpu() for name, mask in self.masks.items()}, **frozen}

    @property
    def acting(self) -> Policy:
        """What the rounds so far have come to: the trained policy, or the mean of its last weights."""
        return self.policy if self.averaged is None else self.averaged

    def acting_policy(self) -> Policy:
        """A frozen copy of what acts, on the CPU, for rollouts and selection."""
        return frozen_copy(self.acting).cpu()

    @property
    def deployed(self) -> Policy:
        """What is evaluated and exported: what acts, or what was kept of an earlier round instead."""
        return self.acting if self.kept is None else self.kept

    @property
    def data(self) -> DemonstrationDataModule:
        """Of the run."""
        return cast(DemonstrationDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    # -- training ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Measures what is to be protected, before the optimiser and the strategy look at the parameters."""
        if stage != "fit":
            return
        counts, origin = self.pretraining_counts, self.origin
        left = origin.importance, origin.demonstrations_folder, origin.demonstrations
        context = RetentionContext(self.suite, self.pretrained, self.seed, counts, *left)
        self.retention.prepare(context, self.policy)
        self.masks = self.retention.masks()
        for name, parameter in self.policy.named_parameters():
            if name in self.masks and not self.masks[name].any():
                parameter.requires_grad_(False)  # frozen whole: no gradient need be computed
        hold_statistics(self.policy)
        if not isinstance(self.policy, RefittedPolicy) and not any(p.requires_grad for p in self.policy.parameters()):
            raise InputError("The retention freezes every weight of the policy: nothing is left to train.")

    def configure_optimizers(self) -> Optimizer:
        if isinstance(self.policy, RefittedPolicy):
            return idle_optimizer()
        return scaled_back(self.optimizer_for(self.policy), str(self.trainer.precision), self.gradient_clip_val)

    def optimizer_for(self, policy: Policy) -> Optimizer:
        """An optimiser of the trained weights of `policy` (ours or a copy) with all that belongs to a step of it.

        Before a step, gradients of frozen entries are zeroed, the retention looks at the rest, and they are clipped;
        after it, frozen entries are put back as π0 has them, and the retention looks again.
        """
        parameters = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        try:
            optimizer = self.optimizer(parameters)
        except (TypeError, ValueError) as error:
            raise InputError(f"model.optimizer cannot be made: {error}.") from error
        if self.masks:
            start = dict(self.origin.start.named_parameters())
            frozen = placed({name: start[name].clone() for name in self.masks}, policy)
            self.masks = placed(self.masks, policy)
            optimizer.register_step_post_hook(lambda *_: restore_frozen(policy, self.masks, frozen))
        # On the optimiser's hook and not in front of it, because in precision 16-mixed Lightning scales the gradients
        # back only when the optimiser is about to step.
        optimizer.register_step_pre_hook(lambda *_: self._complete_gradients(policy, optimizer))
        optimizer.register_step_post_hook(lambda *_: self.retention.after_step(policy))
        return optimizer

    def _complete_gradients(self, policy: Policy, optimizer: Optimizer) -> None:
        mask_gradients(policy, self.masks)
        self.retention.before_step(policy)
        if self.gradient_clip_val:
            clip_gradients(optimizer, self.gradient_clip_val, self.gradient_clip_algorithm)

    def losses(self, policy: Policy, microbatch: MicroBatch) -> dict[str, Tensor]:
        """Mean losses of `policy` (ours or a copy) by name, on the module's device and in the trainer's precision."""
        rows = converted(microbatch, self.trainer.precision_plugin, self.device)
        with self.trainer.precision_plugin.forward_context():
            return losses_of(policy, self.retention, rows)

    @ends_nothing
    def training_step(self, block: Block, batch_idx: int) -> None:
        optimizer = self.optimizers()
        assert isinstance(optimizer, Optimizer)
        watch = LossWatch(self._after_step)
        # Lightning has autocast on around all of this, but only a forward pass is meant to be in it.
        with torch.autocast(self.device.type, enabled=False):
            losses = partial(self.losses, self.policy)
            take_steps(block, losses, block.factors, optimizer, self._backward, watch, block.seeds)
        watch.check(self, block, batch_idx)

    def _backward(self, objective: Tensor, last: bool) -> None:
        """Adds gradients; processes exchange them with the last micro-batch of a step."""
        strategy = self.trainer.strategy
        with nullcontext() if last or not isinstance(strategy, ParallelStrategy) else strategy.block_backward_sync():
            self.manual_backward(objective)

    def _after_step(self, losses: Mapping[str, Tensor]) -> None:
        """Averages weights, and logs the losses of every n-th step. Logging each would cost a fifth of it."""
        self._tail.after_step(losses)
        if not self.log_every_n_steps or self.global_step % self.log_every_n_steps:
            return
        metrics = {f"loss/{name}": loss.detach() for name, loss in losses.items()}
        self.log_dict(metrics, logger=False)  # for callbacks that monitor a loss
        # Lightning would write the last losses of a block, and number them by blocks.
        for logger in self.loggers:
            values = {name: loss.item() for name, loss in metrics.items()}
            logger.log_metrics({**values, "epoch": self.current_epoch}, self.global_step - 1)
            logger.save()

    def on_train_epoch_start(self) -> None:
        data, shown, window = self.data, self.data.demonstrations, self.policy.window
        data.rows = round_rows(shown, self.suite, self.retention, data.balance_tasks, window)
        rows = data.rows["demonstrations"]
        meet_demonstrations(self.policy, self.pretrained, rows, self.device, self.seed, self.current_epoch)
        self._familiarity.look(self.policy, shown if self.trainer.is_global_zero else [], self.current_epoch)
        self._tail = TailAverage(self.policy, self.averaged, data.steps_per_round, self.average)
        if self.reset_optimizer:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    # -- evaluation ----------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        deployed, per_task, journal = frozen_copy(self.deployed).cpu(), self.data.evaluation_episodes, journal_of(self)
        acting, known = deployed.controller(), self._known.of(weights_hash(deployed))
        self._running = SimulatedEvaluation(self.suite, acting, per_task, journal, device=self.device, known=known)

    def validation_step(self, batch: list[EvaluationJob], batch_idx: int) -> None:
        self._running.run(batch)

    def on_validation_epoch_end(self) -> None:
        """Gathers the episodes of all ranks into `evaluation`."""
        self.evaluation = self._running.finish(self.trained_on, self.retention.measure(self.deployed, self.suite))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["suite"] = self.suite.signature()
        checkpoint["demonstrations"] = self.trained_on

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_on = checkpoint["demonstrations"]

    def check_checkpoint(self, path: Path) -> None:
        """Raises InputError, naming the first difference, if a checkpoint is not one of this suite and policy."""
        check_checkpoint(path, self.suite.signature(), self.state_dict())
