"""What experts and policies have in common: they act."""

from typing import Protocol

from torch import Tensor


class Actor(Protocol):
    """Anything that maps observations and task contexts to actions, deterministically."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Actions [N, A] in [-1, 1] for observations [N, O] and contexts [N, C], all float32 on one device.

        Where the suite's actions are discrete, the largest entry of a row is the choice.
        """
        ...
