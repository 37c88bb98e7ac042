"""An expert that is asked for only so many demonstrations of some tasks."""

from collections.abc import Callable, Collection, Mapping, Sequence

from amf_lightning.errors import InputError
from amf_lightning.experts.checked import remaining_of
from amf_lightning.experts.expert import Expert
from amf_lightning.needs import Part
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class LimitedExpert(Expert):
    """Asks another expert, but for no more than so many demonstrations of some tasks.

    A task whose demonstrations are used up is left out of every choice; a run in which all are used up ends.

    Args:
        expert: who demonstrates.
        limits: largest number of demonstrations in all, by name of task; the others are not limited.

    Raises:
        InputError: a limit is negative.
    """

    def __init__(self, expert: Expert, limits: dict[str, int]) -> None:
        for name, limit in limits.items():
            if limit < 0:
                raise InputError(f"LimitedExpert: the limit of task '{name}' is {limit}; it cannot be negative.")
        self.expert, self.limits = expert, dict(limits)
        self.side_by_side = expert.side_by_side
        self.needs = expert.needs

    @property
    def components(self) -> Mapping[str, Part]:
        return {"expert": self.expert}

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> Sequence[Trajectory | None]:
        """See `Expert.demonstrate`."""
        return self.expert.demonstrate(suite, episodes, on_step)

    def remaining(self, suite: TaskSuite, given: Sequence[int]) -> list[float]:
        """The limits less what was given, or what the other expert has left if that is less.

        Raises:
            InputError: a limit names a task that the suite lacks.
        """
        left = list(remaining_of(self.expert, suite, given))
        for name, limit in self.limits.items():
            index = suite.task(name).index
            left[index] = min(left[index], max(0, limit - given[index]))
        return left

    def begin(self, seed: int) -> None:
        """See `Expert.begin`."""
        self.expert.begin(seed)

    def held_out(self, suite: TaskSuite) -> Mapping[str, Sequence[Trajectory]]:
        """See `Expert.held_out`."""
        return self.expert.held_out(suite)

    def leave_out(self, suite: TaskSuite, known: Collection[str]) -> None:
        """See `Expert.leave_out`."""
        self.expert.leave_out(suite, known)
