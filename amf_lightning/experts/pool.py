"""A pool of recordings to choose among: some are held out to judge by, the others are drawn from."""

from collections.abc import Collection, Mapping, Sequence

import torch

from amf_lightning.demonstrations.store import fingerprint
from amf_lightning.errors import InputError
from amf_lightning.experts.checked import in_types_of
from amf_lightning.experts.recorded import RecordedExpert
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class RecordedPool(RecordedExpert):
    """A pool of recordings: the latest of each task are held out to judge by, the others are given, in a drawn order.

    Held out is the same for every seed; the order of the others is drawn by the seed of the run, so that a comparison
    over seeds is one over draws from the pool. A recording that is held out is never given, and no policy that was
    trained on one can be judged by it. The evaluation `HeldOutError` judges by them.

    Args:
        folder: as that of `RecordedExpert`.
        held_out: recordings of each task that are held out, those with the highest numbers.
        include_failures: as that of `RecordedExpert`.
        include_known: likewise.

    Raises:
        InputError: a task has no recording left to be given; as `RecordedExpert`.
    """

    def __init__(
        self, folder: str, held_out: int = 2, include_failures: bool = False, include_known: bool = False
    ) -> None:
        super().__init__(folder, include_failures, include_known)
        if held_out < 1:
            raise InputError(f"RecordedPool: held_out is {held_out}; it must be at least 1. Or use RecordedExpert.")
        for task, recordings in self.recordings.items():
            if len(recordings) <= held_out:
                raise InputError(
                    f"RecordedPool: {folder} has {len(recordings)} recordings of task '{task}', and {held_out} are "
                    "held out to judge by. Record more of it, or lower held_out."
                )
        self._held = {task: recordings[-held_out:] for task, recordings in self.recordings.items()}
        self._given = {task: recordings[:-held_out] for task, recordings in self.recordings.items()}
        self.recordings = dict(self._given)

    def begin(self, seed: int) -> None:
        """Draws the order in which the recordings of each task are given."""
        for number, task in enumerate(sorted(self._given)):
            recordings = self._given[task]
            order = torch.randperm(len(recordings), generator=keyed_generator(seed, Purpose.POOL, number))
            self.recordings[task] = [recordings[place] for place in order.tolist()]

    def held_out(self, suite: TaskSuite) -> Mapping[str, Sequence[Trajectory]]:
        """See `Expert.held_out`.

        Raises:
            InputError: some recording does not fit the suite, or there is none of a task.
        """
        self._check(suite)
        if without := [task.name for task in suite.tasks if task.name not in self._held]:
            raise InputError(
                f"RecordedPool: {self.folder} has no recording of {', '.join(without[:8])}, so nothing to judge by. "
                "Record some, or leave such tasks out of the suite."
            )
        return {task.name: self._held[task.name] for task in suite.tasks}

    def leave_out(self, suite: TaskSuite, known: Collection[str]) -> None:
        """See `RecordedExpert.leave_out`.

        Raises:
            InputError: π0 was trained on what is held out, or nothing is left to be given.
        """
        held = [each for recordings in self._held.values() for each in recordings]
        if seen := sum(fingerprint(in_types_of(suite, each)) in known for each in held):
            raise InputError(
                f"RecordedPool: the policy of model.pretrained was trained on {seen} of the {len(held)} recordings "
                "that are held out to judge by. Pre-train it with the same held_out of this folder, or record new ones."
            )
        super().leave_out(suite, known)
