"""Writes what a person reads of a run: files in its folder, and TensorBoard."""

import time
from pathlib import Path
from typing import cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from amf_lightning.campaign.facts import FINISHED
from amf_lightning.campaign.prediction import Outcome, predictions_of
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.forgetting import forgetting_table, measures_of, total
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.needs import uses_of
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.reports.animation import write_animation
from amf_lightning.reports.board import Board
from amf_lightning.reports.event_files import RESULTS_TAG, Position, drop_events, has_event
from amf_lightning.reports.logged import (
    frozen_of,
    log_calibration,
    log_choices,
    log_end,
    log_evaluation,
    log_realised,
    log_start,
    pretrained_on,
)
from amf_lightning.reports.outcomes import outcomes_of
from amf_lightning.reports.round_lines import round_line, say, start_line
from amf_lightning.reports.run_report import setback_fact, write_report
from amf_lightning.tasks.task import TaskSuite


class RunReports(Callback):
    """Keeps the run folder's tables and TensorBoard up to date, and writes the report at the end.

    Tables are written anew from the ledger and the checkpointed evaluations, nothing is appended. Where Lightning shows
    no progress bar, a line is printed about each round.

    Args:
        suite: given by the top-level key `suite`.
        active: given by the key `active`.
        animation: render `policy.gif` at the end.
    """

    def __init__(self, suite: TaskSuite, active: ActiveSampling, animation: bool = True) -> None:
        self.suite = suite
        self.active = active
        self.animation = animation
        self._board: Board | None = None
        """Of a run under way in this process; on the first process only."""
        self._logged = -1
        """Demonstrations at the last evaluation that was logged."""
        self._outcomes: dict[int, Outcome] = {}
        """What was last written about the demonstrations."""
        self._since = 0.0
        """When the round began."""

    # -- Lightning's hooks; the active-sampling callback's run before them -------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        module, evaluations = cast(BehaviouralCloning, pl_module), self.active.evaluations
        if trainer.current_epoch == 0:
            self._open(trainer, module)
            self._write_tables(trainer, pl_module)
            self._log_evaluation(module, 0)
        if trainer.progress_bar_callback is None:
            latest = evaluations[-1] if evaluations else None
            say(start_line(latest, self._names, self.active.budget, len(self.active.jobs)))
        self._since = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if self._board is None:  # not before: a run whose demonstrations are damaged is refused, and left as it is
            self._open(trainer, cast(BehaviouralCloning, pl_module))
        assert self._board is not None
        predictions = predictions_of(self.active.campaign.ledger)
        diagnostics = self.active.diagnostics
        log_choices(self._board, self.active.jobs, trainer.current_epoch, diagnostics, self.suite, predictions)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._board is None:
            return
        self._write_tables(trainer, pl_module)
        evaluations, jobs = self.active.evaluations, self.active.jobs
        log_realised(self._board, [job for job in jobs if job.round == trainer.current_epoch], self._outcomes)
        is_new = bool(evaluations) and evaluations[-1].demonstrations == len(jobs)
        if is_new:
            self._log_evaluation(cast(BehaviouralCloning, pl_module), trainer.current_epoch + 1)
        self._board.layout(trainer.current_epoch)
        self._board.flush()  # before the checkpoint says that this round is over
        if trainer.progress_bar_callback is None:
            asked = [job for job in jobs if job.round == trainer.current_epoch]
            of_rounds = [each.of_rounds for each in evaluations]
            before, after = [None, None, *of_rounds][-2:] if is_new else (None, None)
            seconds = time.monotonic() - self._since
            kept, budget = self.active.deployment.kept_after([job.round for job in jobs]), self.active.budget
            say(round_line(trainer.current_epoch, asked, len(jobs), budget, before, after, seconds, kept))
        self._since = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or self.active.waiting:
            return
        folder, module = RunFolder(Path(trainer.default_root_dir)), cast(BehaviouralCloning, pl_module)
        outdated = folder.read_facts().get(FINISHED, 0) is None  # what is there is of a smaller budget
        folder.reopen()
        self._write_tables(trainer, pl_module)
        pretrained, shares = pretrained_on(module), frozen_of(module)
        latest = self.active.evaluations[-1] if self.active.evaluations else None
        facts = {
            "selector": type(self.active.selector).__name__,
            "uses": uses_of(self.active.selector),
            "environment_steps": self.active.environment_steps,
            "pretraining_tasks": [task.name for task, of_it in zip(self.suite.tasks, pretrained, strict=True) if of_it],
            "retention": type(module.retention).__name__,
            "frozen": {name: [each.frozen, each.entries] for name, each in shares.items()},
            "measures": {} if latest is None else measures_of(latest, self._names),
            "scored_by": self.active.evaluation.method,
            "unscored": self.active.evaluation.unscored,
            "budget": self.active.budget,
            "setback": setback_fact(self.active.evaluations),
            "seed": self.active.seed,
            FINISHED: None,
        }
        if not self.active.repeats:
            facts["repeats"] = False
        if (kept_after := self.active.deployment.kept_after([job.round for job in self.active.jobs])) is not None:
            facts["deployed_after"] = kept_after
        if self.active.stopped:
            facts["stopped"] = self.active.stopped
            print(
                f"\nStopped after {len(self.active.jobs)} of {self.active.budget} demonstrations: {self.active.stopped}"
            )
        folder.write_evaluation(latest, self._names, self.suite.weights, trained_on=module.trained_on, **facts)
        wanted = self.animation and (outdated or not folder.animation.is_file())
        if wanted and latest is not None and self.suite.simulator:
            tasks = shown_tasks(self.active.evaluations, self.suite)
            write_animation(
                folder.animation,
                self.suite,
                module.pretrained,
                frozen_copy(module.deployed).cpu(),
                tasks,
                self.active.seed,
            )
        write_report(folder, self.suite)
        folder.seal(module.trained_on)
        self._log_end(trainer, module, folder)

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _names(self) -> list[str]:
        return [task.name for task in self.suite.tasks]

    def _open(self, trainer: Trainer, module: BehaviouralCloning) -> None:
        """Begins to log, from the last checkpoint on."""
        rounds = trainer.current_epoch
        done = Position(rounds, sum(job.round < rounds for job in self.active.jobs), trainer.global_step)
        writing = _of_tensorboard(trainer)
        for logger in writing:
            drop_events(Path(logger.log_dir), done.has)
        self._board = Board(trainer.loggers, writing)
        self._logged = done.demonstrations if done.rounds else -1
        log_start(self._board, self.active, module, done.demonstrations)

    def _log_evaluation(self, module: BehaviouralCloning, rounds: int) -> None:
        """Logs the last evaluation, if it is one that was not logged yet."""
        evaluations = self.active.evaluations
        if self._board is not None and evaluations and evaluations[-1].demonstrations > self._logged:
            log_evaluation(self._board, evaluations, module, rounds)
            log_calibration(self._board, [self._outcomes[job.demonstration] for job in self.active.jobs])
            self._logged = evaluations[-1].demonstrations

    def _log_end(self, trainer: Trainer, module: BehaviouralCloning, folder: RunFolder) -> None:
        if self._board is None:  # the run was over before it began
            folders = [Path(logger.log_dir) for logger in _of_tensorboard(trainer)]
            if all(has_event(path, RESULTS_TAG, len(self.active.jobs)) for path in folders):
                return
            self._open(trainer, module)
        assert self._board is not None
        self._log_evaluation(module, trainer.current_epoch)
        self._board.layout(trainer.current_epoch)
        log_end(self._board, folder, self.active, module)
        self._board.flush()

    def _write_tables(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder, module = RunFolder(Path(trainer.default_root_dir)), cast(BehaviouralCloning, pl_module)
        self._outcomes = outcomes_of(self.active.campaign.ledger, self.active.jobs, self.active.evaluations)
        folder.write_selections(self.active.jobs, self._outcomes)
        folder.write_curve(self.active.evaluations, self._names, self.suite.weights)
        frozen, pretrained = total(frozen_of(module)).share, pretrained_on(module)
        folder.write_forgetting(forgetting_table(self.active.evaluations, self._names, pretrained, frozen))


def _of_tensorboard(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def shown_tasks(evaluations: list[Evaluation], suite: TaskSuite) -> list[int]:
    """Up to three tasks worth watching: the largest gain, the smallest, and the one in the middle."""
    first, last = evaluations[0].scores, evaluations[-1].scores
    order = sorted(range(len(suite.tasks)), key=lambda index: last[index] - first[index], reverse=True)
    return sorted({order[0], order[len(order) // 2], order[-1]})
