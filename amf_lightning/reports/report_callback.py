"""Writes what a person reads of a run: files in its folder, and TensorBoard."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from amf_lightning.campaign.facts import FINISHED
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.forgetting import (
    FrozenShare,
    forgetting_metrics,
    forgetting_table,
    frozen_shares,
    measures_of,
    total,
)
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.needs import uses_of
from amf_lightning.reports.animation import write_animation
from amf_lightning.reports.failures import failure_metrics
from amf_lightning.reports.run_report import write_report
from amf_lightning.reports.tables import uses_phrase
from amf_lightning.tasks.task import TaskSuite


class RunReports(Callback):
    """Keeps the run folder's tables and TensorBoard up to date, and writes the report at the end.

    Everything is written anew from the ledger and the checkpointed evaluations, nothing is appended.

    Args:
        suite: given by the top-level key `suite`.
        active: given by the key `active`.
        animation: render `policy.gif` at the end.
    """

    def __init__(self, suite: TaskSuite, active: ActiveSampling, animation: bool = True) -> None:
        self.suite = suite
        self.active = active
        self.animation = animation

    # -- Lightning's hooks; the active-sampling callback's run before them -------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.current_epoch == 0:
            self._write_tables(trainer, pl_module)
            if self.active.evaluations:
                log_evaluation(trainer, self.active.evaluations, self.suite, 0, cast(BehaviouralCloning, pl_module))
            log_uses(trainer, self.active)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            log_choices(trainer, self.active, self.suite)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._write_tables(trainer, pl_module)
        if self.active.evaluations and self.active.evaluations[-1].demonstrations == len(self.active.jobs):
            rounds = trainer.current_epoch + 1
            log_evaluation(trainer, self.active.evaluations, self.suite, rounds, cast(BehaviouralCloning, pl_module))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or self.active.waiting:
            return
        folder, module = RunFolder(Path(trainer.default_root_dir)), cast(BehaviouralCloning, pl_module)
        outdated = folder.read_facts().get(FINISHED, 0) is None  # what is there is of a smaller budget
        folder.reopen()
        self._write_tables(trainer, pl_module)
        pretrained, shares = pretrained_on(module), frozen_of(module)
        names = [task.name for task in self.suite.tasks]
        latest = self.active.evaluations[-1] if self.active.evaluations else None
        facts = {
            "selector": type(self.active.selector).__name__,
            "uses": uses_of(self.active.selector),
            "environment_steps": self.active.environment_steps,
            "pretraining_tasks": [task.name for task, of_it in zip(self.suite.tasks, pretrained, strict=True) if of_it],
            "retention": type(module.retention).__name__,
            "frozen": {name: [each.frozen, each.entries] for name, each in shares.items()},
            "measures": {} if latest is None else measures_of(latest, names),
            "scored_by": self.active.evaluation.method,
            "unscored": self.active.evaluation.unscored,
            "budget": self.active.budget,
            "seed": self.active.seed,
            FINISHED: None,
        }
        if not self.active.repeats:
            facts["repeats"] = False
        if self.active.stopped:
            facts["stopped"] = self.active.stopped
            print(
                f"\nStopped after {len(self.active.jobs)} of {self.active.budget} demonstrations: {self.active.stopped}"
            )
        folder.write_evaluation(latest, names, self.suite.weights, trained_on=module.trained_on, **facts)
        wanted = self.animation and (outdated or not folder.animation.is_file())
        if wanted and latest is not None and self.suite.simulator:
            tasks = shown_tasks(self.active.evaluations, self.suite)
            write_animation(
                folder.animation, self.suite, module.pretrained, module.acting_policy(), tasks, self.active.seed
            )
        write_report(folder, self.suite)
        folder.seal(module.trained_on)

    def _write_tables(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder, module = RunFolder(Path(trainer.default_root_dir)), cast(BehaviouralCloning, pl_module)
        folder.write_selections(self.active.jobs)
        names = [task.name for task in self.suite.tasks]
        folder.write_curve(self.active.evaluations, names, self.suite.weights)
        frozen = total(frozen_of(module)).share
        folder.write_forgetting(forgetting_table(self.active.evaluations, names, pretrained_on(module), frozen))


def pretrained_on(module: BehaviouralCloning) -> list[bool]:
    """Whether π0 was trained on each task, [K], as its file says."""
    return [count > 0 for count in module.pretraining_counts or [0] * len(module.suite.tasks)]


def frozen_of(module: BehaviouralCloning) -> dict[str, FrozenShare]:
    """How much of each parameter of the policy is frozen."""
    sizes = {name: parameter.numel() for name, parameter in module.policy.named_parameters()}
    return frozen_shares(sizes, module.trainable())


def shown_tasks(evaluations: list[Evaluation], suite: TaskSuite) -> list[int]:
    """Up to three tasks worth watching: the largest gain, the smallest, and the one in the middle."""
    first, last = evaluations[0].scores, evaluations[-1].scores
    order = sorted(range(len(suite.tasks)), key=lambda index: last[index] - first[index], reverse=True)
    return sorted({order[0], order[len(order) // 2], order[-1]})


def log_evaluation(
    trainer: Trainer, evaluations: Sequence[Evaluation], suite: TaskSuite, rounds: int, module: BehaviouralCloning
) -> None:
    """Scores, returns, successes and forgetting, each against the number of demonstrations and against rounds."""
    evaluation, names = evaluations[-1], [task.name for task in suite.tasks]
    metrics = {"score/mean": evaluation.mean_score, "retention/frozen": total(frozen_of(module)).share}
    metrics |= forgetting_metrics(evaluations[0], evaluation, names, pretrained_on(module))
    for task, score, value, success in zip(
        suite.tasks, evaluation.scores, evaluation.returns, evaluation.successes, strict=True
    ):
        metrics |= {
            f"score/{task.name}": score,
            f"return/{task.name}": value,
            f"success/{task.name}": success,
        }
    metrics |= failure_metrics(evaluations, names)
    for logger in trainer.loggers:
        logger.log_metrics({f"by_demonstrations/{name}": v for name, v in metrics.items()}, evaluation.demonstrations)
        logger.log_metrics({f"by_round/{name}": value for name, value in metrics.items()}, rounds)


def log_uses(trainer: Trainer, active: ActiveSampling) -> None:
    """What the selector needs beyond the demonstrations, as text."""
    name, uses = type(active.selector).__name__, uses_phrase(uses_of(active.selector))
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text("selection/uses", f"{name} uses beyond the demonstrations: {uses}.", 0)


def log_choices(trainer: Trainer, active: ActiveSampling, suite: TaskSuite) -> None:
    """Selection scores, counts and the selector's diagnostics of this round, and a sentence for each choice."""
    jobs = [job for job in active.jobs if job.round == trainer.current_epoch]
    names = [task.name for task in suite.tasks]
    metrics = {f"selection/{name}": value for name, value in active.diagnostics.items()}
    for task in suite.tasks:
        metrics[f"selection/count/{task.name}"] = float(sum(job.task_index == task.index for job in active.jobs))
        if jobs and not math.isnan(jobs[0].scores[task.index]):
            metrics[f"selection/score/{task.name}"] = jobs[0].scores[task.index]
    for logger in trainer.loggers:
        logger.log_metrics(metrics, trainer.current_epoch)
        if isinstance(logger, TensorBoardLogger):
            for job in jobs:
                logger.experiment.add_text("selection/choice", job.why(names), job.demonstration)
