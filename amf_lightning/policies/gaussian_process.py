"""A Gaussian process on (observation, context): the policy of AMF-GP (arXiv 2410.05026). Its weights are its data."""

import math

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Density
from amf_lightning.policies.protocol import Policy, RefittedPolicy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Specs, state_size
from amf_lightning.tasks.steps import Steps


class GaussianProcessPolicy(Density, RefittedPolicy):
    """π(s, c) = k(x, X)(K + N)⁻¹Y with x = (s, c) in lengthscales, k(x, y) = exp(−‖x − y‖²/2) and the prior mean 0.

    The A action dimensions share the kernel; the mean is clipped to [-1, 1]; the action distribution is normal with
    the predictive variance k(x, x) − k(x, X)(K + N)⁻¹k(X, x) + noise². Exact, by a Cholesky factor in float64, up to
    `capacity` rows. Of more, evenly spaced ones are kept, and a row that stands for m has the noise variance noise²/m.

    What it knows are the rows that it was fitted to. They are stored in a tensor of fixed size, so that files and
    checkpoints of the same options fit each other however much was seen.

    Args:
        observation: entries of the observation, of which it reads one vector; or its length O.
        context_dim: C.
        action_dim: A.
        observation_lengthscale: distance of observations over which actions change.
        context_lengthscale: distance of contexts over which actions change.
        noise: observation noise as a standard deviation: of an action around the function, whose prior has 1.
        capacity: rows that are kept at most. A refit costs capacity³/3 multiplications.

    Raises:
        InputError: a lengthscale, the noise or the capacity is not positive.
    """

    rows: Tensor
    """[capacity, O + C + A + 1] float64: observation, context, action, and how many rows each stands for."""
    used: Tensor
    """Rows in use, int64."""

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        observation_lengthscale: float = 1.0,
        context_lengthscale: float = 1.0,
        noise: float = 0.1,
        capacity: int = 1024,
    ) -> None:
        super().__init__()
        positive = (observation_lengthscale, context_lengthscale, noise, capacity)
        for name, value in zip(self.options, positive, strict=True):
            if not value > 0:
                raise InputError(f"GaussianProcessPolicy: {name} is {value}; it must be positive.")
        self.noise, self.capacity = noise, capacity
        self._lengthscales = observation_lengthscale, context_lengthscale
        self._dims = [state_size(observation, type(self).__name__), context_dim, action_dim, 1]
        self.register_buffer("rows", torch.zeros(capacity, sum(self._dims), dtype=torch.float64))
        self.register_buffer("used", torch.tensor(0))
        self._solution: tuple[Tensor, Tensor, Tensor] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "_solution", None))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def refit(self, start: Policy, steps: Steps) -> None:
        """Takes the rows of `start` and these; thins both alike if they are more than the capacity."""
        assert isinstance(start, GaussianProcessPolicy)
        actions = steps.shown_actions
        fresh = torch.cat([steps.state, steps.contexts, actions, torch.ones_like(actions[:, :1])], dim=1).to(self.rows)
        rows = torch.cat([start.rows[: int(start.used)].to(self.rows), fresh])
        if (count := len(rows)) > self.capacity:
            # Evenly spaced over all rounds, so that no round is forgotten; each row then stands for more of them.
            rows = rows[torch.arange(self.capacity, device=rows.device) * count // self.capacity]
            rows[:, -1] *= count / self.capacity
        self.rows.zero_()
        self.rows[: len(rows)] = rows
        self.used.fill_(len(rows))
        self._solution = self._solve()

    def points(self, steps: Steps) -> Tensor:
        """(s, c) in lengthscales, [..., O + C] float64: where the kernel is a function of the distance alone."""
        return self._scaled(steps.state, steps.contexts)

    @property
    def known(self) -> tuple[Tensor, Tensor]:
        """Points [n, O + C] of the rows that it was fitted to, and how many rows each stands for, [n]."""
        observations, contexts, _, count = self._kept()
        return self._scaled(observations, contexts), count[:, 0]

    def mean(self, steps: Steps) -> Tensor:
        """Posterior mean, not clipped, [N, A] float64."""
        inputs, _, coefficients = self._solved()
        return rbf(self.points(steps), inputs) @ coefficients

    def variance(self, steps: Steps) -> Tensor:
        """Posterior variance of the function, without observation noise, [N] float64; 1 where nothing is known."""
        inputs, factor, _ = self._solved()
        cross = rbf(inputs, self.points(steps))
        white: Tensor = torch.linalg.solve_triangular(factor, cross, upper=False)
        return (1 - white.square().sum(0)).clamp(min=0)

    def act(self, steps: Steps) -> Tensor:
        return self.mean(steps).clamp(-1, 1).to(steps.state)

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """The clipped mean, or a draw from the predictive distribution, clipped; [N, 1, A]."""
        mean = self.act(steps)
        if generator is not None:
            normal = generator.normal(mean.shape[1]).to(mean)
            mean = (mean + self._deviation(steps).to(mean) * normal).clamp(-1, 1)
        return mean[:, None]

    @torch.no_grad()
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        mean = self.act(steps)
        normal = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + self._deviation(steps).to(mean) * normal

    def loss(self, steps: Steps) -> Tensor:
        """Mean squared error of the action, [N]; there is no weight that it could be differentiated by."""
        return (self.act(steps) - steps.shown_actions).square().mean(dim=1)

    def log_prob(self, steps: Steps) -> Tensor:
        actions = steps.shown_actions
        deviation = self._deviation(steps).to(actions)
        z = (actions - self.act(steps)) / deviation
        return (-0.5 * z.square() - deviation.log() - 0.5 * math.log(2 * math.pi)).sum(dim=1)

    def _deviation(self, steps: Steps) -> Tensor:
        """Standard deviation of an action, [N, 1]."""
        return (self.variance(steps) + self.noise**2).sqrt()[:, None]

    def _scaled(self, observations: Tensor, contexts: Tensor) -> Tensor:
        observation, context = self._lengthscales
        return torch.cat([observations.double() / observation, contexts.double() / context], dim=-1)

    def _kept(self) -> tuple[Tensor, ...]:
        return torch.split(self.rows[: int(self.used)], self._dims, dim=1)

    def _solved(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._solution is None or self._solution[0].device != self.rows.device:
            self._solution = self._solve()
        return self._solution

    def _solve(self) -> tuple[Tensor, Tensor, Tensor]:
        """X, the lower Cholesky factor of K + N, and (K + N)⁻¹Y."""
        inputs, count = self.known
        factor: Tensor = torch.linalg.cholesky(rbf(inputs, inputs) + torch.diag(self.noise**2 / count))
        return inputs, factor, torch.cholesky_solve(self._kept()[2], factor)


def rbf(a: Tensor, b: Tensor) -> Tensor:
    """exp(−‖x − y‖²/2) between rows [N, P] and [M, P], [N, M]."""
    # Not as ‖x‖² + ‖y‖² − 2x·y, which loses the digits in which near points differ.
    return torch.exp(-0.5 * torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square())
