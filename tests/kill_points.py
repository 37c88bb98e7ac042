"""Where a run dies: each function, called in the run's process, makes it kill itself at one moment of one round.

The package knows nothing of it. The process says where it died, then SIGKILLs itself: no clean-up of any kind.
"""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.demonstrations.batches import Block, MicroBatch, RoundBatches
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


def die(where: str) -> None:
    os.write(2, f"\ndied {where}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def with_an_episode_half_collected(round: int) -> None:
    demonstrate, rounds = ActingExpert.demonstrate, count()

    def dying(
        self: ActingExpert, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        here, total, taken = next(rounds), sum(episode.task.horizon for episode in episodes), 0

        def counted(steps: int) -> None:
            nonlocal taken
            taken += steps
            if here == round and 2 * taken >= total:
                die(f"after {taken} of {total} steps")

        return demonstrate(self, suite, episodes, counted)

    ActingExpert.demonstrate = dying  # type: ignore[method-assign]


def between_rename_and_ledger(round: int) -> None:
    write = DemonstrationStore.write

    def dying(self: DemonstrationStore, index: int, trajectory: Trajectory) -> str:
        sha256 = write(self, index, trajectory)
        ledger = Ledger(self.folder.parent / "ledger.sqlite", read_only=True)
        if index in [request.demonstration for request in ledger.round(round) or []]:
            die(f"before demonstration {index} was recorded")
        ledger.close()
        return sha256

    DemonstrationStore.write = dying  # type: ignore[method-assign]


def between_ledger_and_training(round: int) -> None:
    iterate = RoundBatches.__iter__

    def dying(self: RoundBatches) -> Iterator[Block]:
        if self.current_round() == round:
            die("before the first batch")
        yield from iterate(self)  # Lightning asks for the iterator before the round, for its first batch in it

    RoundBatches.__iter__ = dying  # type: ignore[method-assign]


def in_mid_epoch(round: int) -> None:
    losses = BehaviouralCloning.losses

    def dying(self: BehaviouralCloning, policy: Policy, microbatch: MicroBatch) -> dict[str, Tensor]:
        steps: int = self.trainer.datamodule.steps_per_round  # type: ignore[attr-defined]
        done = self.global_step - round * steps
        if self.current_epoch == round and 2 * done >= steps:
            die(f"in training step {done}")  # within a block: Lightning's batch is not over
        return losses(self, policy, microbatch)

    BehaviouralCloning.losses = dying  # type: ignore[method-assign]


def while_the_checkpoint_is_written(round: int) -> None:
    replace, written = Path.replace, count()

    def dying(self: Path, target: Any) -> Path:
        if self.name.startswith(".last.ckpt.") and next(written) == round:
            os.truncate(self, self.stat().st_size // 2)
            die("with half a checkpoint")
        return replace(self, target)

    Path.replace = dying  # type: ignore[method-assign,assignment]
