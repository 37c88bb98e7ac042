"""Flow matching over chunks of actions, as π0 (arXiv 2410.24164) and SmolVLA (arXiv 2506.01844) are trained."""

from typing import Literal

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.denoising import DenoisingPolicy, checked_steps
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Window

_BEGINS = 0.999
"""s in π0: no time is later, so that something of the noise is always there."""
_ALPHA = 1.5
"""Of π0's Beta(1.5, 1)."""


class FlowPolicy(DenoisingPolicy):
    """Carries noise ε along a learned velocity field to a chunk a (Lipman et al., flow matching, arXiv 2210.02747).

    At time τ in [0, 1] the network is shown τa + (1 − τ)ε and should say a − ε. To draw, ε is followed in `steps` Euler
    steps from τ = 0 to 1.

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A.
        horizon: H.
        history: observations that it sees.
        encoder: class of the encoder and its options; None: `ConvEncoder`.
        width: of the network.
        layers: of the network.
        steps: of Euler.
        times: at which it learns: `beta` as π0, (s − τ)/s ~ Beta(1.5, 1) with s = 0.999, noisy times more often; or
            `uniform`.
        draws: fixed ones of noise and time, for features and for the loss in evaluation mode.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        horizon: int = 8,
        history: int = 1,
        encoder: EncoderFactory | None = None,
        width: int = 256,
        layers: int = 3,
        steps: int = 10,
        times: Literal["beta", "uniform"] = "beta",
        draws: int = 8,
    ) -> None:
        if times not in ("beta", "uniform"):
            raise InputError(f"FlowPolicy: times is '{times}'; give 'beta' or 'uniform'.")
        super().__init__(observation, context_dim, action_dim, Window(history, horizon), encoder, width, layers, draws)
        self.steps, self.by_beta = checked_steps(type(self).__name__, steps), times == "beta"

    def times(self, uniform: Tensor) -> Tensor:
        # The distribution function of Beta(α, 1) is x^α.
        return _BEGINS * (1 - (1 - uniform) ** (1 / _ALPHA)) if self.by_beta else uniform

    def corrupted(self, chunk: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        return torch.lerp(noise, chunk, time[:, None, None]), chunk - noise

    def denoised(self, seen: Tensor, noise: Tensor) -> Tensor:
        chunk = noise
        for step in range(self.steps):
            time = torch.full_like(seen[:, 0], step / self.steps)
            chunk = chunk + self.field(seen, chunk, time) / self.steps
        return chunk
