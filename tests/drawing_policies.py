"""Policies that draw by themselves while they learn, from every generator that nobody gives them."""

import random

import numpy as np
import torch
from torch import Tensor, nn

from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.spec import Specs, state_size
from amf_lightning.tasks.steps import Steps


class Dropping(Policy):
    """Drops out half of what it has seen; in training only."""

    def __init__(self, observation: Specs | int, context_dim: int, action_dim: int, width: int = 16) -> None:
        super().__init__()
        size = state_size(observation, type(self).__name__) + context_dim
        self.body = nn.Sequential(
            nn.Linear(size, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, width), nn.ReLU()
        )
        self.head = nn.Linear(width, action_dim)

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(self.head(self.body(torch.cat([steps.state, steps.contexts], dim=1))))


class Noisy(Dropping):
    """Its loss draws from torch, numpy and Python, and does so in evaluation mode too, as the first losses of flow
    matching that people write do."""

    def loss(self, steps: Steps) -> Tensor:
        noise = 0.1 * torch.randn_like(steps.shown_actions)
        factor = 0.5 + float(np.random.rand()) + random.random()
        return factor * (self.act(steps) + noise - steps.shown_actions).square().mean(dim=1)
