"""Worlds by design, on the integrator: suites in which one thing is known that elsewhere can only be guessed."""

import math
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_lowercase

import numpy as np
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.suites.integrator import Integrator, simulated_reference
from amf_lightning.tasks.task import Task


class OverlappingGoals(Integrator):
    """Goals on a circle in clusters of unlike size, whose overlap is a parameter.

    At overlap 0 the goals are evenly spaced and nobody can do much better than to ask all tasks in turn. Towards 1
    those of a cluster become the same task, so that one demonstration of each cluster is all there is to know: whoever
    counts tasks asks the largest cluster most, whoever sees what tasks have in common does not. Tasks are named `a1`,
    `a2`, … by cluster; in all else this is the integrator.

    Args:
        clusters: number of goals in each.
        overlap: in [0, 1): share of the way from even spacing to the centre of the cluster that each goal is moved.
        horizon: steps of an episode.
        tolerance: an episode succeeds if it ends nearer to the goal than this.

    Raises:
        InputError: no cluster, an empty one or more than 26, an overlap outside [0, 1), or so near to 1 that two goals
            are one.
    """

    name = "OverlappingGoals"

    def __init__(
        self, clusters: Sequence[int] = (6, 3, 2, 1), overlap: float = 0.5, horizon: int = 20, tolerance: float = 0.1
    ) -> None:
        if not clusters or min(clusters) < 1 or len(clusters) > len(ascii_lowercase):
            raise InputError(f"{self.name}: clusters must be 1 to 26 positive numbers, got {list(clusters)}.")
        if not 0 <= overlap < 1:
            raise InputError(f"{self.name}: overlap is {overlap}; it must be at least 0 and less than 1.")
        super().__init__(overlapping_angles(clusters, overlap), 1.0, horizon, tolerance)
        names = [f"{ascii_lowercase[c]}{i + 1}" for c, size in enumerate(clusters) for i in range(size)]
        self.clusters, self.overlap = tuple(clusters), overlap
        self.tasks = tuple(replace(task, name=name) for task, name in zip(self.tasks, names, strict=True))
        if len(set(map(tuple, self.contexts.tolist()))) < len(self.tasks):
            raise InputError(f"{self.name}: at an overlap of {overlap} two tasks have the same goal. Lower it.")


def overlapping_angles(clusters: Sequence[int], overlap: float) -> list[float]:
    """Angles in degrees of the goals of all clusters; see `OverlappingGoals`.

    >>> overlapping_angles([2, 1], 0.0), overlapping_angles([2, 1], 0.5)
    ([0.0, 120.0, 240.0], [30.0, 90.0, 240.0])
    """
    even = np.arange(sum(clusters)) * 360.0 / sum(clusters)
    parts = np.split(even, np.cumsum(clusters)[:-1])
    angles: list[float] = np.concatenate([(1 - overlap) * part + overlap * part.mean() for part in parts]).tolist()
    return angles


class PreciseGoals(Integrator):
    """Goals at growing distance: the near ones ask for small, precise movements and are the hard ones.

    A task at radius r is rewarded by −min(‖x − g‖/w, 1) with w = precision · r, and succeeds if it ends within w. So
    the nearest goals are the hardest, while the context, the goal's coordinates, and with it the features of a network,
    grow with r: a selector that takes large features for much to learn asks the easier tasks.

    Args:
        radii: of the goals, all different; the angles are spread evenly.
        precision: w/r.
        horizon: steps of an episode; the expert needs ten for each unit of the largest radius.

    Raises:
        InputError: no radius, one that is not positive or there twice, or a precision that is not positive.
    """

    name = "PreciseGoals"

    def __init__(
        self,
        radii: Sequence[float] = (0.1, 0.15, 0.22, 0.33, 0.5, 0.75, 1.1, 1.6),
        precision: float = 0.1,
        horizon: int = 25,
    ) -> None:
        if not radii or min(radii) <= 0 or len(set(radii)) != len(radii) or precision <= 0:
            raise InputError(
                f"{self.name}: radii must be positive and all different and precision positive, got {list(radii)} "
                f"and {precision}."
            )
        super().__init__([360.0 * index / len(radii) for index in range(len(radii))], max(radii), horizon, precision)
        self.tasks = tuple(
            _at(task, radius, max(radii), precision) for task, radius in zip(self.tasks, radii, strict=True)
        )
        goals = np.array([task.context for task in self.tasks])
        self.reference = simulated_reference(goals, horizon, precision * np.array(radii), "designed.PreciseGoals")


def _at(task: Task, radius: float, largest: float, precision: float) -> Task:
    x, y = (radius / largest * number for number in task.context)
    options = {"goal": (x, y), "precision": precision * radius}
    return replace(task, name=f"radius={radius:g}", context=(x, y), options=options)


class MisleadingGoals(Integrator):
    """Goals on a circle whose contexts say something else: what looks alike is not.

    The context of each task is the goal of another one, by a fixed permutation in which no neighbours stay neighbours,
    so that a belief whose kernel compares contexts takes from a demonstration what is wrong for the tasks that look
    like it. What can be learned is as much as in the integrator. An expert is told the true goals.

    Args:
        tasks: K, evenly spaced.
        stride: task k has the context of goal k·stride mod K.
        horizon: steps of an episode.
        tolerance: an episode succeeds if it ends nearer to the goal than this.

    Raises:
        InputError: the strides do not reach every goal, or leave neighbours as they are.
    """

    name = "MisleadingGoals"

    def __init__(self, tasks: int = 12, stride: int = 5, horizon: int = 20, tolerance: float = 0.1) -> None:
        if tasks < 1 or math.gcd(tasks, stride) != 1 or stride % tasks in (1, tasks - 1):
            raise InputError(
                f"{self.name}: with a stride of {stride} among {tasks} tasks contexts do not mislead; choose a stride "
                "that has no divisor in common with the number of tasks, and is neither 1 nor one less than it."
            )
        super().__init__([360.0 * index / tasks for index in range(tasks)], 1.0, horizon, tolerance)
        self._goals = super().contexts
        self.tasks = tuple(
            replace(task, context=self.tasks[task.index * stride % tasks].context) for task in self.tasks
        )

    @property
    def goals(self) -> Tensor:
        return self._goals
