"""What policies have in common that see through an encoder and predict chunks."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from amf_lightning.policies.conv_encoder import ConvEncoder
from amf_lightning.policies.encoder import EncoderFactory, encoder_of, encoder_recipe
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Specs, state_specs
from amf_lightning.tasks.steps import Steps, Window

_AT_ONCE = 1000


class EncodedPolicy(Policy):
    """Sees through an encoder: any observation that the encoder can read; by default `ConvEncoder`.

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A.
        window: what it sees and predicts.
        encoder: class of the encoder and its options.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        window: Window,
        encoder: EncoderFactory | Mapping[str, Any] | None,
    ) -> None:
        super().__init__()
        specs = state_specs(observation) if isinstance(observation, int) else observation
        self.window, self.chunk = window, (window.horizon, action_dim)
        self.encoder = encoder_of(encoder or ConvEncoder, specs, context_dim, window.history)
        # Plain types, as its file will give them back.
        self.options = {**self.options, "encoder": encoder_recipe(self.encoder)}

    @abstractmethod
    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """Actions from the present step on, [N, H, A] in [-1, 1]; see `Policy.predict`."""

    @property
    def is_normalised(self) -> bool:
        return self.encoder.is_normalised

    def fit_normaliser(self, steps: Steps) -> None:
        self.encoder.fit_normaliser(steps)

    def deviations(self, steps: Steps) -> Tensor | None:
        return self.encoder.deviations(steps)

    def shown_chunk(self, steps: Steps) -> Tensor:
        """What the expert did, [N, H, A], also where H is 1."""
        return steps.shown_actions.reshape(len(steps), *self.chunk)


def piecewise(call: Callable[[Steps], Tensor], steps: Steps) -> Tensor:
    """What `call` gives for rows [N], a thousand at a time where no gradient is wanted: pictures fill the memory."""
    if torch.is_grad_enabled() or len(steps) <= _AT_ONCE:
        return call(steps)
    return torch.cat([call(steps[start : start + _AT_ONCE]) for start in range(0, len(steps), _AT_ONCE)])


def mean_over_chunk(errors: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of errors [N, H, A] over the entries of each row that count, [N]; mask [N, H], None: all count."""
    each = errors.mean(dim=2)
    if mask is None:
        return each.mean(dim=1)
    return (each * mask).sum(dim=1) / mask.sum(dim=1)


def with_one(features: Tensor) -> Tensor:
    """Features [N, F] with a 1 appended for the bias, [N, F + 1]."""
    return torch.cat([features, torch.ones_like(features[:, :1])], dim=1)


def perceptron(size: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Linear layers of these widths, each with a ReLU."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip((size, *hidden[:-1]), hidden, strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers)
