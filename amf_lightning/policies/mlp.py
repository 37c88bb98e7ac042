"""A multi-layer perceptron on the normalised observation and the context."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import GaussianDensity, LinearHead
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Specs, state_size
from amf_lightning.tasks.steps import Steps


class Perceptron(LinearHead, Policy):
    """A ReLU network h of the normalised observation and the context with a linear layer on top: z = W h(s, c) + b.

    Args:
        observation: entries of the observation, of which it reads one vector; or its length O.
        context_dim: C.
        outputs: length of z.
        hidden: widths of the hidden layers; the last one is the number of features F.
        smallest_std: of an entry of the observation; one that moved less in the data is not blown up beyond this.
    """

    mean: Tensor
    std: Tensor
    normalised: Tensor

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        outputs: int,
        hidden: Sequence[int],
        smallest_std: float = 1e-2,
    ) -> None:
        super().__init__()
        if smallest_std <= 0:
            raise InputError(f"smallest_std is {smallest_std}; it must be positive.")
        self.smallest_std = smallest_std
        observation_dim = state_size(observation, type(self).__name__)
        widths = [observation_dim + context_dim, *hidden]
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.backbone = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], outputs)
        self.register_buffer("mean", torch.zeros(observation_dim))
        self.register_buffer("std", torch.ones(observation_dim))
        # A buffer, so that files and checkpoints keep it: a policy is normalised once in its life.
        self.register_buffer("normalised", torch.tensor(False))

    @property
    def output_layer(self) -> nn.Linear:
        return self.head

    @property
    def is_normalised(self) -> bool:
        return bool(self.normalised)

    def fit_normaliser(self, steps: Steps) -> None:
        """Mean and standard deviation of each observation entry; contexts are the suite's to scale."""
        self.mean.copy_(steps.state.mean(dim=0))
        # An entry that never moved in the data must not explode when it first does.
        self.std.copy_(steps.state.std(dim=0).clamp(min=self.smallest_std))
        self.normalised.fill_(True)

    @abstractmethod
    def act(self, steps: Steps) -> Tensor:
        """An action [N, A] out of z."""

    def outputs(self, steps: Steps) -> Tensor:
        """z, [N, outputs]."""
        normalised = (steps.state - self.mean) / self.std
        outputs: Tensor = self.head(self.backbone(torch.cat([normalised, steps.contexts], dim=1)))
        return outputs


class MLPPolicy(GaussianDensity, Perceptron):
    """π(s, c) = tanh(W h(s, c) + b) with a ReLU network h; trained by mean squared error.

    Args:
        observation: entries of the observation, of which it reads one vector; or its length O.
        context_dim: C.
        action_dim: A.
        hidden: widths of the hidden layers; the last one is the number of features F.
        action_std: standard deviation declared for `log_prob`; it does not enter the loss.
        smallest_std: smallest deviation that an entry of the observation is divided by, in its own unit. Where tasks
            to come move entries that the first ones leave alone, what is usual for such entries.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        action_std: float = 0.1,
        smallest_std: float = 1e-2,
    ) -> None:
        super().__init__(observation, context_dim, action_dim, hidden, smallest_std)
        self.action_std = action_std

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(self.outputs(steps))

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """The mean, or a draw from the normal distribution around it, clipped to [-1, 1]; [N, 1, A]."""
        mean = self.act(steps)
        if generator is not None:
            mean = (mean + self.action_std * generator.normal(mean.shape[1]).to(mean)).clamp(-1, 1)
        return mean[:, None]
