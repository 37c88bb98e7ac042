"""Parts of a user that fail: each raises, or gives what it may not give, at one place."""

import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from amf_lightning.campaign import collection
from amf_lightning.evaluation.evaluators import NoEvaluation
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.retention.retention import NoRetention
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, Task, TaskSuite
from tiny import PointEnv, TinyExpert, TinySuite


class ConstructedExpert(TinyExpert):
    def __init__(self) -> None:
        raise ValueError("no connection to the robot")


class RaisingExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        raise ValueError("the gripper is stuck\nand the lamp is off")


class InLibraryExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return torch.zeros(2) @ torch.zeros(3)


class InOursExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return super().demonstrate(suite, [None], on_step)  # type: ignore[list-item]


class QuittingExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        sys.exit(0)


class ExhaustedExpert(TinyExpert):
    side_by_side = False

    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return [next(iter([]))]


class WithoutProgressExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode]) -> Any:  # type: ignore[override]
        return []


class NoneExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return None


class ListExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return [[0.0, 0.0] for _ in episodes]


class OneForAllExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return super().demonstrate(suite, episodes, on_step)[0]


class RemainingExpert(TinyExpert):
    def __init__(self, left: Any = None) -> None:
        super().__init__()
        self.left = left

    def remaining(self, suite: TaskSuite, given: Sequence[int]) -> Any:
        return [float("nan")] * len(suite.tasks) if self.left == "nan" else self.left


class RaisingRemainingExpert(TinyExpert):
    def remaining(self, suite: TaskSuite, given: Sequence[int]) -> list[float]:
        raise KeyError("inbox")


class ActorlessExpert(TinyExpert):
    def actor(self, suite: TaskSuite) -> Any:
        return None


class ShapelessActor:
    def act(self, observations: Tensor, contexts: Tensor) -> Any:
        return observations[:, :0].sum()


class WideActor:
    def act(self, observations: Tensor, contexts: Tensor) -> Any:
        return torch.zeros(len(observations), 3)


class RaggedActor:
    def act(self, observations: Tensor, contexts: Tensor) -> Any:
        return [[0.0], [0.0, 1.0]]


class RaisingActor:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        raise RuntimeError("the motor is hot")


class ActingExpertOf(TinyExpert):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def actor(self, suite: TaskSuite) -> Any:
        return {"raises": RaisingActor, "shapeless": ShapelessActor, "wide": WideActor, "ragged": RaggedActor}[
            self.kind
        ]()


class ConstructedSuite(TinySuite):
    def __init__(self) -> None:
        raise OSError("no scene file")


class RaisingEnv(PointEnv):
    def step(self, action: Any) -> Any:
        raise ValueError("joint limit")


class RaisingSuite(TinySuite):
    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        raise ValueError("no display")


class RaisingEnvSuite(TinySuite):
    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        return RaisingEnv(self.horizon)


class RaisingSelector(RoundRobin):
    def select(self, context: Any, batch_size: int) -> Any:
        raise IndexError("no task")


class NoneSelector(RoundRobin):
    def select(self, context: Any, batch_size: int) -> Any:
        return None


class ExhaustedSelector(RoundRobin):
    def select(self, context: Any, batch_size: int) -> Any:
        return next(iter([]))


class RaisingRetention(NoRetention):
    def begin_round(self, *arguments: Any, **named: Any) -> Any:
        raise ValueError("no mask")

    def penalty(self, *arguments: Any, **named: Any) -> Any:
        raise ValueError("no penalty")


class RaisingEvaluation(NoEvaluation):
    def check(self, suite: TaskSuite) -> None:
        raise ValueError("nobody watches")


class ConstructedPolicy(MLPPolicy):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        raise ValueError("no backbone")


class RaisingPolicy(MLPPolicy):
    def loss(self, steps: Steps) -> Tensor:
        raise RuntimeError("shapes differ")


class ExhaustedPolicy(MLPPolicy):
    def loss(self, steps: Steps) -> Tensor:
        return next(iter([]))


class SlowExpert(TinyExpert):
    """Says by a file that it has begun, and takes its time."""

    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        Path("begun").touch()
        time.sleep(60)


class DeafExpert(TinyExpert):
    """The same, and swallows what should end it."""

    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        Path("begun").touch()
        for _ in range(3):
            with suppress(BaseException):
                time.sleep(60)


class SmallDiskExpert(TinyExpert):
    """From the first demonstration on, files cannot be larger than 60 kB."""

    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        shown = super().demonstrate(suite, episodes, on_step)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        return shown


class FullDiskSuite(TinySuite):
    """Once there is a file `full`, no file can be as large as the run's evaluation.json was."""

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        if Path("full").exists():
            size = Path("run", "evaluation.json").stat().st_size - 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return super().make(task, render_mode)


class NoMemoryExpert(TinyExpert):
    def demonstrate(self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Any = None) -> Any:
        return np.empty(2**45)


class BuggyExpert(TinyExpert):
    """Breaks something of this package, as a mistake of its own would."""

    def __init__(self) -> None:
        super().__init__()
        collection.in_types_of = None  # type: ignore[assignment, attr-defined]
