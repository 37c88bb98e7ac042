"""Parts that the soak's configurations name: experts of the integrator that write down what they are asked."""

import os
from collections.abc import Callable, Sequence

from amf_lightning.experts.expert import Expert
from amf_lightning.experts.scripted import IntegratorExpert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


def write_down(journal: str, episodes: Sequence[Episode]) -> None:
    """Appends a line an episode; what a process wrote is there however it ends."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, "".join(f"{episode.task.name} {episode.seed}\n" for episode in episodes).encode())
    os.close(descriptor)


class NotingExpert(IntegratorExpert):
    """Demonstrates, and keeps a journal of what it was asked for.

    Args:
        journal: file that it appends to.
    """

    def __init__(self, journal: str = "asked.txt") -> None:
        super().__init__()
        self.journal = journal

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        write_down(self.journal, episodes)
        return super().demonstrate(suite, episodes, on_step)


class LateExpert(Expert):
    """Has no answer yet, whatever is asked: somebody else gives it to the campaign."""

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory | None]:
        return [None] * len(episodes)
