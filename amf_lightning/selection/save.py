"""SAVE's choice of tasks, on an ensemble that is made anew in each round."""

from collections.abc import Sequence

import torch
from jsonargparse.typing import lazy_instance
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, union
from amf_lightning.policies.capabilities import LinearHead, require
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.ensemble import EnsembleDisagreement, chances_of, fresh_like, predictions_of, task_means
from amf_lightning.selection.occupancies import Occupancy, PolicyRollout, StateBlocks
from amf_lightning.tasks.steps import Steps, cat

# What the command line shows as the default; the constructor makes an object of its own instead.
_OCCUPANCY: Occupancy = lazy_instance(PolicyRollout)


class SAVE(EnsembleDisagreement):
    """Draws tasks with probability ∝ U_c^τ, U_c the mean squared difference of two policies fine-tuned from π0.

    SAVE (Römer et al., arXiv 2606.18043) with the settings of the authors' code for SmolVLA: two members, τ = 2.5, half
    of the rows of a minibatch from the pre-training. The members are π0 with a last layer of their own, drawn and
    fine-tuned anew in each round from seeds keyed by (seed, round, member), without a bootstrap. Beside the
    demonstrations they are trained on what π0 does on its own rollouts of the tasks that its file covers, for its
    pre-training data are gone. U_c is the mean over pairs of members, action entries and expected states of the task:
    velocity-field disagreement where the flow is one step, which it is for policies that predict an action at once.
    docs/comparators.md says what is theirs and what is ours. With nothing to train on the draw is uniform.

    Args:
        members: policies in the ensemble, of the class and options of π0.
        temperature: τ ≥ 0, the authors' word for it; 0 draws uniformly, more goes by the disagreement more sharply.
        replay: share of the rows of a minibatch that come from π0's rollouts, where there are both.
        steps: optimiser steps of each member in each round.
        batch_size: state-action pairs in a minibatch.
        learning_rate: of Adam.
        occupancy: which states stand for a task.
    """

    def __init__(
        self,
        members: int = 2,
        temperature: float = 2.5,
        replay: float = 0.5,
        steps: int = 400,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        occupancy: Occupancy = _OCCUPANCY,
    ) -> None:
        if temperature < 0:
            raise InputError(f"SAVE: temperature is {temperature}; it must not be negative.")
        if not 0 <= replay < 1:
            raise InputError(f"SAVE: replay is {replay}; it is a share and lies in [0, 1).")
        occupancy = PolicyRollout() if occupancy is _OCCUPANCY else occupancy
        super().__init__(members, temperature, steps, batch_size, learning_rate, occupancy)
        self.replay = replay
        self.needs = union(self.needs, (Need.LINEAR_HEAD,))

    def _scores(self, ensemble: Sequence[Policy], blocks: StateBlocks, task_count: int) -> Tensor:
        return squared_disagreement(ensemble, blocks, task_count)

    def _chances(self, scores: Tensor, allowed: Tensor) -> Tensor:
        tiny = torch.finfo(scores.dtype).tiny  # members that agree to the bit have a logarithm too
        return chances_of(scores.clamp(min=tiny).log(), allowed, self.sharpness)

    def _trained(self, context: SelectionContext, member: int, pieces: Sequence[Steps]) -> Policy:
        generator = keyed_generator(context.seed, Purpose.ENSEMBLE, context.round, member)
        policy = with_fresh_head(context, generator)
        shown = sum(len(piece) for piece in pieces[: len(context.demonstrations)])
        rows = cat(list(pieces))
        share = row_chances(shown, len(rows) - shown, self.replay)
        drawn = torch.multinomial(share, self.steps * self.batch_size, replacement=True, generator=generator)
        return self._stepped(policy, rows, drawn.view(self.steps, self.batch_size).to(rows.device), generator)


def with_fresh_head(context: SelectionContext, generator: torch.Generator) -> Policy:
    """π0 with a freshly drawn last layer; where there is no π0, a fresh policy.

    Raises:
        InputError: the policy has no linear layer at its end.
    """
    pretrained = context.pretrained
    if not pretrained.is_normalised:
        return fresh_like(context.policy, context.suite.dimensions, generator)
    policy = fresh_like(pretrained, context.suite.dimensions, generator)
    head = require(policy, LinearHead, "SAVE", "Choose EnsembleDisagreement").output_layer
    kept = {id(parameter) for parameter in head.parameters()}
    known = dict(pretrained.named_parameters())
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if id(parameter) not in kept:
                parameter.copy_(known[name])
    return policy.to(context.policy.device)


def row_chances(shown: int, replayed: int, replay: float) -> Tensor:
    """Probability of each row: `replay` in all for the last `replayed`, the rest for the first `shown`; float64.

    >>> row_chances(2, 1, 0.5)
    tensor([0.2500, 0.2500, 0.5000], dtype=torch.float64)
    """
    share = replay if shown and replayed else float(replayed > 0)
    chances = torch.full((shown + replayed,), (1 - share) / max(1, shown), dtype=torch.float64)
    chances[shown:] = share / max(1, replayed)
    return chances


@torch.no_grad()
def squared_disagreement(ensemble: Sequence[Policy], blocks: StateBlocks, task_count: int) -> Tensor:
    """Mean of (a_i − a_j)² over pairs i ≠ j of members, predicted entries, states and trajectories; [K] float64.

    NaN for a task without states.
    """
    # Over pairs i ≠ j the mean of (a_i − a_j)² is twice the unbiased variance.
    return task_means(2 * predictions_of(ensemble, blocks).var(dim=0, correction=1).mean(1), blocks, task_count)
