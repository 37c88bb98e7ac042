"""Active fine-tuning, round by round: AMF (arXiv 2410.05026), algorithm 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.collection import Collection, Share
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.stopping import StopRule, rounds_of
from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.evaluation.evaluators import Evaluator
from amf_lightning.evaluation.scores import Evaluation, evaluations_from
from amf_lightning.experts.checked import remaining_of
from amf_lightning.experts.expert import Expert
from amf_lightning.fine_tuning import provisions
from amf_lightning.fine_tuning.deployment import Deployment, learner_of
from amf_lightning.fine_tuning.ends import evaluate_end, is_short
from amf_lightning.fine_tuning.export import export
from amf_lightning.fine_tuning.judged import evaluations_without_simulation
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.processes import check_processes, check_strategy
from amf_lightning.fine_tuning.realised import NewDemonstrations
from amf_lightning.needs import Part, check_needs
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.selection.context import Selector
from amf_lightning.tasks.task import Episode, TaskSuite, checked_parallel
from amf_lightning.tasks.trajectory import Trajectory

Answer = tuple[Request, str]  # that was answered, and the SHA-256 of the file of its demonstration


class ActiveSampling(Callback):
    """At the start of each epoch: ask the campaign, have the expert answer, hand the demonstrations to the data module.

    The campaign's ledger is the truth. A round whose requests are in it is completed, never chosen again; a
    demonstration counts once it is on the disk and recorded there. If the expert has no answer yet, the run ends in
    good order and says in `waiting` what for; the same command goes on with it.

    Args:
        suite: given by the top-level key `suite`.
        expert: given by the top-level key `expert`.
        selector: given by the top-level key `selector`.
        evaluation: given by the top-level key `evaluation`.
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
        evaluation: Evaluator,
        budget: int = 20,
        batch_size: int = 1,
        stop: StopRule | None = None,
        seed: int = 0,
    ) -> None:
        rounds_of(budget, batch_size)
        selector.check(suite, budget)
        expert.begin(seed)
        remaining_of(expert, suite, [0] * len(suite.tasks))
        self.suite = suite
        self.expert = expert
        self.selector = selector
        self.evaluation = evaluation
        self.budget = budget
        self.batch_size = batch_size
        self.stop = stop
        self.deployment = Deployment(selector)
        self.seed = seed
        self.evaluations: list[Evaluation] = []  # after 0 demonstrations and after each evaluated round
        self.jobs: list[Request] = []  # demonstrated so far, in this round too, in the order of `data.demonstrations`
        self.diagnostics: dict[str, float] = {}  # what the selector reported this round
        self.stopped: str | None = None  # why the run ended before the budget was spent, if it did
        self.waiting: list[Request] = []  # for whose answers the run has to wait, if it ended for that reason
        self._answered: list[str] | None = None  # SHA-256 of what it was trained on; None if a checkpoint says nothing

    # -- Lightning's hooks, in the order in which they are called ---------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        check_strategy(trainer.strategy)
        module = _module(pl_module)
        checked_parallel(self.suite.parallel_episodes, f"Suite '{self.suite.name}'", trainer.world_size)
        parts: dict[str, Part] = {"evaluation": self.evaluation}
        if stage == "fit":
            parts |= {"expert": self.expert, "selector": self.selector, "retention": module.retention}
            self.expert.leave_out(self.suite, module.origin.demonstrations)
            self.deployment.prepare(module)
        check_needs(parts, provisions.what_is_missing(module, self.suite, self.evaluation, self.expert))
        self.evaluation.check(self.suite)
        self.evaluation.at_ends(_data(trainer).evaluation_episodes)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module, folder = _module(pl_module), RunFolder(Path(trainer.default_root_dir))
        check_processes(module.policy, self.suite, trainer)
        self._store = DemonstrationStore(folder.demonstrations)
        self._restored, self.waiting, rounds = False, [], 0
        if trainer.is_global_zero:  # the other processes are told what the ledger says
            self.campaign = Campaign(folder.path, self.suite, self.selector, seed=self.seed, expert=self.expert)
            rounds = provisions.rounds_in_all(self.campaign, self.budget, self.batch_size)
        trainer.fit_loop.max_epochs = trainer.strategy.broadcast(rounds)
        if trainer.is_global_zero:
            provisions.check_origin(self.campaign.ledger.fact("pretrained"), module, trainer.default_root_dir)
            provisions.warn_of_forgetting(self.selector, module.retention)
            provisions.try_to_repeat(self.campaign.ledger, self.suite, self.seed)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(trainer)
        if not self.evaluations:
            self._evaluate(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module, data = _module(pl_module), _data(trainer)
        self.stopped, requests = trainer.strategy.broadcast(
            self._ask(trainer, module, data) if trainer.is_global_zero else (None, [])
        )
        if self.stopped is not None:
            if not self.evaluations or self.evaluations[-1].demonstrations != len(self.jobs):
                self._evaluate(trainer)
            self._complete_last(trainer)
            raise StopIteration  # Lightning's way to end a fit in good order
        self._collect(trainer, requests)
        if trainer.is_global_zero:  # what is there from a smaller budget must not be taken for this one's
            RunFolder(Path(trainer.default_root_dir)).reopen()
        self.waiting, arrived = trainer.strategy.broadcast(
            self._close(trainer.current_epoch) if trainer.is_global_zero else ([], [])
        )
        if self.waiting:
            raise StopIteration
        self.jobs += [request for request, _ in arrived]
        self._answered = [*(self._answered or []), *(sha256 for _, sha256 in arrived)]
        data.demonstrations += (new := self._read(trainer, arrived))
        module.trained_on = len(data.demonstrations)
        if trainer.is_global_zero:
            self._new = NewDemonstrations([request for request, _ in arrived], new, module, trainer.current_epoch)
        self.evaluations[1:] = [each.of_rounds for each in self.evaluations[1:]]  # none of them was the last
        if trainer.max_epochs == trainer.current_epoch + 1:
            trainer.check_val_every_n_epoch = 1  # the last round is always evaluated

    def _evaluate(self, trainer: Trainer) -> None:
        """The first evaluation, or the last."""
        module = _module(trainer.lightning_module)
        if (evaluation := evaluate_end(module, self.evaluation)) is None:
            self._take_reports(trainer, ask=True)
        module.evaluation = evaluation
        self.on_validation_end(trainer, module)

    def _complete_last(self, trainer: Trainer) -> None:
        """Makes the last evaluation anew if it has only the episodes that those after rounds have."""
        if is_short(self.evaluations, len(self.jobs), _module(trainer.lightning_module), self.evaluation):
            self._evaluate(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # With `val_check_interval` there are validations in the middle of a round's training, too.
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and trainer.is_last_batch:
            self.deployment.decide(self, _module(pl_module))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        evaluation = _module(pl_module).evaluation
        if trainer.state.fn == TrainerFn.FITTING and evaluation is not None:
            # With `val_check_interval` a round is evaluated several times; its last evaluation counts.
            earlier = [other for other in self.evaluations if other.demonstrations < evaluation.demonstrations]
            self.evaluations = [*earlier, evaluation]

    def _take_reports(self, trainer: Trainer, ask: bool = False) -> None:
        """Takes what is known without simulation about the policies after the rounds so far."""
        self.evaluations = evaluations_without_simulation(self, _module(trainer.lightning_module), ask)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.deployment.decide(self, _module(pl_module))  # if it was not evaluated
        if trainer.is_global_zero:  # before the checkpoint says that this round is over
            self._new.note(_module(pl_module), self.campaign.ledger)
        if not len(_data(trainer).val_dataloader()):
            evaluated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
            self._take_reports(trainer, ask=evaluated)
        elif trainer.max_epochs == trainer.current_epoch + 1:
            self._complete_last(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore(trainer)  # if the run was complete before it began
        if not len(_data(trainer).val_dataloader()):
            self._take_reports(trainer)
        elif not self.waiting and trainer.current_epoch == trainer.max_epochs:
            self._complete_last(trainer)  # it was not known to be the last if the budget was lowered
        if trainer.is_global_zero and not self.waiting:
            folder = RunFolder(Path(trainer.default_root_dir))
            export(_module(pl_module), folder.policy, _data(trainer).demonstrations)

    def state_dict(self) -> dict[str, Any]:
        evaluations, deployment = [each.to_dict() for each in self.evaluations], self.deployment.state_dict()
        return {"evaluations": evaluations, "answers": self._answered, "deployment": deployment}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.evaluations = evaluations_from(state_dict.get("evaluations"))
        self._answered = state_dict.get("answers")
        self.deployment.load_state_dict(state_dict.get("deployment") or {})

    @property
    def repeats(self) -> bool:
        """Whether the suite does the same again, as far as was found out; on rank 0."""
        return self.campaign.ledger.fact(provisions.REPEATS) != "no"

    @property
    def environment_steps(self) -> int:
        """Simulator steps that the selector took beyond the demonstrations, over all rounds; on rank 0."""
        rounds = {job.round for job in self.jobs}
        of_rounds = sum(self.campaign.ledger.diagnostics(number).get("environment_steps", 0.0) for number in rounds)
        return int(of_rounds) + self.deployment.further_steps(len(rounds))

    # -- one round ----------------------------------------------------------------------------------------------------

    def _ask(
        self, trainer: Trainer, module: BehaviouralCloning, data: DemonstrationDataModule
    ) -> tuple[str | None, list[tuple[Request, Episode]]]:
        """On the first process: why the run ends here, if it does; else what the expert is to be asked for."""
        campaign, number = self.campaign, trainer.current_epoch
        earlier = [request for request in campaign.ledger.jobs(before_round=number) if request.asked]
        if self.stop is not None and self.stop.reached(earlier):
            return self.stop.reason, []
        if campaign.open_round > number:  # the process died when the round had been handed to training
            self.diagnostics = campaign.ledger.diagnostics(number)
            return None, []
        skipped = campaign.ledger.skipped()
        if all(not each.asked or each.demonstration in skipped for each in campaign.ledger.round(number) or ()):
            missing = self.budget - len(campaign.arrived())
            if not campaign.pending and not campaign.arrived(since=number):
                if campaign.exhausted():
                    return "the expert has no demonstration left of any task", []
                if missing <= 0:
                    return "demonstrations that nobody asked for have filled the budget", []
            campaign.ask(min(self.batch_size, missing), learner_of(self, number, module, data))
            if number == 0:
                campaign.ledger.set_fact("pretrained", weights_hash(module.pretrained))
        self.diagnostics = campaign.ledger.diagnostics(number)
        return None, list(zip(campaign.pending, campaign.episodes(campaign.pending), strict=True))

    def _collect(self, trainer: Trainer, requests: Sequence[tuple[Request, Episode]]) -> None:
        """Has the requests demonstrated, split between the ranks; returns once all that came is recorded."""
        share = Share(trainer.global_rank, trainer.world_size)
        quiet = trainer.progress_bar_callback is None or not trainer.is_global_zero
        keep = self.campaign.tell if trainer.is_global_zero else self._store.write
        outcome = Collection(self.expert, self.suite, keep, share, quiet).run(requests)
        if trainer.is_global_zero:  # also what the other ranks have written
            for number, sha256 in sorted(outcome.answers.items()):
                self.campaign.ledger.record(number, sha256)
        if outcome.failure is not None:
            raise outcome.failure

    def _close(self, number: int) -> tuple[list[Request], list[Answer]]:
        """On the first process: the requests for which the run has to wait, or else what came in the round."""
        if self.campaign.open_round <= number:
            if pending := self.campaign.pending:
                return pending, []
            self.campaign.close_round()
        return [], self._answers(since=number, before=number + 1)

    def _answers(self, *, since: int = 0, before: int) -> list[Answer]:
        """On the first process: what came in some rounds."""
        recorded = self.campaign.ledger.recorded()
        arrived = self.campaign.arrived(since=since, before=before)
        return [(request, recorded[request.demonstration]) for request in arrived]

    def _read(self, trainer: Trainer, answers: Sequence[Answer]) -> list[Trajectory]:
        """The demonstrations themselves, from their files."""
        if trainer.is_global_zero:  # which the campaign shows to the selector, too
            return self.campaign.read([request for request, _ in answers])
        return [self._store.read(request.demonstration, sha256, request.task) for request, sha256 in answers]

    def _restore(self, trainer: Trainer) -> None:
        """Reads back what the finished rounds collected; a round after them is not trained on yet."""
        if self._restored:
            return
        before, is_first = trainer.current_epoch, trainer.is_global_zero
        finished = trainer.strategy.broadcast(self._answers(before=before) if is_first else [])
        self.jobs = [request for request, _ in finished]
        here, module = [sha256 for _, sha256 in finished], _module(trainer.lightning_module)
        self._answered = provisions.checked_answers(module.trained_on, self._answered, here, trainer.default_root_dir)
        _data(trainer).demonstrations = self._read(trainer, finished)
        self._restored = True


def _module(module: LightningModule) -> BehaviouralCloning:
    return cast(BehaviouralCloning, module)


def _data(trainer: Trainer) -> DemonstrationDataModule:
    return cast(DemonstrationDataModule, trainer.datamodule)  # type: ignore[attr-defined]
