"""What policies have in common that turn noise into a chunk of actions step by step, along a learned field."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Embeds, FollowsField, LearnsFromTeacher
from amf_lightning.policies.encoded import EncodedPolicy, mean_over_chunk, piecewise, with_one
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import Purpose, RowGenerators, keyed_generator
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps, Window


class DenoisingPolicy(LearnsFromTeacher, FollowsField, Embeds, EncodedPolicy):
    """Draws chunks: a network says for a noisy chunk, the time and the encoder's features where the chunk is.

    In training, noise and time are drawn anew for each row, from torch's global generators. In evaluation mode the loss
    is the mean over `draws` of them that are the same for all rows and all policies of these options. States are alike
    by the input of the last layer, averaged over the same draws: the gradient of the field's mean by that layer. There,
    where nobody knows what the expert does, the chunk is taken to be 0, the middle of what actions can be.

    A subclass says what it learns (`corrupted`), when (`times`) and how it draws (`denoised`).
    """

    samples = True
    fixed_noise: Tensor
    """[draws, H, A]."""
    quantiles: Tensor
    """Of the distribution of times, [draws]; evenly spaced, so that a few draws see all times."""

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        window: Window,
        encoder: EncoderFactory | None,
        width: int,
        layers: int,
        draws: int,
    ) -> None:
        super().__init__(observation, context_dim, action_dim, window, encoder)
        if min(width, layers, draws) < 1 or width % 2:
            raise InputError(
                f"{type(self).__name__}: width {width} must be even, and layers {layers} and draws {draws} at least 1."
            )
        self.network = FieldNetwork(self.encoder.size, window.horizon * action_dim, width, layers)
        self.head = nn.Linear(width, window.horizon * action_dim)
        generator = keyed_generator(0, Purpose.PROJECT, window.horizon, action_dim)
        # Not in files: they follow from the options.
        self.register_buffer("fixed_noise", torch.randn(draws, *self.chunk, generator=generator), persistent=False)
        self.register_buffer("quantiles", (torch.arange(draws) + 0.5) / draws, persistent=False)

    @abstractmethod
    def times(self, uniform: Tensor) -> Tensor:
        """Times in [0, 1] at which it learns, of numbers in [0, 1), any shape: the inverse of their distribution."""

    @abstractmethod
    def corrupted(self, chunk: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is shown and what it should say, [N, H, A] each; chunk and noise [N, H, A], time [N]."""

    @abstractmethod
    def denoised(self, seen: Tensor, noise: Tensor) -> Tensor:
        """The chunk [N, H, A] that noise [N, H, A] becomes, for the encoder's features [N, F]."""

    def hidden(self, seen: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Input of the last layer, [N, width], of features [N, F], noisy chunks [N, H, A] and times [N]."""
        hidden: Tensor = self.network(seen, noisy.flatten(1), time)
        return hidden

    def field(self, seen: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """What the network says of the same, [N, H, A]."""
        said: Tensor = self.head(self.hidden(seen, noisy, time))
        return said.reshape(noisy.shape)

    def embed(self, steps: Steps) -> Tensor:
        """The input of the last layer, averaged over the fixed draws, and a 1, [N, width + 1]."""
        return piecewise(self._averaged, steps)

    def _averaged(self, steps: Steps) -> Tensor:
        seen = self.encoder(steps)
        nothing = seen.new_zeros(len(seen), *self.chunk)
        hidden = [
            self.hidden(seen, self.corrupted(nothing, noise, time)[0], time)
            for noise, time in self._fixed_draws(nothing)
        ]
        return with_one(torch.stack(hidden).mean(dim=0))

    def fields(self, steps: Steps, chunk: Tensor) -> Tensor:
        """What the network says of the chunks under each of the fixed draws, [N, draws, H, A]."""
        seen, draws = self.encoder(steps), self._fixed_draws(chunk)
        return torch.stack([self.field(seen, self.corrupted(chunk, *draw)[0], draw[1]) for draw in draws], dim=1)

    def _fixed_draws(self, chunk: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Noise [N, H, A] and time [N] for chunks [N, H, A], the same for each row."""
        times = self.times(self.quantiles)
        pairs = zip(self.fixed_noise, times, strict=True)
        return [(noise.expand_as(chunk), time.expand(len(chunk))) for noise, time in pairs]

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """A chunk of each row, clipped to [-1, 1], [N, H, A]; without a generator the one that zeros become."""
        seen = self.encoder(steps)
        noise = seen.new_zeros(len(seen), *self.chunk)
        if generator is not None:
            noise = generator.normal(*self.chunk).to(noise)
        return self.denoised(seen, noise).clamp(-1, 1)

    def loss(self, steps: Steps) -> Tensor:
        """Squared error of the field, mean over the entries that count and over draws, [N]."""
        return self._errors(steps, None)

    def loss_by_teacher(self, steps: Steps, teacher: Policy) -> Tensor:
        """Squared difference to the teacher's field at the same noise, time and noisy chunk, [N]."""
        if not isinstance(teacher, DenoisingPolicy):
            kinds = type(self).__name__, type(teacher).__name__
            raise InputError(f"{kinds[0]} learns the field of a teacher like it, and {kinds[1]} is another policy.")
        return self._errors(steps, teacher)

    def _errors(self, steps: Steps, teacher: "DenoisingPolicy | None") -> Tensor:
        chunk, seen = self.shown_chunk(steps), self.encoder(steps)
        of_teacher = None
        if teacher is not None:
            with torch.no_grad():
                of_teacher = teacher.encoder(steps)
        draws = self._fixed_draws(chunk)
        if self.training:
            draws = [(torch.randn_like(chunk), self.times(torch.rand_like(chunk[:, 0, 0])))]
        losses = []
        for noise, time in draws:
            noisy, target = self.corrupted(chunk, noise, time)
            if teacher is not None and of_teacher is not None:
                with torch.no_grad():
                    target = teacher.field(of_teacher, noisy, time)
            losses.append(mean_over_chunk((self.field(seen, noisy, time) - target).square(), steps.mask))
        return torch.stack(losses).mean(dim=0)


class FieldNetwork(nn.Module):
    """A residual network of the noisy chunk whose layers are scaled and shifted by the time and what is seen.

    Args:
        seen: length of the encoder's features.
        chunk: H·A.
        width: of the layers.
        layers: residual ones.
    """

    def __init__(self, seen: int, chunk: int, width: int, layers: int) -> None:
        super().__init__()
        self.condition = nn.Sequential(nn.Linear(seen + width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.enter = nn.Linear(chunk, width)
        self.layers = nn.ModuleList(_Residual(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.linspace(0, 8, width // 2), persistent=False)

    def forward(self, seen: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Features [N, width], of the encoder's [N, F], noisy chunks [N, H·A] and times [N]."""
        angles = time[:, None] * self.get_buffer("frequencies")
        condition = self.condition(torch.cat([seen, angles.sin(), angles.cos()], dim=1))
        hidden = self.enter(noisy) + condition
        for layer in self.layers:
            hidden = layer(hidden, condition)
        features: Tensor = self.norm(hidden)
        return features


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.change = nn.Linear(width, 2 * width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        factor, term = self.change(condition).chunk(2, dim=1)
        changed: Tensor = hidden + self.outer(nn.functional.silu(self.inner((1 + factor) * self.norm(hidden) + term)))
        return changed


def checked_steps(kind: str, steps: int, most: int | None = None) -> int:
    """The number of denoising steps; InputError if it is not positive, or larger than `most`."""
    if steps < 1 or (most is not None and steps > most):
        raise InputError(f"{kind}: steps is {steps}; give a number from 1{'' if most is None else f' to {most}'}.")
    return steps


def evenly_spaced(total: int, parts: int) -> list[int]:
    """`parts` whole numbers from 0 to `total` − 1, as evenly spaced as can be, ending in `total` − 1.

    >>> evenly_spaced(100, 4), evenly_spaced(3, 3)
    ([24, 49, 74, 99], [0, 1, 2])
    """
    return [(number + 1) * total // parts - 1 for number in range(parts)]
