"""An expert that gives demonstrations which were recorded before, in the order of their files."""

from collections.abc import Callable, Sequence
from pathlib import Path

from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.experts.checked import misfit
from amf_lightning.experts.expert import Expert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class RecordedExpert(Expert):
    """Gives recorded demonstrations, each once: which of those at hand are worth training on, in which order?

    The folder is one of `DemonstrationStore`: `000000.safetensors`, `000001.safetensors`, … as the `demonstrations/`
    of a run, or as `DemonstrationStore(folder).write(number, trajectory)` makes them of anything. The n-th request for
    a task gets the n-th of its recordings. A task without any left is never chosen, and the run ends when nothing is
    left of any.

    Args:
        folder: where the recordings lie, a path. Numbers may be missing.

    Raises:
        InputError: the folder holds no recording, or one that cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        store = DemonstrationStore(Path(folder))
        numbers = sorted(int(path.stem) for path in Path(folder).glob("*.safetensors") if path.stem.isdigit())
        if not numbers:
            raise InputError(
                f"RecordedExpert: {folder} holds no recorded demonstration (000000.safetensors, …). Name the "
                "demonstrations/ folder of a run, or write your own with DemonstrationStore."
            )
        self.recordings: dict[str, list[Trajectory]] = {}
        """Of each task, by name, in the order of their numbers."""
        for number in numbers:
            trajectory = store.read(number)
            self.recordings.setdefault(trajectory.task, []).append(trajectory)

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """The recordings that the episodes number; of one without a number, some recording keyed by its seed.

        Raises:
            InputError: there is none, or it does not fit the suite.
        """
        self._check(suite)
        return [self._recording(episode) for episode in episodes]

    def remaining(self, suite: TaskSuite, given: Sequence[int]) -> list[float]:
        """Recordings of each task that were not given yet.

        Raises:
            InputError: a recording does not fit the suite.
        """
        self._check(suite)
        had = [len(self.recordings.get(task.name, ())) for task in suite.tasks]
        return [max(0, count - gone) for count, gone in zip(had, given, strict=True)]

    def _recording(self, episode: Episode) -> Trajectory:
        recordings = self.recordings.get(episode.task.name, [])
        number = episode.number if episode.number is not None else episode.seed % max(1, len(recordings))
        if number >= len(recordings):
            raise InputError(
                f"RecordedExpert: demonstration {number + 1} of task '{episode.task.name}' was asked for, but "
                f"{self.folder} holds {len(recordings)}."
            )
        return recordings[number]

    def _check(self, suite: TaskSuite) -> None:
        for name, trajectories in self.recordings.items():
            suite.task(name)
            for trajectory in trajectories:
                if reason := misfit(suite, trajectory):
                    raise InputError(
                        f"RecordedExpert: a recording of task '{name}' in {self.folder} does not fit: {reason}."
                    )
