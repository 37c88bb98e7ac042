"""The policy that somebody, or a robot, is about to judge: on the disk before anybody has to try it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.evaluation.evaluators import Evaluator, reported_evaluations
from amf_lightning.evaluation.journal import EvaluationJournal
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.needs import Need
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.policies.weights import save_policy

if TYPE_CHECKING:
    from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
    from amf_lightning.fine_tuning.module import BehaviouralCloning


def export_judged(module: "BehaviouralCloning") -> Path:
    """Writes the policy as it is now to `judged/000006.safetensors`, after 6 demonstrations; returns the path.

    It can act and be fine-tuned, but lacks the statistics of the file that a finished run writes.
    """
    path = Path(module.trainer.default_root_dir) / "judged" / f"{module.trained_on:06d}.safetensors"
    names = [demonstration.task for demonstration in module.data.demonstrations]
    counts = {task.name: names.count(task.name) + module.origin.counts.get(task.name, 0) for task in module.suite.tasks}
    save_policy(path, frozen_copy(module.deployed).cpu(), module.suite.signature(), None, counts)
    return path


def evaluations_without_simulation(
    active: "ActiveSampling", module: "BehaviouralCloning", ask: bool
) -> list[Evaluation]:
    """What is known without simulation about the policies after the rounds so far, by recordings or by people.

    Args:
        active: of the run, with its earlier evaluations.
        module: with the policy as it is now.
        ask: judge that policy: by recordings at once, by people once it is on the disk.
    """
    trainer, evaluation = module.trainer, active.evaluation
    if Need.HELD_OUT in evaluation.needs:
        if not ask:
            return active.evaluations
        held_out = active.expert.held_out(active.suite)
        latest = evaluation.measured(frozen_copy(module.deployed).cpu(), active.suite, held_out, module.trained_on)
        latest = replace(latest, retention=module.retention.measure(module.policy, active.suite))
        return [*(each for each in active.evaluations if each.demonstrations < module.trained_on), latest]
    if ask and evaluation.judged_by_people:
        if trainer.is_global_zero:
            have_judged(module, evaluation)
        trainer.strategy.barrier()
    rounds = [job.round for job in active.jobs]
    return reported_evaluations(evaluation, Path(trainer.default_root_dir), rounds, active.suite)


def have_judged(module: "BehaviouralCloning", evaluation: Evaluator) -> None:
    """Has people judge the policy as it is now."""
    path, per_task = export_judged(module), module.data.evaluation_episodes
    evaluation.ask(Path(module.trainer.default_root_dir), module.trained_on, module.suite, per_task, path)


def journal_of(module: "BehaviouralCloning") -> EvaluationJournal | None:
    """What keeps the episodes of the coming evaluation of a run, if they are dear; the policy is exported first.

    None where the suite runs as many at once as one likes, and where it is no part of a fit: `amf validate` writes
    nothing of this kind.
    """
    if module.suite.parallel_episodes is None or module.trainer.state.fn != "fit":
        return None
    path = export_judged(module)
    print(f"Evaluating {path}, the policy after {module.trained_on} demonstrations.", flush=True)
    return EvaluationJournal(path.parents[1] / "evaluated.jsonl", weights_hash(module.deployed))
