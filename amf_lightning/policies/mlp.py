"""A multi-layer perceptron on the normalised observation and the context."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.policies.protocol import Policy


class MLPPolicy(Policy):
    """π(s, c) = tanh(W h(s, c) + b) with a ReLU network h; trained by mean squared error.

    Args:
        observation_dim: O.
        context_dim: C.
        action_dim: A.
        hidden: widths of the hidden layers; the last one is the number of features F.
        action_std: standard deviation declared for `log_prob`; it does not enter the loss.
    """

    mean: Tensor
    std: Tensor
    normalised: Tensor

    def __init__(
        self,
        observation_dim: int,
        context_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        action_std: float = 0.1,
    ) -> None:
        super().__init__()
        self.options = {"hidden": list(hidden), "action_std": action_std}
        self.action_std = action_std
        widths = [observation_dim + context_dim, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], action_dim)
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("std", torch.ones(observation_dim))
        self.register_buffer("normalised", torch.tensor(False))

    @property
    def output_layer(self) -> nn.Linear:
        return self.head

    @property
    def is_normalised(self) -> bool:
        return bool(self.normalised)

    def fit_normaliser(self, observations: Tensor, contexts: Tensor) -> None:
        """Mean and standard deviation of each observation entry; contexts are the suite's to scale."""
        self.mean.copy_(observations.mean(dim=0))
        # An entry that never moved in the data must not explode when it first does.
        self.std.copy_(observations.std(dim=0).clamp(min=1e-2))
        self.normalised.fill_(True)

    def forward(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Mean actions, [N, A]."""
        normalised = (observations - self.mean) / self.std
        actions: Tensor = torch.tanh(self.head(self.backbone(torch.cat([normalised, contexts], dim=1))))
        return actions

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        actions: Tensor = self(observations, contexts)
        return actions

    @torch.no_grad()
    def sample(self, observations: Tensor, contexts: Tensor, generator: torch.Generator) -> Tensor:
        mean = self.act(observations, contexts)
        return mean + self.action_std * torch.randn(mean.shape, generator=generator)

    def loss(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        return F.mse_loss(self.act(observations, contexts), actions, reduction="none").mean(dim=1)

    def log_prob(self, observations: Tensor, contexts: Tensor, actions: Tensor) -> Tensor:
        z = (actions - self.act(observations, contexts)) / self.action_std
        return (-0.5 * z.square() - math.log(self.action_std * math.sqrt(2 * math.pi))).sum(dim=1)
