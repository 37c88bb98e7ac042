"""One protocol for everything that keeps what π0 could do: another policy to deploy, a mask, a penalty, replay."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from amf_lightning.demonstrations.batches import Rows
from amf_lightning.errors import InputError
from amf_lightning.needs import Part, union
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite


@dataclass(frozen=True)
class RetentionContext:
    """What a retention may look at. Pre-training data are gone, unless somebody has kept them."""

    suite: TaskSuite
    pretrained: Policy
    """π0, frozen."""
    seed: int
    pretraining_counts: tuple[int, ...] | None = None
    """Demonstrations of each task that π0 was trained on, [K], if its file says so."""
    importance: Mapping[str, Tensor] = field(default_factory=dict)
    """Importance of each parameter that π0's file keeps, by its name; empty if it keeps none."""
    pretraining_demonstrations: Path | None = None
    """The folder beside π0's file in which the run that made it left its demonstrations; None if there is none."""
    trained_on: frozenset[str] = frozenset()
    """`fingerprint` of each demonstration that π0 was trained on, as far as its file says."""

    def pretraining_tasks(self) -> list[int]:
        """Indices of the tasks that π0 was pre-trained on; of every task, if its file does not say or none is here."""
        counts = self.pretraining_counts or ()
        return [index for index, count in enumerate(counts) if count > 0] or list(range(len(self.suite.tasks)))


class Retention(Part):
    """Keeps nothing by itself; a subclass overrides what it can give. All of it is a function of π0 and the seed."""

    def wrap(self, policy: Policy, suite: TaskSuite) -> Policy:
        """The policy to train, evaluate and export in place of `policy`, which has the weights of π0."""
        return policy

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        """Called once at the start of every fit, resumed or not, before the first round. `policy` will be trained."""

    def masks(self) -> dict[str, Tensor]:
        """For named parameters of the policy, which entries may be trained: bool tensors of the parameter's shape."""
        return {}

    def penalty(self, policy: Policy) -> Tensor | None:
        """A scalar added to the loss, differentiable in the policy's parameters."""
        return None

    def loss(self, policy: Policy, steps: Steps) -> Tensor:
        """The loss of each row, [N], to minimise: the policy's own, unless what `wrap` returns learns otherwise."""
        return policy.loss(steps)

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        """Rows to replay in a round after which the tasks of these indices have been demonstrated."""
        return None

    def replay_loss(self, policy: Policy, steps: Steps) -> Tensor | None:
        """The loss of each replayed row, [N], where it is another one than `loss`, which None says it is."""
        return None

    def before_step(self, policy: Policy) -> None:
        """Called with complete gradients, before they are clipped and the optimiser steps."""

    def after_step(self, policy: Policy) -> None:
        """Called after each step of the optimiser."""

    def measure(self, policy: Policy, suite: TaskSuite) -> dict[str, float]:
        """Numbers about the policy at the moment of an evaluation.

        One named `NAME/<task>` becomes a column NAME of `forgetting.csv` and of the report; all become curves.
        """
        return {}


class NoRetention(Retention):
    """Plain fine-tuning; the baseline that forgets."""


class CombinedRetention(Retention):
    """Several retentions at once: an entry is trained if every mask allows it, penalties add up.

    Args:
        parts: the retentions. At most one may replay, and at most one may deploy another policy.

    Raises:
        InputError: two of them exclude each other.
    """

    def __init__(self, parts: list[Retention]) -> None:
        self.parts = _flat(parts)
        self.needs = union(*(part.needs for part in self.parts))
        self._losing = _only(self.parts, "loss", "say what is minimised")
        self._replaying = _only(self.parts, "replay", "replay, and there is one further minibatch")
        self._wrapping = _only(self.parts, "wrap", "deploy a policy of their own in the place of π0's")

    @property
    def components(self) -> Mapping[str, Part]:
        return {f"parts[{number}]": part for number, part in enumerate(self.parts)}

    def wrap(self, policy: Policy, suite: TaskSuite) -> Policy:
        return self._wrapping.wrap(policy, suite)

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

    def loss(self, policy: Policy, steps: Steps) -> Tensor:
        return self._losing.loss(policy, steps)

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        return self._replaying.replay(demonstrated)

    def replay_loss(self, policy: Policy, steps: Steps) -> Tensor | None:
        return self._replaying.replay_loss(policy, steps)

    def before_step(self, policy: Policy) -> None:
        for part in self.parts:
            part.before_step(policy)

    def after_step(self, policy: Policy) -> None:
        for part in self.parts:
            part.after_step(policy)

    def measure(self, policy: Policy, suite: TaskSuite) -> dict[str, float]:
        return {name: value for part in self.parts for name, value in part.measure(policy, suite).items()}


def origin(name: str, known: Container[str]) -> str | None:
    """The name in π0 of a parameter of the deployed policy, None if it is not a copy of one.

    >>> origin("copies.3.head.bias", {"head.bias"}), origin("share", {"head.bias"})
    ('head.bias', None)
    """
    while name not in known:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    return name


def _flat(parts: Sequence[Retention]) -> list[Retention]:
    """The parts, with those of combinations in their places."""
    nested = [part.parts if isinstance(part, CombinedRetention) else [part] for part in parts]
    return [part for group in nested for part in group]


def _only(parts: Sequence[Retention], what: str, reason: str) -> Retention:
    """The one part that overrides the method `what`; `NoRetention` if none does."""
    overriding = [part for part in parts if getattr(type(part), what) is not getattr(Retention, what)]
    if len(overriding) > 1:
        names = " and ".join(type(part).__name__ for part in overriding)
        raise InputError(f"CombinedRetention: {names} both {reason}: only one can. Remove one of them.")
    return overriding[0] if overriding else NoRetention()
