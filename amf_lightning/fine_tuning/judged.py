"""The policy that somebody, or a robot, is about to judge: on the disk before anybody has to try it."""

from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
from amf_lightning.evaluation.journal import EvaluationJournal
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.policies.weights import save_policy

if TYPE_CHECKING:
    from amf_lightning.fine_tuning.module import BehaviouralCloning


def export_judged(folder: Path, module: "BehaviouralCloning", data: DemonstrationDataModule) -> Path:
    """Writes the policy as it is now to `judged/000006.safetensors`, after 6 demonstrations; returns the path.

    It can act and be fine-tuned, but lacks the statistics of the file that a finished run writes.
    """
    path = folder / "judged" / f"{module.trained_on:06d}.safetensors"
    names = [demonstration.task for demonstration in data.demonstrations]
    counts = {task.name: names.count(task.name) + module.origin.counts.get(task.name, 0) for task in module.suite.tasks}
    save_policy(path, module.acting_policy(), module.suite.signature(), None, counts)
    return path


def journal_of(folder: Path, module: "BehaviouralCloning", data: DemonstrationDataModule) -> EvaluationJournal:
    """What keeps the episodes of the coming evaluation in the folder of a run; the policy is exported first."""
    path = export_judged(folder, module, data)
    print(f"Evaluating {path}, the policy after {module.trained_on} demonstrations.", flush=True)
    return EvaluationJournal(folder / "evaluated.jsonl", weights_hash(module.policy))
