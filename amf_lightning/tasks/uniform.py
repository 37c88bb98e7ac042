"""Uniformly random actions, the lower end of every score."""

import hashlib

import numpy as np
import torch
from torch import Tensor


class UniformActor:
    """Acts uniformly at random in [-1, 1].

    Each row's action is keyed by the bits of that row's observation, so that also here an episode depends on
    (task, seed) alone and not on the episodes beside it. No state is met twice, so the actions are independent.

    Args:
        action_dim: A.
    """

    def __init__(self, action_dim: int) -> None:
        self._action_dim = action_dim

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Actions [N, A] for observations [N, O]; the contexts are not looked at."""
        rows = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big")).uniform(
                -1.0, 1.0, self._action_dim
            )
            for row in observations.cpu().numpy()
        ]
        return torch.tensor(np.array(rows), dtype=torch.float32, device=observations.device)
