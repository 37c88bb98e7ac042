"""One protocol for everything that keeps what π0 could do: a mask, a penalty, replay, or several at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from amf_lightning.demonstrations.batches import Rows
from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.actor import Actor
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True)
class RetentionContext:
    """What a retention may look at. There are no pre-training data in it: they are gone."""

    suite: TaskSuite
    pretrained: Policy
    """π0, frozen."""
    seed: int
    rollout: Callable[[Actor, Sequence[Episode]], list[Trajectory]]
    """Runs episodes in the simulator."""
    pretraining_counts: tuple[int, ...] | None = None
    """Demonstrations of each task that π0 was trained on, [K], if its file says so."""


class Retention:
    """Keeps nothing by itself; a subclass overrides what it can give. All of it is a function of π0 and the seed."""

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        """Called once at the start of every fit, resumed or not, before the first round. `policy` will be trained."""

    def masks(self) -> dict[str, Tensor]:
        """For named parameters of the policy, which entries may be trained: bool tensors of the parameter's shape."""
        return {}

    def penalty(self, policy: Policy) -> Tensor | None:
        """A scalar added to the loss, differentiable in the policy's parameters."""
        return None

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        """Rows to replay in a round after which the tasks of these indices have been demonstrated."""
        return None


class NoRetention(Retention):
    """Plain fine-tuning; the baseline that forgets."""


class CombinedRetention(Retention):
    """Several retentions at once: an entry is trained if every mask allows it, penalties add up.

    Args:
        parts: the retentions. At most one may replay.
    """

    def __init__(self, parts: list[Retention]) -> None:
        self.parts = parts

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        for part in self.parts:
            part.prepare(context, policy)

    def masks(self) -> dict[str, Tensor]:
        merged: dict[str, Tensor] = {}
        for part in self.parts:
            for name, mask in part.masks().items():
                merged[name] = merged[name] & mask if name in merged else mask
        return merged

    def penalty(self, policy: Policy) -> Tensor | None:
        penalties = [penalty for part in self.parts if (penalty := part.penalty(policy)) is not None]
        return sum(penalties[1:], penalties[0]) if penalties else None

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        replays = [replay for part in self.parts if (replay := part.replay(demonstrated)) is not None]
        if len(replays) > 1:
            raise InputError("Two parts of a CombinedRetention replay; only one can. Remove one of them.")
        return replays[0] if replays else None
