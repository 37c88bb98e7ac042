"""Active fine-tuning, round by round: AMF (arXiv 2410.05026), algorithm 1."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.trainer.states import TrainerFn

from amf_lightning.campaign.collection import Share, collect, episodes_of, remaining_of
from amf_lightning.campaign.ledger import Job, Ledger
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.stopping import StopRule, rounds_of
from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.experts.expert import Expert
from amf_lightning.fine_tuning.lookahead import Lookahead
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.retention.retention import NoRetention
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.selection.context import SelectionContext, Selector
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class ActiveSampling(Callback):
    """At the start of each epoch: choose tasks, have them demonstrated, hand the demonstrations to the data module.

    The ledger is the truth. A round whose picks are in it is completed, never chosen again; a demonstration counts
    once it is on the disk and recorded there.

    Args:
        suite: given by the top-level key `suite`.
        expert: given by the top-level key `expert`.
        selector: given by the top-level key `selector`.
        budget: N, demonstrations in all (not in addition to those of a resumed run).
        batch_size: B, demonstrations a round. The last round may be smaller.
        stop: ends the run before the budget is spent, once there is little left to learn; by default never.
        seed: given by `seed_everything`.
    """

    def __init__(
        self,
        suite: TaskSuite,
        expert: Expert,
        selector: Selector,
        budget: int = 20,
        batch_size: int = 1,
        stop: StopRule | None = None,
        seed: int = 0,
    ) -> None:
        rounds_of(budget, batch_size)
        selector.check(suite, budget)
        expert.remaining(suite, [0] * len(suite.tasks))
        self.suite = suite
        self.expert = expert
        self.selector = selector
        self.budget = budget
        self.batch_size = batch_size
        self.stop = stop
        self.seed = seed
        self.evaluations: list[Evaluation] = []
        """After 0 demonstrations and after each evaluated round."""
        self.jobs: list[Job] = []
        """Of the rounds so far, this one's included."""
        self.diagnostics: dict[str, float] = {}
        """What the selector reported this round."""
        self.stopped: str | None = None
        """Why the run ended before the budget was spent, if it did."""

    # -- Lightning's hooks, in the order in which they are called ---------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise InputError(
                f"trainer.strategy is {type(trainer.strategy).__name__}, which shards the policy between processes: "
                "every process rolls out, exports and protects whole weights. Use auto or ddp."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = RunFolder(Path(trainer.default_root_dir))
        self._store = DemonstrationStore(folder.demonstrations)
        self._ledger = Ledger(folder.ledger, read_only=not trainer.is_global_zero)
        self._restored = False
        asked = trainer.strategy.broadcast(self._ledger.jobs() if trainer.is_global_zero else [])
        trainer.fit_loop.max_epochs = self._rounds_in_all(asked, folder)
        self._check_origin(trainer, _module(pl_module))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(trainer)
        if not self.evaluations:
            self._evaluate(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module, data = _module(pl_module), _data(trainer)
        if self.stop is not None and self.stop.reached(self.jobs):
            self.stopped = self.stop.reason
        elif not any(remaining_of(self.jobs, self.expert, self.suite)):
            self.stopped = "the expert has no demonstration left of any task"
        if self.stopped is not None:
            if self.evaluations[-1].demonstrations != len(self.jobs):
                self._evaluate(trainer, pl_module)
            raise StopIteration  # Lightning's way to end a fit in good order
        jobs = self._choose(trainer, module, data)
        self.jobs += jobs
        data.demonstrations += self._collect(trainer, jobs)
        if trainer.is_global_zero:  # what is there from a smaller budget must not be taken for this one's
            RunFolder(Path(trainer.default_root_dir)).remove_results()
        module.trained_on = len(data.demonstrations)
        if trainer.max_epochs == trainer.current_epoch + 1:
            trainer.check_val_every_n_epoch = 1  # the last round is always evaluated

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluates outside of Lightning's own validation."""
        module = _module(pl_module)
        module.on_validation_epoch_start()
        for index, batch in enumerate(_data(trainer).val_dataloader()):
            module.validation_step(batch, index)
        module.on_validation_epoch_end()
        self.on_validation_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = _module(pl_module).evaluation
        if trainer.state.fn == TrainerFn.FITTING and evaluation is not None:
            # With `val_check_interval` a round is evaluated several times; its last evaluation counts.
            earlier = [kept for kept in self.evaluations if kept.demonstrations < evaluation.demonstrations]
            self.evaluations = [*earlier, evaluation]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(trainer)  # if the run was complete before it began
        if trainer.is_global_zero:
            demonstrations = _data(trainer).demonstrations
            folder = RunFolder(Path(trainer.default_root_dir))
            _module(pl_module).export(folder.policy, demonstrations)

    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": [evaluation.to_dict() for evaluation in self.evaluations]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.evaluations = [Evaluation.from_dict(evaluation) for evaluation in state_dict["evaluations"]]

    @property
    def environment_steps(self) -> int:
        """Simulator steps that the selector took beyond the demonstrations, over all rounds; on rank 0."""
        rounds = {job.round for job in self.jobs}
        return int(sum(self._ledger.diagnostics(number)["environment_steps"] for number in rounds))

    def _check_origin(self, trainer: Trainer, module: BehaviouralCloning) -> None:
        """A run goes on from the policy that it began with; one that is remade under the same name is another."""
        if not trainer.is_global_zero:
            return
        begun = self._ledger.fact("pretrained")
        if begun is not None and begun != weights_hash(module.pretrained):
            raise InputError(
                f"The run in {trainer.default_root_dir} began with another pre-trained policy than the one that "
                "model.pretrained names now. Restore that file, or choose another folder with "
                "--trainer.default_root_dir."
            )
        if isinstance(module.retention, NoRetention) and self.selector.assumes_retention:
            warnings.warn(
                "The selector takes for granted that nothing is forgotten, and there is no retention: what is "
                "forgotten will not be asked for again. Set the embedding's `tolerance`.",
                stacklevel=2,
            )

    def _rounds_in_all(self, asked: Sequence[Job], folder: RunFolder) -> int:
        """Those in the ledger, of which the last may be small because the budget was, and those that are to come."""
        if len(asked) > self.budget:
            raise InputError(
                f"{folder.path} holds {len(asked)} demonstrations, but active.budget is {self.budget}; it is their "
                "number in all. Give at least as many, or another folder with --trainer.default_root_dir."
            )
        return len({job.round for job in asked}) - (-(self.budget - len(asked)) // self.batch_size)

    # -- one round ----------------------------------------------------------------------------------------------------

    def _choose(self, trainer: Trainer, module: BehaviouralCloning, data: DemonstrationDataModule) -> list[Job]:
        """The jobs of this round: those in the ledger, else the selector's choice, written there first."""
        number = trainer.current_epoch
        jobs: list[Job] | None = None
        if trainer.is_global_zero:
            jobs = self._ledger.round(number)
            if jobs is None:
                jobs, diagnostics = self._select(number, module, data)
                self._ledger.open_round(jobs, diagnostics)
                if number == 0:
                    self._ledger.set_fact("pretrained", weights_hash(module.pretrained))
            self.diagnostics = self._ledger.diagnostics(number)
        return cast(list[Job], trainer.strategy.broadcast(jobs))

    def _select(
        self, number: int, module: BehaviouralCloning, data: DemonstrationDataModule
    ) -> tuple[list[Job], dict[str, float]]:
        first = len(self.jobs)
        steps: list[int] = [0]

        def counted_rollout(actor: Any, episodes: Sequence[Episode]) -> list[Trajectory]:
            return rollout(actor, self.suite, episodes, on_step=lambda count: steps.append(count))

        left = remaining_of(self.jobs, self.expert, self.suite)
        lookahead = Lookahead(module, data, self.expert, number, first, self.seed)
        context = SelectionContext(
            suite=self.suite,
            policy=module.acting_policy(),
            pretrained=module.pretrained,
            statistics=module.statistics,
            demonstrations=list(data.demonstrations),
            round=number,
            seed=self.seed,
            rollout=counted_rollout,
            pretraining_counts=module.pretraining_counts,
            scores=self.evaluations[-1].scores if self.evaluations else None,
            trainable=module.trainable(),
            score_history=tuple(evaluation.scores for evaluation in self.evaluations),
            lookahead=lookahead,
            remaining=left,
        )
        selection = self.selector.select(context, int(min(self.batch_size, self.budget - first, sum(left))))
        # Numbered on from π0's own demonstrations: none of its initial states is demonstrated a second time.
        before = sum(module.pretraining_counts or ())
        jobs = [
            Job(
                demonstration=first + position,
                round=number,
                task=self.suite.tasks[task].name,
                task_index=task,
                selector=type(self.selector).__name__,
                scores=scores,
                seed=keyed_seed(self.seed, Purpose.DEMONSTRATE, before + first + position),
            )
            for position, (task, scores) in enumerate(zip(selection.picks, selection.scores, strict=True))
        ]
        # A selector that says what it costs knows better: after a resumption it may have simulated again.
        return jobs, {"environment_steps": float(sum(steps) + lookahead.steps), **selection.diagnostics}

    def _collect(self, trainer: Trainer, jobs: Sequence[Job]) -> list[Trajectory]:
        """Has the jobs demonstrated, split between the ranks; returns once all are on the disk and recorded."""
        recorded = trainer.strategy.broadcast(self._ledger.recorded() if trainer.is_global_zero else {})
        episodes = episodes_of(self.jobs, self.suite)
        missing = [(job, episodes[job.demonstration]) for job in jobs if job.demonstration not in recorded]
        share = Share(trainer.global_rank, trainer.world_size)
        quiet = trainer.progress_bar_callback is None or not trainer.is_global_zero
        try:
            collect(missing, self.expert, self.suite, self._store, share, recorded, self._ledger.record, quiet)
        finally:
            if trainer.is_global_zero:
                for demonstration in sorted(job.demonstration for job, _ in missing if job.demonstration in recorded):
                    self._ledger.record(demonstration, recorded[demonstration])
        return [self._store.read(job.demonstration, recorded[job.demonstration], job.task) for job in jobs]

    def _restore(self, trainer: Trainer) -> None:
        """Reads back what the finished rounds collected; a round after them is not trained on yet."""
        if self._restored:
            return
        known: tuple[list[Job], dict[int, str]] = ([], {})
        if trainer.is_global_zero:
            known = self._ledger.jobs(before_round=trainer.current_epoch), self._ledger.recorded()
        self.jobs, recorded = trainer.strategy.broadcast(known)
        if (trained_on := _module(trainer.lightning_module).trained_on) != len(self.jobs):
            raise InputError(
                f"The checkpoint was made after {trained_on} demonstrations, but {trainer.default_root_dir} holds "
                f"{len(self.jobs)} of its rounds. Continue a run in its own folder; to start a new one from its "
                "policy, set model.pretrained to its policy.safetensors."
            )
        _data(trainer).demonstrations = [
            self._store.read(job.demonstration, recorded[job.demonstration], job.task) for job in self.jobs
        ]
        self._restored = True


def _module(module: LightningModule) -> BehaviouralCloning:
    return cast(BehaviouralCloning, module)


def _data(trainer: Trainer) -> DemonstrationDataModule:
    return cast(DemonstrationDataModule, trainer.datamodule)  # type: ignore[attr-defined]
