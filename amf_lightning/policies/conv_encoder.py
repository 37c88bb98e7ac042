"""Pictures by convolution, everything else as one normalised vector."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.encoder import Encoder
from amf_lightning.policies.mlp import scale_of_still, spread, still
from amf_lightning.tasks.spec import STATE, Spec, Specs
from amf_lightning.tasks.steps import Steps

Fusion = Literal["concatenate", "film"]
_SMALLEST_STD = 1e-2
_CHANNELS = (1, 3, 4)


class ConvEncoder(Encoder):
    """Each picture (uint8, [H, W, 3], [3, H, W] or [H, W]) by a small convolutional network with group normalisation.

    The map of a picture is pooled to where each channel is active, by a spatial softmax, and how much (Levine et al.,
    arXiv 1504.00702, whose keypoints are the former). All other entries are one vector, normalised as `MLPPolicy` does.
    Pictures stay uint8 until they are resized.

    Args:
        observation: entries of the observation: any number of pictures and of vectors.
        context_dim: C.
        history: observations that it is shown.
        channels: of the convolutions, each of which halves height and width.
        resize: height and width that pictures are brought to, by the mean over areas; None: they stay as they are.
        shift: largest random shift of a picture in training, in pixels of the picture as it comes (Yarats et al., DrQ,
            arXiv 2004.13649); 0: none.
        fusion: how the context enters: `concatenate` makes it a piece beside the others; with `film` it scales and
            shifts all channels and the vector (Perez et al., arXiv 1709.07871).
        smallest_std: see `MLPPolicy`.

    Raises:
        InputError: an entry of uint8 is no picture, or an option is out of range.
    """

    mean: Tensor
    std: Tensor
    normalised: Tensor

    def __init__(
        self,
        observation: Specs,
        context_dim: int,
        history: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        resize: int | None = 64,
        shift: int = 4,
        fusion: Fusion = "concatenate",
        smallest_std: float | None = None,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1 or shift < 0 or (resize is not None and resize < 1):
            raise InputError(f"ConvEncoder: channels {list(channels)}, resize {resize}, shift {shift} cannot be.")
        if smallest_std is not None and not smallest_std > 0:
            raise InputError(f"smallest_std is {smallest_std}; it must be positive.")
        if fusion not in ("concatenate", "film"):
            raise InputError(f"ConvEncoder: fusion is '{fusion}'; give 'concatenate' or 'film'.")
        self.history, self.smallest_std, self.concatenates = history, smallest_std, fusion == "concatenate"
        self.pictures = {name: spec for name, spec in observation.items() if spec.is_image}
        self.vectors = {name: math.prod(spec.shape) for name, spec in observation.items() if not spec.is_image}
        film = 0 if self.concatenates else context_dim
        self.see = nn.ModuleList(
            PictureNetwork(name, spec, tuple(channels), resize, shift, film) for name, spec in self.pictures.items()
        )
        length = sum(self.vectors.values())
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("std", torch.ones(length))
        # A buffer, so that files and checkpoints keep it: a policy is normalised once in its life.
        self.register_buffer("normalised", torch.tensor(not length))
        self.film = Film(context_dim, length) if film and length else None
        networks: list[PictureNetwork] = list(self.see)  # type: ignore[arg-type]
        self.shapes = (
            *((history * network.cells, channels[-1]) for network in networks),
            *(((1, history * length),) if length else ()),
            *(((1, context_dim),) if self.concatenates and context_dim else ()),
        )

    @property
    def size(self) -> int:
        places = 3 * self.history * sum(self.shapes[number][1] for number in range(len(self.pictures)))
        return places + sum(depth for _, depth in self.shapes[len(self.pictures) :])

    def pieces(self, steps: Steps) -> list[Tensor]:
        rows = len(steps)
        pieces = []
        for (name, spec), network in zip(self.pictures.items(), self.see, strict=True):
            pictures = steps.observations[name].reshape(rows, self.history, *spec.shape)
            pieces.append(network(pictures, steps.contexts))
        if self.vectors:
            vector = (self._vector(steps).to(self.mean.dtype) - self.mean) / self.std
            if self.film is not None:
                vector = self.film(vector, steps.contexts)
            pieces.append(vector.reshape(rows, 1, self.history * len(self.mean)))
        if self.concatenates and steps.contexts.shape[1]:
            pieces.append(steps.contexts[:, None])
        return pieces

    def pooled(self, pieces: list[Tensor]) -> Tensor:
        count = len(self.pictures)
        networks: list[PictureNetwork] = list(self.see)  # type: ignore[arg-type]
        places = [
            where_and_how_much(piece.reshape(len(piece) * self.history, network.cells, piece.shape[2]), network.sides)
            for piece, network in zip(pieces, networks, strict=False)
        ]
        rows = len(pieces[0])
        pooled = [each.reshape(rows, self.history * each.shape[1]) for each in places]
        return torch.cat([*pooled, *(piece.flatten(1) for piece in pieces[count:])], dim=1)

    @property
    def is_normalised(self) -> bool:
        return bool(self.normalised)

    def fit_normaliser(self, steps: Steps) -> None:
        vector = self._vector(steps).flatten(0, 1).to(self.mean.dtype)
        if self.vectors:
            self.mean.copy_(vector.mean(dim=0))
            std = spread(vector)
            # An entry that never moved in the data must not explode when it first does.
            if self.smallest_std is None:
                moving = std.clamp(min=_SMALLEST_STD)
                self.std.copy_(torch.where(still(std, self.mean), scale_of_still(self.mean), moving))
            else:
                self.std.copy_(std.clamp(min=self.smallest_std))
        self.normalised.fill_(True)

    def deviations(self, steps: Steps) -> Tensor | None:
        if list(self.vectors) != [STATE] or self.pictures or self.history > 1:
            return None
        return (steps.state.to(self.mean.dtype) - self.mean) / self.std

    def _vector(self, steps: Steps) -> Tensor:
        """All entries that are no pictures, [N, history, length]."""
        rows = len(steps)
        parts = [steps.observations[name].reshape(rows, self.history, size) for name, size in self.vectors.items()]
        return torch.cat([part.to(self.mean.dtype) for part in parts], dim=2) if parts else self.mean[None, None]


class PictureNetwork(nn.Module):
    """The map of a picture: convolutions of stride 2, each with group normalisation, FiLM if asked for, and ReLU.

    Args:
        name: of the entry, for messages.
        spec: of the entry.
        channels: of the convolutions.
        resize: see `ConvEncoder`.
        shift: see `ConvEncoder`.
        film: C; 0: the context does not enter.
    """

    def __init__(
        self, name: str, spec: Spec, channels: tuple[int, ...], resize: int | None, shift: int, film: int
    ) -> None:
        super().__init__()
        self.shape, self.first = _picture_shape(name, spec)
        self.resize, self.shift = resize, shift
        height, width, depth = self.shape
        if resize is not None:
            height = width = resize
        pairs = list(pairwise((depth, *channels)))
        self.convolutions = nn.ModuleList(nn.Conv2d(inner, outer, 3, stride=2, padding=1) for inner, outer in pairs)
        # About 16 channels a group, and no group of a single one, which a map of one cell would make zero.
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(outer, max(1, outer // 16)), outer) for outer in channels)
        self.films = nn.ModuleList(Film(film, outer) for outer in channels) if film else None
        for _ in channels:
            height, width = -(-height // 2), -(-width // 2)
        self.sides, self.cells = (height, width), height * width

    def forward(self, pictures: Tensor, contexts: Tensor) -> Tensor:
        """Maps [N, history · cells, channels] of pictures [N, history, *shape] with contexts [N, C]."""
        rows, history = pictures.shape[:2]
        pictures = pictures.movedim(2, -1) if self.first else pictures
        pictures = pictures.reshape(rows, history, *self.shape)
        if self.training and self.shift:
            pictures = shifted(pictures, self.shift)
        seen = pictures.flatten(0, 1).movedim(-1, 1).to(contexts.dtype) / 255 - 0.5
        if self.resize is not None and seen.shape[2:] != (self.resize, self.resize):
            seen = F.adaptive_avg_pool2d(seen, self.resize)
        contexts = contexts.repeat_interleave(history, dim=0) if history > 1 else contexts
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            seen = norm(convolution(seen))
            if self.films is not None:
                seen = self.films[number](seen.movedim(1, -1), contexts).movedim(-1, 1)
            seen = torch.relu(seen)
        cells: Tensor = seen.flatten(2).mT.reshape(rows, history * self.cells, seen.shape[1])
        return cells


class Film(nn.Module):
    """(1 + γ(c))·x + β(c), entry by entry, with γ and β linear in the context and 0 at first.

    Args:
        context_dim: C.
        size: entries of x.
    """

    def __init__(self, context_dim: int, size: int) -> None:
        super().__init__()
        self.change = nn.Linear(context_dim, 2 * size)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, entries: Tensor, contexts: Tensor) -> Tensor:
        """Of x [N, …, size] with contexts [N, C]."""
        factor, term = self.change(contexts).chunk(2, dim=-1)
        between = (1,) * (entries.ndim - 2)
        factor, term = (each.reshape(len(each), *between, each.shape[-1]) for each in (factor, term))
        changed: Tensor = (1 + factor) * entries + term
        return changed


def shifted(pictures: Tensor, most: int) -> Tensor:
    """Pictures [N, history, H, W, D], each row shifted by up to `most` pixels both ways, its edges repeated.

    Draws from torch's global generator. The type stays.
    """
    rows, _, height, width, _ = pictures.shape
    offsets = torch.randint(-most, most + 1, (2, rows), device=pictures.device)
    down = (torch.arange(height, device=pictures.device) + offsets[0, :, None]).clamp(0, height - 1)
    across = (torch.arange(width, device=pictures.device) + offsets[1, :, None]).clamp(0, width - 1)
    row = torch.arange(rows, device=pictures.device)[:, None, None]
    return pictures.movedim(1, 3)[row, down[:, :, None], across[:, None]].movedim(3, 1)


def where_and_how_much(cells: Tensor, sides: tuple[int, int]) -> Tensor:
    """Of maps [N, H·W, D] the mean place of each channel under a softmax over the cells, and its mean; [N, 3D].

    Places lie in [-1, 1], from top to bottom and from left to right.

    >>> active = torch.zeros(1, 4, 1)
    >>> active[0, 1] = 100.0
    >>> where_and_how_much(active, (2, 2))
    tensor([[-1.,  1., 25.]])
    """
    height, width = sides
    down = torch.linspace(-1, 1, height).to(cells) if height > 1 else cells.new_zeros(1)
    across = torch.linspace(-1, 1, width).to(cells) if width > 1 else cells.new_zeros(1)
    chances = torch.softmax(cells, dim=1)
    at_rows = (chances * down.repeat_interleave(width)[:, None]).sum(dim=1)
    at_columns = (chances * across.repeat(height)[:, None]).sum(dim=1)
    return torch.cat([at_rows, at_columns, cells.mean(dim=1)], dim=1)


def _picture_shape(name: str, spec: Spec) -> tuple[tuple[int, int, int], bool]:
    """Height, width and channels, and whether these come first.

    Raises:
        InputError: it is no picture.
    """
    shape = spec.shape
    if len(shape) == 2:
        return (shape[0], shape[1], 1), False
    if len(shape) == 3 and shape[2] in _CHANNELS:
        return shape, False
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return (shape[1], shape[2], shape[0]), True
    raise InputError(
        f"ConvEncoder: '{name}' is {spec}, which is no picture: give [H, W], [H, W, 3] or [3, H, W], with 1, 3 or 4 "
        "channels."
    )
