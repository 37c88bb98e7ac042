"""Uniformly random actions, the lower end of every score."""

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class UniformActor:
    """Acts uniformly at random in [-1, 1].

    Each row's action is keyed by the bits of that row's observation, so that also here an episode depends on
    (task, seed) alone and not on the episodes beside it, as long as no state is met twice. A state that this actor has
    met before in the same task, as in a grid world, gets another action each time; which one then depends on what else
    the actor is asked, and in which order.

    Args:
        action_dim: A.
    """

    def __init__(self, action_dim: int) -> None:
        self._action_dim = action_dim
        self._met: Counter[bytes] = Counter()

    def act(self, observations: Tensor | Mapping[str, Tensor], contexts: Tensor) -> Tensor:
        """Actions [N, A] for observations [N, O], or entries of observations [N, *shape] by name; contexts [N, C] only
        tell whether a state is met again."""
        entries = observations.values() if isinstance(observations, Mapping) else [observations]
        rows = zip(contexts.cpu().numpy(), *(entry.cpu().numpy() for entry in entries), strict=True)
        actions = np.array(
            [self._drawn(b"".join(entry.tobytes() for entry in row), context.tobytes()) for context, *row in rows]
        )
        return torch.tensor(actions, dtype=torch.float32, device=contexts.device)

    def _drawn(self, observation: bytes, context: bytes) -> NDArray[np.float64]:
        digest = hashlib.sha256(observation).digest()
        meetings = self._met[digest + context]
        # Rows of no episode are counted too; that only leaves some numbers out.
        self._met[digest + context] += 1
        key = int.from_bytes(digest[:8], "big")
        return np.random.default_rng([key, meetings] if meetings else key).uniform(-1.0, 1.0, self._action_dim)
