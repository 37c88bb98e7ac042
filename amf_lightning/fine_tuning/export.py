"""The file that a run leaves: its policy, with what the next run should know of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.demonstrations.store import fingerprint
from amf_lightning.policies.protocol import RefittedPolicy, frozen_copy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import save_policy
from amf_lightning.retention.importance import stored_importance
from amf_lightning.tasks.trajectory import Trajectory

if TYPE_CHECKING:
    from amf_lightning.fine_tuning.module import BehaviouralCloning


def export(module: "BehaviouralCloning", path: Path, demonstrations: list[Trajectory]) -> None:
    """Writes the policy with the statistics of its own final features over the demonstrations of this run."""
    policy, suite, origin = frozen_copy(module.deployed).cpu(), module.suite, module.origin
    task_names = [trajectory.task for trajectory in demonstrations]
    steps = demonstration_rows(demonstrations, suite, window=policy.window).everything()
    counts = {task.name: task_names.count(task.name) for task in suite.tasks}
    covers = {name: count for name, count in counts.items() if count}
    statistics = feature_statistics(policy, steps, covers) if module.featured else None
    # Also of tasks that only π0's suite had.
    total = origin.counts | {name: count + origin.counts.get(name, 0) for name, count in counts.items()}
    # A `RefittedPolicy` keeps its rows instead.
    stores_importance = module.store_importance and not isinstance(policy, RefittedPolicy)
    importance = stored_importance(policy, steps, module.seed) if stores_importance else None
    known = origin.demonstrations | {fingerprint(trajectory) for trajectory in demonstrations}
    save_policy(path, policy, suite.signature(), statistics, total, importance, known)
