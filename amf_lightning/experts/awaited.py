"""People who record when they have time, and hand over with `amf add`."""

from collections.abc import Callable, Sequence

from amf_lightning.experts.expert import Expert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class AwaitedExpert(Expert):
    """Never answers by itself: each request waits until `amf add`, or `Campaign.tell`, has answered it.

    A run then ends with exit code 75 in every round; `amf next` says what it waits for, and the same command goes on.
    """

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory | None]:
        return [None] * len(episodes)
