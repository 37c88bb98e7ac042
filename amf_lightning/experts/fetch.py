"""An expert for the tasks of a Fetch arm: a proportional controller."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.suites.fetch import REGIONS, Fetch
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite

Vector = NDArray[np.float64]
GAIN = 10.0
"""Actions for each m of distance: the gripper is asked for 5 cm a step by an action of 1."""
OPEN, CLOSED = 1.0, -1.0
"""Of the fingers."""
UP = np.array([0.0, 0.0, 1.0])


class FetchExpert(ActingExpert):
    """Reaches straight, pushes from behind the object, and grips from above; acts on what it sees, without memory.

    It succeeds at the first attempt in all tasks nearly always: docs/fetch.md has the figures.

    Args:
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.
    """

    def actor(self, suite: TaskSuite) -> Controller:
        """The controller of the suite's tasks.

        Raises:
            InputError: the suite is another one.
        """
        if not isinstance(suite, Fetch):
            raise InputError(f"FetchExpert knows the suite Fetch, not '{suite.name}'. Choose that suite's expert.")
        return _Proportional([_CONTROLLERS[REGIONS[task.name].kind] for task in suite.tasks])


class _Proportional(Controller):
    """Has the controller of each row's task act, row by row."""

    def __init__(self, controllers: Sequence[Callable[[Vector, Vector, Vector, float], Vector]]) -> None:
        self._controllers = controllers

    def act(self, steps: Steps) -> Tensor:
        """Actions [N, 4]."""
        rows = steps.state.double().cpu().numpy()
        actions = np.empty((len(rows), 4), dtype=np.float32)
        for number, (task, row) in enumerate(zip(steps.tasks.tolist(), rows, strict=True)):
            grip, thing, fingers, goal = row[:3], row[3:6], row[9:11], row[25:28]
            actions[number] = self._controllers[task](grip, thing, goal, float(fingers.sum()))
        return torch.from_numpy(actions.clip(-1.0, 1.0)).to(steps.state)


def _towards(place: Vector, grip: Vector, fingers: float) -> Vector:
    return np.append(GAIN * (place - grip), fingers)


def reach(grip: Vector, thing: Vector, goal: Vector, width: float) -> Vector:
    """Straight to the goal."""
    return _towards(goal, grip, CLOSED)


def push(grip: Vector, thing: Vector, goal: Vector, width: float) -> Vector:
    """Over the object to behind it, down, and on to the goal; again from above where the object has slipped aside."""
    distance = float(np.linalg.norm((goal - thing)[:2]))
    if distance < 0.035:
        return _towards(grip, grip, CLOSED)
    ahead, offset = (goal - thing)[:2] / distance, (grip - thing)[:2]
    behind = np.append(thing[:2] - 0.07 * ahead, thing[2])
    if abs(offset @ (-ahead[1], ahead[0])) < 0.02 and offset @ ahead < -0.02 and grip[2] < thing[2] + 0.03:
        return _towards(np.append(thing[:2] + min(0.03, distance / 2 - 0.03) * ahead, thing[2]), grip, CLOSED)
    if np.linalg.norm((grip - behind)[:2]) < 0.02:
        return _towards(behind, grip, CLOSED)
    if grip[2] < thing[2] + 0.06:
        behind[:2] = grip[:2]
    return _towards(behind + 0.1 * UP, grip, CLOSED)


def pick(grip: Vector, thing: Vector, goal: Vector, width: float) -> Vector:
    """Above the object, down with open fingers, close them, and carry it to the goal."""
    offset = thing - grip
    if width < 0.06 and np.linalg.norm(offset) < 0.035:
        return _towards(grip + goal - thing, grip, CLOSED)
    if np.linalg.norm(offset) < 0.02:
        return _towards(grip, grip, CLOSED)
    if np.linalg.norm(offset[:2]) < 0.015:
        return _towards(thing, grip, OPEN)
    return _towards(thing + 0.08 * UP, grip, OPEN)


_CONTROLLERS = {"reach": reach, "push": push, "pick": pick}
