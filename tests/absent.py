"""An expert who does not answer at once."""

from collections.abc import Callable, Sequence

from amf_lightning.experts.expert import Expert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinyExpert


class AbsentExpert(Expert):
    """Demonstrates some tasks at once and has no answer yet for the others.

    Args:
        knows: names of the tasks that it demonstrates.
    """

    def __init__(self, knows: list[str] | None = None) -> None:
        self.knows = knows or []

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory | None]:
        answers: list[Trajectory | None] = []
        for episode in episodes:
            shown = TinyExpert().demonstrate(suite, [episode]) if episode.task.name in self.knows else [None]
            answers += shown
        return answers
