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

_SMALLEST_STD = 1e-2
_STILL = 1e-3


class Perceptron(LinearHead, Policy):
    """A ReLU network h of the normalised observation and the context with a linear layer on top: z = W h(s, c) + b.

    Args:
        observation: entries of the observation, of which it reads one vector; or its length O.
        context_dim: C.
        outputs: length of z.
        hidden: widths of the hidden layers; the last one is the number of features F.
        smallest_std: of an entry of the observation; one that moved less in the data is not blown up beyond this. None:
            0.01, and for one that never moved `scale_of_still`.
    """

    before_training = ("smallest_std",)
    mean: Tensor
    std: Tensor
    normalised: Tensor

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        outputs: int,
        hidden: Sequence[int],
        smallest_std: float | None = None,
    ) -> None:
        super().__init__()
        if smallest_std is not None and not smallest_std > 0:
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
        std = spread(steps.state)
        # An entry that never moved in the data must not explode when it first does.
        if self.smallest_std is None:
            std = torch.where(still(std, self.mean), scale_of_still(self.mean), std.clamp(min=_SMALLEST_STD))
        else:
            std = std.clamp(min=self.smallest_std)
        self.std.copy_(std)
        self.normalised.fill_(True)

    def deviations(self, steps: Steps) -> Tensor:
        return self._normalise(steps.state)

    def _normalise(self, state: Tensor) -> Tensor:
        return (state.to(self.mean.dtype) - self.mean) / self.std

    @abstractmethod
    def act(self, steps: Steps) -> Tensor:
        """An action [N, A] out of z."""

    def outputs(self, steps: Steps) -> Tensor:
        """z, [N, outputs]."""
        outputs: Tensor = self.head(self.backbone(torch.cat([self._normalise(steps.state), steps.contexts], dim=1)))
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
            to come move entries that the first ones hardly move, what is usual for such entries. None: 0.01, and for an
            entry that did not move at all, of which nobody knows what is usual, its magnitude, at least 1.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        action_std: float = 0.1,
        smallest_std: float | None = None,
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


def spread(state: Tensor) -> Tensor:
    """Standard deviation of each entry of [N, O], [O]; 0 of a single row."""
    if len(state) == 1:
        return torch.zeros_like(state[0])
    std = state.std(dim=0)
    # Squares of numbers beyond 1e19 are infinite in float32.
    return std if std.isfinite().all() else state.double().std(dim=0).to(std)


def still(std: Tensor, mean: Tensor) -> Tensor:
    """Which entries of mean and standard deviation [O] did not move, but for noise and rounding; bool.

    >>> still(torch.tensor([0.0, 2e-4, 0.1]), torch.tensor([0.0, 300.0, 0.0]))
    tensor([ True,  True, False])
    """
    return std < torch.clamp(1e-6 * mean.abs(), min=_STILL)


def scale_of_still(mean: Tensor) -> Tensor:
    """What entries are divided by that never moved, as a guess of what they will move by: their magnitude, at least 1.

    >>> scale_of_still(torch.tensor([0.0, -300.0]))
    tensor([  1., 300.])
    """
    return mean.abs().clamp(min=1.0)
