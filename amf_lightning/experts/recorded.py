"""An expert that gives demonstrations which were recorded before, in the order of their files."""

import warnings
from collections.abc import Callable, Collection, Sequence

from amf_lightning.configuration import user_path
from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.errors import InputError
from amf_lightning.experts.checked import in_types_of, objection
from amf_lightning.experts.expert import Expert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

_TOLD = 3
"""Recordings that a message describes; of the others it says how many."""


class RecordedExpert(Expert):
    """Gives recorded demonstrations, each once: which of those at hand are worth training on, in which order?

    The folder is one of `DemonstrationStore`: `000000.safetensors`, `000001.safetensors`, … as the `demonstrations/`
    of a run, or as `DemonstrationStore(folder).write(number, trajectory)` makes them of anything; see
    docs/recordings.md. The n-th request for a task gets the n-th of its recordings. A task without any left is never
    chosen, and the run ends when nothing is left of any. All are read and checked before the run begins.

    Args:
        folder: where the recordings lie, a path. Numbers may be missing.
        include_failures: give recordings that say that they failed, too. A warning says how many were left out.
        include_known: give recordings that π0 was trained on, too. Its file says which those are.

    Raises:
        InputError: the folder holds no recording, or some that cannot be read; names them.
    """

    def __init__(self, folder: str, include_failures: bool = False, include_known: bool = False) -> None:
        self.folder, self.include_known = folder, include_known
        self._path = user_path(folder, "expert.folder")
        self._fits: TaskSuite | None = None
        self.recordings: dict[str, list[Trajectory]] = {}
        """Of each task, by name, in the order of their numbers."""
        self._files: list[tuple[str, Trajectory]] = []
        found = self._read()
        failed = [name for name, trajectory in found if trajectory.success is False]
        if failed and not include_failures:
            if len(failed) == len(found):
                raise InputError(
                    f"RecordedExpert: all {len(found)} recordings in {folder} say that they failed. Record others, or "
                    "set include_failures: true to train on them."
                )
            self._warn(len(failed), len(found), "say that they failed", "include_failures")
        for name, trajectory in found:
            if include_failures or trajectory.success is not False:
                self._files.append((name, trajectory))
                self.recordings.setdefault(trajectory.task, []).append(trajectory)

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """The recordings that the episodes number; of one without a number, some recording keyed by its seed.

        Raises:
            InputError: there is none, or some recording does not fit the suite.
        """
        self._check(suite)
        return [self._recording(episode) for episode in episodes]

    def remaining(self, suite: TaskSuite, given: Sequence[int]) -> list[float]:
        """Recordings of each task that were not given yet.

        Raises:
            InputError: some recording does not fit the suite.
        """
        self._check(suite)
        had = [len(self.recordings.get(task.name, ())) for task in suite.tasks]
        return [max(0, count - gone) for count, gone in zip(had, given, strict=True)]

    def leave_out(self, suite: TaskSuite, known: Collection[str]) -> None:
        """Gives no recording any more that π0 was trained on, unless it was asked to.

        Raises:
            InputError: none is left.
        """
        if self.include_known or not known:
            return
        before = sum(map(len, self.recordings.values()))
        self.recordings = {
            task: [each for each in trajectories if fingerprint(in_types_of(suite, each)) not in known]
            for task, trajectories in self.recordings.items()
        }
        if gone := before - sum(map(len, self.recordings.values())):
            if gone == before:
                raise InputError(
                    f"RecordedExpert: the policy of model.pretrained was trained on all {before} recordings in "
                    f"{self.folder}. Record others, or set include_known: true to train on them again."
                )
            self._warn(gone, before, "are among what model.pretrained was trained on", "include_known")

    def _recording(self, episode: Episode) -> Trajectory:
        recordings = self.recordings.get(episode.task.name, [])
        number = episode.number if episode.number is not None else episode.seed % max(1, len(recordings))
        if number >= len(recordings):
            raise InputError(
                f"RecordedExpert: demonstration {number + 1} of task '{episode.task.name}' was asked for, but "
                f"{self.folder} holds {len(recordings)}."
            )
        return recordings[number]

    def _read(self) -> list[tuple[str, Trajectory]]:
        """Name and content of every file, in the order of their numbers."""
        store = DemonstrationStore(self._path)
        numbers = sorted({int(path.stem) for path in self._path.glob("*.safetensors") if path.stem.isdecimal()})
        if not numbers:
            raise InputError(
                f"RecordedExpert: {self.folder} holds no recorded demonstration (000000.safetensors, …). Name the "
                "demonstrations/ folder of a run, or write your own with DemonstrationStore."
            )
        found, wrong = [], []
        for number in numbers:
            try:
                found.append((store.path(number).name, store.read(number)))
            except InputError as error:
                wrong.append(str(error).partition(" Restore ")[0])  # what to do is said once, below
        self._refuse(wrong, len(numbers))
        return found

    def _check(self, suite: TaskSuite) -> None:
        """Looks through all recordings, once for a suite."""
        if self._fits is suite:
            return
        tasks = {task.name: task for task in suite.tasks}
        wrong = []
        for name, trajectory in self._files:
            task = tasks.get(trajectory.task)
            reason = (
                f"suite '{suite.name}' has no task '{trajectory.task}'"
                if task is None
                else objection(suite, task.name, trajectory)
            )
            if reason:
                wrong.append(f"{name}, a recording of task '{trajectory.task}', does not fit: {reason}.")
        self._refuse(wrong, len(self._files))
        self._fits = suite

    def _refuse(self, wrong: Sequence[str], of: int) -> None:
        if wrong:
            more = f" So it is with {len(wrong) - _TOLD} more." if len(wrong) > _TOLD else ""
            raise InputError(
                f"RecordedExpert: {len(wrong)} of {of} recordings in {self.folder} cannot be used. "
                f"{' '.join(wrong[:_TOLD])}{more} Correct them, or move them away."
            )

    def _warn(self, gone: int, of: int, why: str, option: str) -> None:
        warnings.warn(
            f"RecordedExpert: {gone} of {of} recordings in {self.folder} {why} and are left out; with {option}: true "
            "they are given, too.",
            stacklevel=3,
        )
