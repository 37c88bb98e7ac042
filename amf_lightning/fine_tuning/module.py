"""The LightningModule: behavioural cloning of a pre-trained policy, some of whose weights are protected."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import AdamW, Optimizer

from amf_lightning.demonstrations.batches import Batch, Rows, demonstration_rows
from amf_lightning.demonstrations.datamodule import EvaluationJob
from amf_lightning.errors import InputError
from amf_lightning.evaluation.metric import EpisodeMetric
from amf_lightning.evaluation.scores import Evaluation, check_scorable, evaluate_returns
from amf_lightning.fine_tuning.checkpoint_io import read_checkpoint
from amf_lightning.fine_tuning.refitting import check_alone, check_refitted, idle_optimizer
from amf_lightning.policies.categorical import check_actions
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.preflight import rehearse_export
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.policies.statistics import FeatureStatistics, feature_statistics
from amf_lightning.policies.weights import PolicyFile, build_policy, load_policy, save_policy
from amf_lightning.retention.frozen import hold_statistics, mask_gradients, placed, restore_frozen
from amf_lightning.retention.importance import stored_importance
from amf_lightning.retention.retention import NoRetention, Retention, RetentionContext
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

PolicyFactory = Callable[[int, int, int], Policy]


class BehaviouralCloning(LightningModule):
    """Fine-tunes a policy on demonstrations, with a retention that protects what it could do.

    Args:
        suite: given by the top-level key `suite`.
        policy: class of the policy and its options.
        pretrained: name of shipped weights or path of a policy file to start from; None for a fresh policy.
        retention: given by the top-level key `retention`.
        optimizer: class of the optimiser and its options.
        reset_optimizer: forget the optimiser's state (momentum) at the start of each round.
        store_importance: keep in the exported file how much each weight matters, for `StoredImportance`.
        seed: given by `seed_everything`.
    """

    def __init__(
        self,
        suite: TaskSuite,
        policy: PolicyFactory = MLPPolicy,
        pretrained: str | None = None,
        retention: Retention | None = None,
        optimizer: OptimizerCallable = lambda p: AdamW(p, lr=1e-3, weight_decay=0.0, fused=True),
        reset_optimizer: bool = False,
        store_importance: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.suite = suite
        self.retention = retention or NoRetention()
        self.optimizer = optimizer
        self.reset_optimizer = reset_optimizer
        self.store_importance = store_importance
        self.seed = seed
        self.file: PolicyFile | None = None
        self._factory = (policy,)
        self.policy = self._fresh()
        check_actions(self.policy, suite)
        # Behind a tuple, so that Lightning neither trains nor saves π0: it is read from its file each time.
        self._pretrained = (frozen_copy(self.policy),)
        if pretrained is not None:
            self.start_from(pretrained)
        if isinstance(self.policy, RefittedPolicy):
            check_refitted(self.policy, self.retention)
        self.policy = self.retention.wrap(self.policy, suite)
        self._featured = rehearse_export(self.policy, suite)
        self._start = (frozen_copy(self.policy),)
        self.masks: dict[str, Tensor] = {}
        self._factors: dict[str, float] = {}
        """Of the losses; those not named count once."""
        self.trained_on = 0
        """Demonstrations that the policy was fine-tuned on."""
        self.metric: EpisodeMetric | None = None
        self.evaluation: Evaluation | None = None
        """The last evaluation."""

    def _fresh(self) -> Policy:
        """The configured policy with its initial weights."""
        generator = keyed_generator(self.seed, Purpose.INITIALISE)
        return build_policy(self._factory[0], self.suite.signature(), generator)

    def start_from(self, pretrained: str) -> None:
        """Takes the policy of a file; InputError if it belongs to another suite or is not like the configured one."""
        self.file = load_policy(pretrained)
        self.file.check_suite(self.suite.signature())
        self.policy = self.file.like(self._fresh())
        self._pretrained = (frozen_copy(self.policy),)

    @property
    def pretrained(self) -> Policy:
        """π0, frozen."""
        return self._pretrained[0]

    @property
    def statistics(self) -> FeatureStatistics | None:
        """What π0's file says about its pre-training states."""
        return self.file.statistics if self.file else None

    @property
    def pretraining_counts(self) -> tuple[int, ...] | None:
        """Demonstrations of each task that π0 was trained on, [K]; None if π0 is a fresh policy."""
        if self.file is None:
            return None
        return tuple(self.file.pretraining_counts.get(task.name, 0) for task in self.suite.tasks)

    def trainable(self) -> dict[str, Tensor]:
        """Which entries of each named parameter are trained, bool on the CPU; those not named are trained whole."""
        named = self.policy.named_parameters()
        frozen = {name: torch.zeros(p.shape, dtype=torch.bool) for name, p in named if not p.requires_grad}
        return {**{name: mask.cpu() for name, mask in self.masks.items()}, **frozen}

    def acting_policy(self) -> Policy:
        """A frozen copy of the current policy on the CPU, for rollouts and selection."""
        return frozen_copy(self.policy).cpu()

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes here which hook it is in, forty times a step. As torch sets attributes, that takes 3 % of it.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    # -- training ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Measures what is to be protected, before the optimiser and the strategy look at the parameters."""
        check_scorable(self.suite)
        if stage != "fit":
            return
        context = RetentionContext(
            suite=self.suite,
            pretrained=self.pretrained,
            seed=self.seed,
            pretraining_counts=self.pretraining_counts,
            importance=self.file.importance if self.file else {},
        )
        self.retention.prepare(context, self.policy)
        self.masks = self.retention.masks()
        for name, parameter in self.policy.named_parameters():
            if name in self.masks and not self.masks[name].any():
                parameter.requires_grad_(False)  # frozen whole: no gradient need be computed
        hold_statistics(self.policy)
        if isinstance(self.policy, RefittedPolicy):
            check_alone(self.policy, self.trainer.world_size)
        elif not any(parameter.requires_grad for parameter in self.policy.parameters()):
            raise InputError("The retention freezes every weight of the policy: nothing is left to train.")

    def configure_optimizers(self) -> Optimizer:
        if isinstance(self.policy, RefittedPolicy):
            return idle_optimizer()
        return self.optimizer_for(self.policy)

    def optimizer_for(self, policy: Policy) -> Optimizer:
        """An optimiser of the trained weights of `policy` (ours or a copy) that keeps frozen entries as π0 has them."""
        trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        try:
            optimizer = self.optimizer(trained)
        except (TypeError, ValueError) as error:
            raise InputError(f"model.optimizer cannot be made: {error}.") from error
        if self.masks:
            start = dict(self._start[0].named_parameters())
            frozen = placed({name: start[name].clone() for name in self.masks}, policy)
            self.masks = placed(self.masks, policy)
            optimizer.register_step_post_hook(lambda *_: restore_frozen(policy, self.masks, frozen))
        optimizer.register_step_post_hook(lambda *_: self.retention.after_step(policy))
        return optimizer

    def prepare_step(self, policy: Policy) -> None:
        """What the retention does to complete gradients of `policy` (ours or a copy)."""
        mask_gradients(policy, self.masks)
        self.retention.before_step(policy)

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        """What the retention wants replayed once the tasks of these indices have been demonstrated."""
        rows = self.retention.replay(demonstrated)
        self._factors = {} if rows is None else {"replay": rows.loss_weight}
        return rows

    def losses(self, policy: Policy, batch: dict[str, Batch]) -> dict[str, Tensor]:
        """Mean loss of each source of the batch, and what the retention adds."""
        # One pass for all sources: at this size the overhead of a second one is a fifth of the step.
        sources = list(batch.values())
        rows = [torch.cat(parts) for parts in zip(*sources, strict=True)] if len(sources) > 1 else sources[0]
        each = self.retention.loss(policy, *rows)
        parts = torch.split(each, [len(source[0]) for source in sources]) if len(sources) > 1 else (each,)
        losses: dict[str, Tensor] = {name: part.mean() for name, part in zip(batch, parts, strict=True)}
        if (penalty := self.retention.penalty(policy)) is not None:
            losses["penalty"] = penalty
        return losses

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> Tensor:
        losses = self.losses(self.policy, batch)
        # Logging each step would cost a fifth of it, too.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.global_step + 1) % every == 0:
            self.log_dict({f"loss/{name}": loss.detach() for name, loss in losses.items()})
        total = weighted_sum(losses, self._factors)
        return total if total.requires_grad else total.requires_grad_()  # nothing to step in a policy that is refitted

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        # The momentum of a unit that died shrinks to subnormal numbers and stays there; with them Adam is half as fast.
        # They are taken as zero for the length of a step: times a learning rate they move no weight either way.
        torch.set_flush_denormal(True)
        try:
            super().optimizer_step(*arguments, **options)
        finally:
            torch.set_flush_denormal(False)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.prepare_step(self.policy)

    def on_train_epoch_start(self) -> None:
        if isinstance(self.policy, RefittedPolicy):
            rows = demonstration_rows(self.trainer.datamodule.demonstrations, self.suite)  # type: ignore[attr-defined]
            parts = (rows.observations, rows.contexts, rows.actions)
            self.policy.refit(self.pretrained, *(part.to(self.device) for part in parts))
        if self.reset_optimizer:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    # -- evaluation ----------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        episodes = self.trainer.datamodule.evaluation_episodes  # type: ignore[attr-defined]
        self.metric = EpisodeMetric(len(self.suite.tasks), episodes)
        self._acting = (self.acting_policy(),)

    def validation_step(self, batch: list[EvaluationJob], batch_idx: int) -> None:
        assert self.metric is not None
        trajectories = rollout(self._acting[0], self.suite, [episode for _, episode in batch])
        tasks = [episode.task.index for _, episode in batch]
        self.metric.update(trajectories, tasks, [number for number, _ in batch])

    def on_validation_epoch_end(self) -> None:
        """Gathers the episodes of all ranks into `evaluation`."""
        assert self.metric is not None
        returns, successes = self.metric.compute()
        evaluation = evaluate_returns(self.trained_on, returns, successes, self.suite)
        self.evaluation = replace(evaluation, retention=self.retention.measure(self.policy, self.suite))

    # -- export --------------------------------------------------------------------------------------------------

    def export(self, path: Path, demonstrations: list[Trajectory]) -> None:
        """Writes the policy with the statistics of its own final features over the demonstrations of this run."""
        policy = self.acting_policy()
        shown = [trajectory.task for trajectory in demonstrations]
        counts = {task.name: shown.count(task.name) for task in self.suite.tasks}
        rows = demonstration_rows(demonstrations, self.suite)
        covers = {name: count for name, count in counts.items() if count}
        statistics = feature_statistics(policy, rows.observations, rows.contexts, covers) if self._featured else None
        before = self.file.pretraining_counts if self.file else {}
        total = {name: count + before.get(name, 0) for name, count in counts.items()}
        trained = not isinstance(policy, RefittedPolicy)  # else it keeps its rows instead
        importance = stored_importance(policy, rows, self.seed) if self.store_importance and trained else None
        save_policy(path, policy, self.suite.signature(), statistics, total, importance)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["suite"] = self.suite.signature()
        checkpoint["demonstrations"] = self.trained_on

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_on = checkpoint["demonstrations"]

    def check_checkpoint(self, path: Path) -> None:
        """Raises InputError, naming the first difference, if a checkpoint is not one of this suite and policy."""
        checkpoint = read_checkpoint(path)
        if checkpoint["suite"] != self.suite.signature():
            raise InputError(
                f"{path} belongs to another suite: {checkpoint['suite']} instead of {self.suite.signature()}."
            )
        mine = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in checkpoint["state_dict"].items()}
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                raise InputError(
                    f"{path} does not fit the configured policy: '{name}' has shape {theirs.get(name)} in the "
                    f"checkpoint and {mine.get(name)} here. Give model.policy the options of that run."
                )


def weighted_sum(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """The objective: each loss times its factor, 1 if it has none."""
    # A factor of 1 is left out and nothing is stacked: each operation costs a hundredth of a step.
    terms = [loss if factors.get(name, 1.0) == 1.0 else factors[name] * loss for name, loss in losses.items()]
    return sum(terms[1:], terms[0])
