"""The share of π0's knowledge that is left (ours): M0 counts for less where the policy has moved away from π0."""

from collections.abc import Mapping

import torch
from torch import Tensor

from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import Steps


def remembered_shares(squared_changes: Mapping[str, float], tolerance: float) -> dict[str, float]:
    """δ_c = min(1, tolerance² / D_c): what the knowledge of each task still counts for.

    An observation with noise variance σ² that is remembered with an error of variance D is worth σ²/D of one, once D
    is the larger of the two; and nothing is lost as long as it is the smaller.

    Args:
        squared_changes: D_c, mean squared change of an action entry on the states of each task, by its name.
        tolerance: root mean square of a change that is no forgetting, positive.

    >>> remembered_shares({"a": 0.0, "b": 0.01, "c": 0.16}, tolerance=0.2)
    {'a': 1.0, 'b': 1.0, 'c': 0.25000000000000006}
    """
    return {name: 1.0 if change <= tolerance**2 else tolerance**2 / change for name, change in squared_changes.items()}


@torch.no_grad()
def squared_change(policy: Policy, pretrained: Policy, steps: Steps) -> float:
    """Mean over steps [N] and action entries of (π(s, c) − π0(s, c))²."""
    change = policy.act(steps) - pretrained.act(steps)
    return float(change.to(torch.float64).square().mean())


def known_moment(
    stored: Tensor | None, count: float, rollouts: Mapping[str, Tensor], shares: Mapping[str, float]
) -> Tensor | None:
    """δ_min·M0 + n0 · mean_c (δ_c − δ_min)·(mean φφᵀ over the states of task c), [P, P].

    The stored sum does not say which of it came from which task. So what all of them have kept counts as it is stored,
    and what some have kept beyond that is made again from π0's own rollouts. There every task counts the same: how
    often each was demonstrated would be privileged information. Without forgetting it is M0, bit for bit.

    Args:
        stored: M0, [P, P]; None if it does not hold in these features, so that all of it is made again.
        count: n0, the states that M0 stands for.
        rollouts: φ of the states of each task that M0 covers, [n, P] each. Without any there is nothing to make again.
        shares: δ of each task; 1 for those that are not named.
    """
    share_of = {name: shares.get(name, 1.0) for name in rollouts}
    # Where the sum cannot be used, nothing of it counts, and all that is kept is made again.
    least = min(share_of.values(), default=1.0) if stored is not None else 0.0
    moment = None if stored is None else least * stored
    if not share_of or min(share_of.values()) == max(share_of.values()) == least:
        return moment
    extra = [(share_of[name] - least) * (rows.T @ rows) / len(rows) for name, rows in rollouts.items()]
    remade = count * torch.stack(extra).mean(0)
    return remade if moment is None else moment + remade
