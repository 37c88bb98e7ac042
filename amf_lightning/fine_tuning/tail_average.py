"""The mean of a round's last weights: a constant learning rate keeps the weights moving, and the mean stands still."""

from collections.abc import Mapping

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy


class TailAverage:
    """Averages weights over the last optimiser steps of one round (Polyak and Juditsky 1992; Izmailov et al. 2018).

    Args:
        policy: which is trained; it goes on from its own weights, not from the mean.
        averaged: of the same shapes; takes the mean, and what is no weight (what inputs are normalised by) as it is.
            None: nothing is averaged.
        steps: of the round.
        share: of them that are averaged, in (0, 1]; at least one step is.
    """

    def __init__(self, policy: Policy, averaged: Policy | None, steps: int, share: float) -> None:
        self._policy, self._averaged = policy, averaged
        self._before = steps - max(1, round(share * steps))
        self._taken = 0

    @torch.no_grad()
    def after_step(self, losses: Mapping[str, Tensor]) -> None:
        """To be called after each optimiser step of the round, whose losses do not matter."""
        if self._averaged is None:
            return
        self._taken += 1
        number = self._taken - self._before
        if number == 1:
            self._averaged.load_state_dict(self._policy.state_dict())
        elif number > 1:
            for copy, buffer in zip(self._averaged.buffers(), self._policy.buffers(), strict=True):
                copy.copy_(buffer)
            # Weights that did not move keep their bits: the mean of equal numbers is computed as one of them.
            pairs = zip(self._averaged.parameters(), self._policy.parameters(), strict=True)
            moving = [(mean, weight) for mean, weight in pairs if weight.requires_grad]
            torch._foreach_lerp_([mean for mean, _ in moving], [weight for _, weight in moving], 1 / number)


def checked_share(share: float) -> float:
    """The share itself; InputError unless it is in [0, 1]."""
    if not 0 <= share <= 1:
        raise InputError(
            f"model.average is {share}; it is the share of a round's steps whose weights are averaged, from 0 to 1."
        )
    return share
