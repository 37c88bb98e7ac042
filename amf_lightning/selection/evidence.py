"""What is seen of the policy's gap to the expert without rewards."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from amf_lightning.needs import Need, Part
from amf_lightning.selection.context import SelectionContext
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Gaps:
    """The share of each task that the policy does not do as the expert does it."""

    gaps: Tensor
    """[K] float64 in [0, 1]."""
    environment_steps: int = 0
    diagnostics: Mapping[str, float] = field(default_factory=dict)


class Evidence(Part, ABC):
    """Estimates what the policy does not do yet."""

    @abstractmethod
    def gaps(self, context: SelectionContext, reference: Sequence[Trajectory]) -> Gaps:
        """The gap of every task.

        Args:
            context: of the choice.
            reference: rollouts of π0 of tasks that it was pre-trained on: they stand for its demonstrations.
        """


class OccupancyGap(Evidence):
    """Where the policy goes instead of where the expert goes, from the rollouts of `PolicyRollout`."""

    needs = (Need.SIMULATOR,)

    def __init__(self, episodes: int = 2) -> None:
        self.episodes = episodes

    def gaps(self, context: SelectionContext, reference: Sequence[Trajectory]) -> Gaps:
        rollouts, steps = context.policy_rollouts(self.episodes)
        shown = [*context.demonstrations, *reference]
        tasks = context.suite.tasks
        index = {task.name: task.index for task in tasks}
        horizons = torch.tensor([task.horizon for task in tasks], dtype=torch.float64)
        if not shown:
            gaps = torch.ones(len(tasks), dtype=torch.float64)
        else:
            unit = _unit(shown)
            gaps = occupancy_gaps(
                torch.stack([_summary(each, unit, horizons[index[each.task]]) for each in shown]),
                torch.tensor([index[each.task] for each in shown]),
                torch.stack([_summary(each, unit, horizons[index[each.task]]) for each in rollouts]),
                torch.tensor([index[each.task] for each in rollouts]),
                context.suite.contexts.to(torch.float64),
            )
        return Gaps(gaps, steps)


def _states(trajectory: Trajectory) -> Tensor:
    return torch.from_numpy(trajectory.state[:-1]).to(torch.float64)


def _unit(shown: Sequence[Trajectory]) -> Tensor:
    states = torch.cat([_states(each) for each in shown])
    return states.std(0).clamp(min=1e-6)


def _summary(trajectory: Trajectory, unit: Tensor, horizon: Tensor) -> Tensor:
    """[mean_t s_t/u, std_t s_t/u, length/horizon]."""
    states = _states(trajectory) / unit
    length = len(states) / horizon
    return torch.cat([states.mean(0), states.std(0, unbiased=False), length[None]])


def occupancy_gaps(shown: Tensor, of: Tensor, rolled: Tensor, rolled_of: Tensor, contexts: Tensor) -> Tensor:
    """See method, section 9: f_c = mean of D/(D + 1) over the rollouts of c, [K]."""
    k = len(contexts)
    psi, length = shown[:, :-1], shown[:, -1]
    known = sorted(set(of.tolist()))
    counts = torch.tensor([(of == c).sum() for c in known], dtype=torch.float64)
    means = torch.stack([psi[of == c].mean(0) for c in known])
    lengths = torch.stack([length[of == c].mean() for c in known])
    within = torch.cat([psi[of == c] - psi[of == c].mean(0) for c in known])
    freedom = len(within) - len(known)
    w = within.square().sum(0) / freedom if freedom > 0 else torch.full((psi.shape[1],), 0.05**2, dtype=psi.dtype)
    spread = means.var(0, unbiased=False) if len(known) > 1 else torch.zeros_like(w)
    a = torch.maximum(spread, torch.full_like(spread, 0.1**2))
    q = a / (a + w)
    predicted, unknown = _interpolated(
        torch.cat([means, lengths[:, None]], 1), counts, known, contexts, float((w / a).mean())
    )
    # A task that was shown is judged by its own episodes.
    predicted[known] = torch.cat([means, lengths[:, None]], 1)
    unknown[known] = 0.0
    shown_times = torch.zeros(k, dtype=torch.float64).index_add(0, of, torch.ones(len(of), dtype=torch.float64))
    blur = w * (1 + torch.where(shown_times > 0, 1 / shown_times.clamp(min=1), 0.0))[:, None]  # of the mean, too

    def distances(psi: Tensor, length: Tensor, m: Tensor, m_l: Tensor, blur: Tensor) -> Tensor:
        excess = ((psi - m).square() - blur).clamp(min=0) / a
        return (excess * q).sum(1) / q.sum() + ((length - m_l) / 0.25).square()

    # What the expert's own episodes would be seen as, each beside the others of its task.
    others = shown_times[of] - 1
    again = others > 0
    left_out = (predicted[of] * shown_times[of][:, None] - shown) / others.clamp(min=1)[:, None]
    own = distances(psi[again], length[again], left_out[again, :-1], left_out[again, -1], w * (1 + 1 / others[again])[:, None])
    ground = float(own.mean()) if again.any() else 0.0
    distance = distances(rolled[:, :-1], rolled[:, -1], predicted[rolled_of, :-1], predicted[rolled_of, -1], blur[rolled_of])
    distance = (distance - ground).clamp(min=0) + unknown[rolled_of]
    f = distance / (distance + 1)
    return torch.stack([f[rolled_of == c].mean() for c in range(k)])


def _interpolated(
    values: Tensor, counts: Tensor, known: list[int], contexts: Tensor, noise: float
) -> tuple[Tensor, Tensor]:
    """Values of all tasks [K, P] by a Gaussian process over contexts, and the unknown share of each [K]."""
    scale = contexts.std(0, unbiased=False)
    x = contexts / torch.where(scale > 0, scale, torch.ones_like(scale))
    x = x / (scale > 0).sum().clamp(min=1) ** 0.5
    squared = torch.cdist(x, x).square()
    centre = (values * counts[:, None]).sum(0) / counts.sum()
    residual = values - centre
    size = residual.square().mean(0).clamp(min=1e-12).sqrt()
    y = residual / size
    best = (-torch.inf, None)
    for lengthscale in (0.25, 0.5, 1.0, 2.0, 4.0):
        kernel = torch.exp(-0.5 * squared / lengthscale**2)
        gram = kernel[known][:, known] + torch.diag(noise / counts + 1e-6)
        factor = torch.linalg.cholesky(gram)
        solved = torch.cholesky_solve(y, factor)
        likelihood = float(-0.5 * (y * solved).mean(1).sum() - factor.diagonal().log().sum())
        if likelihood > best[0]:
            cross = kernel[:, known]
            mean = cross @ solved
            white = torch.linalg.solve_triangular(factor, cross.T, upper=False)
            best = (likelihood, (mean, (1 - white.square().sum(0)).clamp(min=0)))
    mean, unknown = best[1]
    return centre + mean * size, unknown
