"""Experience replay: the demonstrations that π0 was trained on, if somebody has kept them."""

from pathlib import Path

from amf_lightning.configuration import user_path
from amf_lightning.demonstrations.batches import Rows, demonstration_rows
from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.retention import Retention, RetentionContext
from amf_lightning.tasks.trajectory import Trajectory


class ExperienceReplay(Retention):
    """Goes on learning from the demonstrations that π0 was trained on (Liu et al., arXiv 2603.03818).

    A reference where the pre-training data are still there, and a bound for `SelfDistillation`, which does without.
    Each minibatch has as many rows of the store as of the new demonstrations, and their losses are weighted by `share`
    to 1 − `share`: the expected gradient, up to a factor, of one minibatch of which that share comes from the store.
    What is replayed is the expert's, so a task that has been demonstrated stays in it.

    Args:
        demonstrations: folder of the store, e.g. `demonstrations` in the folder of the run that made π0; by default the
            one beside π0's file.
        share: ρ of the store in the objective, in (0, 1).
        per_task: replay only so many demonstrations of each task, the first; None for all.
    """

    needs = (Need.PRETRAINING_DEMONSTRATIONS,)
    instead = (
        "Give it `demonstrations`, the folder of that name which the run that made π0 has left, or choose "
        "SelfDistillation, which needs none."
    )

    def __init__(self, demonstrations: str | None = None, share: float = 0.5, per_task: int | None = None) -> None:
        if not 0 < share < 1:
            raise InputError(f"ExperienceReplay: share is {share}; it must lie between 0 and 1.")
        if per_task is not None and per_task < 1:
            raise InputError(f"ExperienceReplay: per_task is {per_task}; it must be at least 1, or null for all.")
        self.demonstrations = demonstrations
        self.share = share
        self.per_task = per_task
        self._folder = None if demonstrations is None else user_path(demonstrations, "retention.demonstrations")
        self.does_without = () if self._folder is None else self.needs

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        """Reads the store.

        Raises:
            InputError: there is none, a file is damaged or shows no task of the suite, or π0 was not trained on it.
        """
        folder = self._folder or context.pretraining_demonstrations
        if folder is None:
            raise InputError(f"ExperienceReplay: no demonstrations lie beside π0's file. {self.instead}")
        known = DemonstrationStore(folder).read_all()
        _check(known, context, folder)
        kept = known if self.per_task is None else first_of_each(known, self.per_task)
        rows = demonstration_rows(kept, context.suite, window=context.pretrained.window)
        self._rows = Rows(rows.steps, loss_weight=self.share / (1 - self.share))

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        return self._rows


def first_of_each(demonstrations: list[Trajectory], per_task: int) -> list[Trajectory]:
    """The first `per_task` of each task, in their order."""
    counts: dict[str, int] = {}
    kept = []
    for demonstration in demonstrations:
        counts[demonstration.task] = counts.get(demonstration.task, 0) + 1
        if counts[demonstration.task] <= per_task:
            kept.append(demonstration)
    return kept


def _check(demonstrations: list[Trajectory], context: RetentionContext, folder: Path) -> None:
    """Raises InputError if π0's file says what it was trained on, and some of these are not among it."""
    if not context.trained_on:
        return
    others = sum(fingerprint(demonstration) not in context.trained_on for demonstration in demonstrations)
    if others:
        raise InputError(
            f"ExperienceReplay: π0's file says that it was not trained on {others} of the {len(demonstrations)} "
            f"demonstrations in {folder}. Give the `demonstrations` of the run that made it."
        )
