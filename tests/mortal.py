"""Parts of the tiny world that kill their own process when the environment says so: `DEATH=<rank> <part> <call>`."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinyExpert

LAST_WORDS = "this process kills itself"
_calls: Counter[str] = Counter()


def _live(part: str) -> None:
    _calls[part] += 1
    if os.environ.get("DEATH") == f"{os.environ.get('LOCAL_RANK', '0')} {part} {_calls[part]}":
        os.write(2, f"\n{LAST_WORDS}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


class MortalExpert(TinyExpert):
    """Dies at the start of a demonstration."""

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        _live("expert")
        return super().demonstrate(suite, episodes, on_step)


class MortalPolicy(MLPPolicy):
    """Dies in a training step."""

    def loss(self, steps: Steps) -> Tensor:
        _live("policy")
        return super().loss(steps)
