"""How well each demonstration stands for a task it was not given for: tempered, self-normalised, in log space."""

from collections.abc import Sequence

import torch
from torch import Tensor

from amf_lightning.demonstrations.recorded_steps import RecordedSteps
from amf_lightning.policies.capabilities import Density, require
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import read_for
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


@torch.no_grad()
def log_ratios(policy: Policy, suite: TaskSuite, demonstrations: Sequence[Trajectory]) -> Tensor:
    """Σ_t [ log π(a_t | s_t, c) − log π(a_t | s_t, c_i) ] of demonstration i under task c, [K, n] float64.

    The ratio of the densities of the trajectory under the policy told c and told its own task c_i; the dynamics cancel
    (AMF, arXiv 2410.05026, importance sampling of the occupancy).
    """
    density = require(policy, Density, "ImportanceWeighted", "Choose the occupancy PolicyRollout or Demonstrated")
    columns = []
    for demonstration in demonstrations:
        steps = RecordedSteps([demonstration], suite, policy.window)[:].to(policy.device)
        densities = torch.stack([density.log_prob(read_for(steps, task, suite)) for task in range(len(suite.tasks))])
        # Summed in float64: what counts are differences between sums over hundreds of steps.
        totals = densities.to(torch.float64).sum(1)
        columns.append(totals - totals[suite.task(demonstration.task).index])
    return torch.stack(columns, dim=1).cpu()


def importance_weights(ratios: Tensor, temperatures: Tensor) -> Tensor:
    """w_i(c) = softmax_i(ratio_i(c)/T_c), [K, n] float64, each row sums to one.

    A ratio that is NaN counts as −∞; a row in which all are −∞ becomes uniform.

    >>> importance_weights(torch.tensor([[0.0, -1e5], [-torch.inf, -torch.inf]]), torch.tensor([1.0, 1.0]))
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    ratios = torch.where(ratios.isnan(), torch.full_like(ratios, -torch.inf), ratios)
    lost = (ratios == -torch.inf).all(1, keepdim=True)
    return torch.softmax(torch.where(lost, torch.zeros_like(ratios), ratios) / temperatures[:, None], dim=1)


def effective_sample_size(weights: Tensor) -> Tensor:
    """1 / Σ_i w_i² of each row of weights [K, n], between 1 and n."""
    return 1 / weights.square().sum(1)


def smallest_temperature(ratios: Tensor, size: float) -> Tensor:
    """The smallest T ≥ 1 at which the effective sample size of each row of ratios [K, n] is at least `size`, [K].

    It grows with T, so it is found by bisection of log T. Where `size` cannot be reached, T is so large that the
    weights are uniform.
    """
    # exp(60) is far above any ratio of log densities, and 60 halvings of [0, 60] reach the last bit of a float64.
    low, high = ratios.new_zeros(len(ratios)), ratios.new_full((len(ratios),), 60.0)
    for _ in range(60):
        middle = (low + high) / 2
        enough = effective_sample_size(importance_weights(ratios, middle.exp())) >= size
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    # The bisection ends just above T = 1 where T = 1 is enough; there the weights are the untempered ones to the bit.
    untempered = effective_sample_size(importance_weights(ratios, torch.ones_like(low))) >= size
    return torch.where(untempered, torch.ones_like(high), high.exp())
