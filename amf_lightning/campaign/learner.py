"""The learner, which a selector may look at beyond the demonstrations: the policy, its origin, and its scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from amf_lightning.needs import Need

if TYPE_CHECKING:
    from torch import Tensor

    from amf_lightning.evaluation.scores import Evaluation
    from amf_lightning.policies.protocol import Policy
    from amf_lightning.policies.statistics import FeatureStatistics
    from amf_lightning.tasks.controller import Acting
    from amf_lightning.tasks.task import Episode, TaskSuite
    from amf_lightning.tasks.trajectory import Trajectory


class LooksAhead(Protocol):
    """See `SelectionContext.lookahead`."""

    steps: int
    """Environment steps that it has taken so far."""

    def __call__(self, tasks: Sequence[int]) -> float:
        """Mean score of the policy after a round in which `tasks` are demonstrated, in this order."""


@dataclass(frozen=True, eq=False)
class Learner:
    """A policy that is being fine-tuned, as `Campaign.ask` shows it to the selector."""

    policy: "Policy"
    """The current policy."""
    pretrained: "Policy"
    """π0, frozen."""
    statistics: "FeatureStatistics | None" = None
    """What π0's file says about its pre-training states."""
    pretraining_counts: tuple[int, ...] | None = None
    """Demonstrations of each task that π0 was trained on, [K]; None if it was not trained before."""
    trainable: "Mapping[str, Tensor]" = field(default_factory=dict)
    """Which entries of each named parameter training may change; a parameter not named is trained whole."""
    evaluations: "Sequence[Evaluation]" = ()
    """All of this run, the first before any demonstration."""
    lookahead: LooksAhead | None = None
    """Tries tasks out, for `Oracle`."""
    rollout: "Callable[[Acting, Sequence[Episode]], list[Trajectory]] | None" = None
    """Runs episodes; None is the simulator of the suite."""
    rollouts: "dict[tuple[int, bool], list[Trajectory]]" = field(default_factory=dict)
    """Of this policy from the starts of the open round, which were made for another question; see
    `SelectionContext.policy_rollouts`."""
    device: str = "cpu"
    """Where a selector computes its belief and its criterion in float64, e.g. `cuda`; policies may be elsewhere."""

    def missing(self, suite: "TaskSuite") -> "dict[Need, str]":
        """What the learner does not have, each with the reason as a clause, for `check_needs`."""
        from amf_lightning.policies.provided import lacks

        missing = lacks(self.policy)
        if self.statistics is None:
            missing[Need.PRETRAINING_STATISTICS] = "the learner has no feature statistics of its pre-training"
        if self.pretraining_counts is None:
            missing[Need.PRETRAINING_COUNTS] = "the learner does not say what it was trained on"
        if suite.simulator is None and self.rollout is None:
            missing[Need.SIMULATOR] = f"suite '{suite.name}' has no simulator"
        return missing

    @classmethod
    def from_file(cls, path: str, suite: "TaskSuite") -> "Learner":
        """The policy of a file, before its fine-tuning begins.

        Args:
            path: of a file that `amf fit` or `save_policy` has written, or the name of a shipped one.
            suite: that the policy is to be fine-tuned on.

        Raises:
            InputError: the file cannot be read, or belongs to another suite.
        """
        from amf_lightning.policies.protocol import frozen_copy
        from amf_lightning.policies.weights import load_policy

        file = load_policy(path)
        file.check_suite(suite.signature())
        policy = file.make()
        counts = tuple(file.pretraining_counts.get(task.name, 0) for task in suite.tasks)
        return cls(frozen_copy(policy), frozen_copy(policy), file.statistics, counts)
