"""An explicit kernel on (observation, context): AMF-GP (arXiv 2410.05026), for any policy."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jsonargparse.typing import lazy_instance
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import Embedding, noise_or_one
from amf_lightning.uncertainty.knowledge import Embedded, Knowledge
from amf_lightning.uncertainty.posterior import FunctionSpacePosterior


class Stationary(ABC):
    """A kernel of unit variance that depends on the distance r = ‖x − y‖ alone, of points already in lengthscales."""

    @abstractmethod
    def correlation(self, squared: Tensor) -> Tensor:
        """k as a function of r², of any shape."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """k between [..., N, P] and [..., M, P], [..., N, M]."""
        # Differences of large coordinates cancel: centred, the sum below loses no digits that matter.
        centre = b.flatten(0, -2).mean(0)
        a, b = a - centre, b - centre
        squared = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :] - 2 * (a @ b.mT)
        return self.correlation(squared.clamp(min=0))

    def diagonal(self, a: Tensor) -> Tensor:
        """k(x, x) = 1 of [..., P], [...]."""
        return torch.ones_like(a[..., 0])


class RBF(Stationary):
    """exp(−r²/2): smooth functions.

    >>> RBF()(torch.tensor([[0.0]]), torch.tensor([[0.0], [1.0]]))
    tensor([[1.0000, 0.6065]])
    """

    def correlation(self, squared: Tensor) -> Tensor:
        """See the class."""
        return torch.exp(-0.5 * squared)


class Matern12(Stationary):
    """exp(−r): continuous, nowhere smooth."""

    def correlation(self, squared: Tensor) -> Tensor:
        """See the class."""
        return torch.exp(-squared.sqrt())


class Matern32(Stationary):
    """(1 + √3 r) exp(−√3 r): smooth once."""

    def correlation(self, squared: Tensor) -> Tensor:
        """See the class."""
        scaled = math.sqrt(3) * squared.sqrt()
        return (1 + scaled) * torch.exp(-scaled)


class Matern52(Stationary):
    """(1 + √5 r + 5r²/3) exp(−√5 r): smooth twice."""

    def correlation(self, squared: Tensor) -> Tensor:
        """See the class."""
        scaled = math.sqrt(5) * squared.sqrt()
        return (1 + scaled + 5 / 3 * squared) * torch.exp(-scaled)


# What the command line shows as the default; the constructor makes an object of its own instead.
_KERNEL: Stationary = lazy_instance(RBF)


class Kernel(Embedding):
    """No features: two states are alike by a kernel on their observations and contexts, divided by lengthscales.

    It knows nothing of what π0 has learned, only of what was demonstrated since; measuring its lengthscales uses
    rollouts of π0. A history of more than 2,000 states is thinned, each row standing for several.

    Args:
        kernel: how likeness falls with distance.
        observation_lengthscales: one for all entries of the observation, or one for each. By default those at which
            two unrelated states are about √2 apart: √O times the spread of each entry over π0's first rollouts.
        context_lengthscales: the same for the context.
    """

    instead = "Give observation_lengthscales and context_lengthscales, so that they need not be measured."

    def __init__(
        self,
        kernel: Stationary = _KERNEL,
        observation_lengthscales: float | list[float] | None = None,
        context_lengthscales: float | list[float] | None = None,
    ) -> None:
        self.kernel = RBF() if kernel is _KERNEL else kernel
        self.observation_lengthscales = _positive("observation_lengthscales", observation_lengthscales)
        self.context_lengthscales = _positive("context_lengthscales", context_lengthscales)
        self.needs = (Need.SIMULATOR,) if None in (observation_lengthscales, context_lengthscales) else ()

    def embed(self, knowledge: Knowledge, candidates: Steps, targets: Steps, ridge: float) -> Embedded:
        """See `Embedding.embed`.

        Raises:
            InputError: another number of lengthscales than of entries.
        """
        reference = list(knowledge.reference().values()) if self.needs else []
        remembers = knowledge.policy.window.history > 1

        def latest(states: Steps) -> Tensor:
            return states.state[..., -1, :] if remembers else states.state

        scales = [
            _lengthscales(
                "observation", self.observation_lengthscales, latest(candidates), [latest(rows) for rows in reference]
            ),
            _lengthscales(
                "context", self.context_lengthscales, candidates.contexts, [rows.contexts for rows in reference]
            ),
        ]

        def points(states: Steps) -> Tensor:
            return torch.cat([latest(states) / scales[0], states.contexts / scales[1]], dim=-1).to(knowledge.device)

        posterior = FunctionSpacePosterior(self.kernel, ridge)
        if knowledge.history is not None:
            posterior = posterior.condition(points(knowledge.history), noise_or_one(knowledge.noise))
        return Embedded(posterior, points(candidates), points(targets))


def _positive(name: str, lengthscales: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if lengthscales is None:
        return None
    values = (lengthscales,) if isinstance(lengthscales, int | float) else tuple(lengthscales)
    if not values or min(values) <= 0:
        raise InputError(f"Kernel: {name} is {lengthscales}; lengthscales must be positive.")
    return values


def _lengthscales(name: str, given: tuple[float, ...] | None, rows: Tensor, reference: list[Tensor]) -> Tensor:
    """Of each entry of `rows`, or one for all, float64."""
    if given is None:
        return measured_lengthscales(torch.cat(reference))
    if len(given) not in (1, rows.shape[-1]):
        raise InputError(
            f"Kernel: {name}_lengthscales has {len(given)} entries, but the {name} has {rows.shape[-1]}. "
            "Give one for each, or a single number."
        )
    return torch.tensor(given, dtype=torch.float64, device=rows.device)


def measured_lengthscales(rows: Tensor) -> Tensor:
    """√E times the standard deviation of each of the E entries of rows [N, E], [E] float64; 1 where they are all equal.

    Two rows that have nothing to do with each other are then about √2 apart, however many entries there are.

    >>> measured_lengthscales(torch.tensor([[0.0, 5.0], [2.0, 5.0]]))
    tensor([1.4142, 1.0000], dtype=torch.float64)
    """
    rows = rows.to(torch.float64)
    spread = rows.std(dim=0, correction=0)
    varies = spread > 1e-6 * rows.abs().amax(dim=0)
    return torch.where(varies, spread * math.sqrt(rows.shape[1]), torch.ones_like(spread))
