"""The input and the output of an embedding: `Knowledge` and `Embedded`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.posterior import Posterior


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What a belief about the expert can rest on."""

    policy: Policy
    """The current policy."""
    pretrained: Policy
    """π0."""
    statistics: FeatureStatistics | None
    """What π0's file says about its pre-training states."""
    history: Steps | None
    """All steps demonstrated so far, each read for its own task, with the expert's action; [N]."""
    reference: Callable[[], Mapping[str, Steps]]
    """Steps of π0's own first rollouts of each task, by name, [N]. Called only where needed: it may simulate."""
    clip: bool = False
    """Whether expected states may lie far outside all data, so that their features have to be bounded."""
    noise: Tensor | None = None
    """Observation noise at each state of the history, a variance in units of σ², [N] float64; 1 if None."""
    trainable: Mapping[str, Tensor] = field(default_factory=dict)
    """Which entries of each named parameter training may change; a parameter not named is trained whole."""
    device: str = "cpu"
    """Where the belief and its points belong; the policies, and the steps that they read, may be elsewhere."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A belief that knows the history, and the points of the expected states."""

    posterior: Posterior
    candidates: Tensor
    """[M, S, P] float64."""
    targets: Tensor
    """[M', S', P] float64."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Numbers about the belief, e.g. `remembered/<task>`."""
