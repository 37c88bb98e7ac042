"""Diffusion over chunks of actions (Chi et al., Diffusion Policy, arXiv 2303.04137)."""

import math

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.denoising import DenoisingPolicy, checked_steps, evenly_spaced
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Window


class DiffusionPolicy(DenoisingPolicy):
    """Takes noise from a chunk bit by bit: DDPM (arXiv 2006.11239) in training, DDIM (arXiv 2010.02502) to draw.

    Of `levels` levels of noise, level t shows the network √ᾱ_t·a + √(1 − ᾱ_t)·ε, and it should say ε; ᾱ follows the
    cosine schedule (Nichol and Dhariwal, arXiv 2102.09672). To draw, `steps` of the levels are gone through without
    new noise, and what the chunk seems to be is clipped to [-1, 1] at each.

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A.
        horizon: H.
        history: observations that it sees.
        encoder: class of the encoder and its options; None: `ConvEncoder`.
        width: of the network.
        layers: of the network.
        levels: of noise.
        steps: of DDIM, at most as many as levels.
        draws: fixed ones of noise and time, for features and for the loss in evaluation mode.
    """

    kept: Tensor
    """ᾱ of each level, [levels]."""

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
        levels: int = 100,
        steps: int = 10,
        draws: int = 8,
    ) -> None:
        if levels < 1:
            raise InputError(f"DiffusionPolicy: levels is {levels}; it must be at least 1.")
        super().__init__(observation, context_dim, action_dim, Window(history, horizon), encoder, width, layers, draws)
        self.levels, self.steps = levels, checked_steps(type(self).__name__, steps, levels)
        self.register_buffer("kept", cosine_schedule(levels), persistent=False)

    def times(self, uniform: Tensor) -> Tensor:
        return uniform

    def level(self, time: Tensor) -> Tensor:
        """Which level a time in [0, 1) is, int64."""
        return (time * self.levels).long().clamp(max=self.levels - 1)

    def corrupted(self, chunk: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        kept = self.kept[self.level(time)][:, None, None]
        return kept.sqrt() * chunk + (1 - kept).sqrt() * noise, noise

    def hidden(self, seen: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        return super().hidden(seen, noisy, (self.level(time).to(time) + 0.5) / self.levels)

    def denoised(self, seen: Tensor, noise: Tensor) -> Tensor:
        chunk = noisy = noise
        remaining = evenly_spaced(self.levels, self.steps)
        while remaining:
            level = remaining.pop()
            kept = self.kept[level]
            following = self.kept[remaining[-1]] if remaining else torch.ones_like(kept)
            said = self.field(seen, noisy, torch.full_like(seen[:, 0], (level + 0.5) / self.levels))
            chunk = ((noisy - (1 - kept).sqrt() * said) / kept.sqrt()).clamp(-1, 1)
            # The noise that is in it if the chunk is what it was clipped to.
            said = (noisy - kept.sqrt() * chunk) / (1 - kept).sqrt()
            noisy = following.sqrt() * chunk + (1 - following).sqrt() * said
        return chunk


def cosine_schedule(levels: int) -> Tensor:
    """ᾱ_t, what is kept of a chunk's variance up to each level, [levels], falling; no level adds more than 0.999.

    >>> cosine_schedule(4).mul(1000).round().tolist()
    [847.0, 494.0, 144.0, 0.0]
    """
    through = torch.arange(levels + 1, dtype=torch.float64) / levels
    remaining = torch.cos((through + 0.008) / 1.008 * math.pi / 2).square()
    added = (1 - remaining[1:] / remaining[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - added, dim=0).to(torch.float32)
