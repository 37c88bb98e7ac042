"""Self-distillation: π0 as the teacher of the policy that grows out of it."""

import torch

from amf_lightning.demonstrations.batches import Rows
from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.importance import pretrained_rows
from amf_lightning.retention.retention import Retention, RetentionContext


class SelfDistillation(Retention):
    """Behavioural cloning of π0 on states of its own rollouts, of tasks not demonstrated yet (ours).

    A task that has been demonstrated is the expert's from then on; what π0 does there is not held on to.

    Args:
        weight: factor of the distillation loss beside the loss on the demonstrations.
        episodes: rollouts of π0 for each task, made once.
    """

    def __init__(self, weight: float = 1.0, episodes: int = 2) -> None:
        if weight < 0 or episodes < 1:
            raise InputError(f"SelfDistillation needs weight >= 0 and episodes >= 1, got {weight} and {episodes}.")
        self.weight = weight
        self.episodes = episodes

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        every = list(range(len(context.suite.tasks)))
        observations, contexts, rows = pretrained_rows(context, every, self.episodes)
        with torch.no_grad():
            actions = context.pretrained.act(observations, contexts)
        self._all = Rows(observations, contexts, actions, loss_weight=self.weight)
        self._task_of_row = torch.tensor(rows)

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        keep = ~torch.isin(self._task_of_row, torch.tensor(sorted(demonstrated), dtype=torch.long))
        if not keep.any():
            return None
        return Rows(*self._all.take(keep), loss_weight=self.weight)
