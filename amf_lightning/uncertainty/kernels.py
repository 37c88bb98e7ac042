"""An explicit kernel on (observation, context): AMF-GP (arXiv 2410.05026), for any policy."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.uncertainty.embeddings import Embedded, Embedding, Knowledge, States, thinned_history
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


class Kernel(Embedding):
    """No features: two states are alike by a kernel on their observations and contexts, divided by lengthscales.

    It knows nothing of what π0 has learned, only of what was demonstrated since. A history of more than 2,000 states
    is thinned, each row standing for several.

    Args:
        kernel: how likeness falls with distance.
        observation_lengthscales: one for all entries of the observation, or one for each.
        context_lengthscales: the same for the context.
    """

    def __init__(
        self,
        kernel: Stationary = RBF(),  # noqa: B008 (stateless; the command line shows it as the default)
        observation_lengthscales: float | list[float] = 1.0,
        context_lengthscales: float | list[float] = 1.0,
    ) -> None:
        self.kernel = kernel
        self.observation_lengthscales = _positive("observation_lengthscales", observation_lengthscales)
        self.context_lengthscales = _positive("context_lengthscales", context_lengthscales)

    def embed(self, knowledge: Knowledge, candidates: States, targets: States, ridge: float) -> Embedded:
        """See `Embedding.embed`.

        Raises:
            InputError: another number of lengthscales than of entries.
        """
        posterior = FunctionSpacePosterior(self.kernel, ridge)
        if knowledge.history is not None:
            posterior = posterior.condition(*thinned_history(self.points(knowledge.history), knowledge.noise))
        return Embedded(posterior, self.points(candidates), self.points(targets))

    def points(self, states: States) -> Tensor:
        """Observations and contexts divided by their lengthscales, [..., O + C] float64."""
        scaled = [
            _scaled("observation", states.observations, self.observation_lengthscales),
            _scaled("context", states.contexts, self.context_lengthscales),
        ]
        return torch.cat(scaled, dim=-1)


def _positive(name: str, lengthscales: float | Sequence[float]) -> tuple[float, ...]:
    values = (lengthscales,) if isinstance(lengthscales, int | float) else tuple(lengthscales)
    if not values or min(values) <= 0:
        raise InputError(f"Kernel: {name} is {lengthscales}; lengthscales must be positive.")
    return values


def _scaled(name: str, rows: Tensor, lengthscales: tuple[float, ...]) -> Tensor:
    if len(lengthscales) not in (1, rows.shape[-1]):
        raise InputError(
            f"Kernel: {name}_lengthscales has {len(lengthscales)} entries, but the {name} has {rows.shape[-1]}. "
            "Give one for each, or a single number."
        )
    return rows.to(torch.float64) / torch.tensor(lengthscales, dtype=torch.float64, device=rows.device)
