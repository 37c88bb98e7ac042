"""Selectors that know what a user of a pre-trained policy usually does not: references, not competitors."""

import torch

from amf_lightning.errors import InputError
from amf_lightning.selection.baselines import allowed_tasks
from amf_lightning.selection.context import Selection, SelectionContext, Selector, argmax_keyed


class Rebalancing(Selector):
    """PRIVILEGED: asks for the task with the fewest demonstrations, those of the pre-training included.

    The reference of AMF (arXiv 2410.05026): it knows how often π0 saw each task and evens that out. Ties are broken by
    a draw keyed by (seed, round, position in the batch). The score of a task is minus its number of demonstrations.
    """

    uses = ("pre-training counts",)

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Picks one by one, counting the picks of the same batch.

        Raises:
            InputError: the file of π0 does not say what it was trained on.
        """
        if context.pretraining_counts is None:
            raise InputError(
                "Rebalancing needs the number of pre-training demonstrations of each task, which the file of the "
                "pre-trained policy does not hold. Use a policy exported by `amf fit`, or another selector."
            )
        allowed_tasks(context)
        totals = torch.tensor(context.pretraining_counts, dtype=torch.float64) + torch.tensor(context.counts)
        picks: list[int] = []
        scores: list[tuple[float, ...]] = []
        for position in range(batch_size):
            pick = argmax_keyed(-totals, context.allowed, context.generator(position))
            scores.append(tuple((-totals).tolist()))
            picks.append(pick)
            totals[pick] += 1
        return Selection(tuple(picks), tuple(scores))
