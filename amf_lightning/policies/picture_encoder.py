"""What encoders have in common that see each picture through a network, and everything else as one vector."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.encoder import Encoder
from amf_lightning.policies.mlp import scale_of_still, spread, still
from amf_lightning.tasks.spec import STATE, Spec, Specs
from amf_lightning.tasks.steps import Steps

Fusion = Literal["concatenate", "film"]
_SMALLEST_STD = 1e-2
_CHANNELS = (1, 3, 4)


class PictureNetwork(nn.Module, ABC):
    """Turns pictures into maps, and says what these are like."""

    cells: int
    """Of the map of one picture."""
    depth: int
    """Channels of the map."""
    sides: tuple[int, int] | None
    """Height and width of the map; None: its cells have no place, as those of a vector."""

    @abstractmethod
    def forward(self, pictures: Tensor, contexts: Tensor) -> Tensor:
        """Maps [N, history · cells, depth] of pictures [N, history, *shape] with contexts [N, C]."""


NetworkOfPicture = Callable[[str, Spec, int], PictureNetwork]
"""Makes the network of an entry of that name and type; the number is C where FiLM is asked of it, else 0."""


class PictureEncoder(Encoder):
    """Each picture (uint8, [H, W, 3], [3, H, W] or [H, W]) by a network, all other entries as one normalised vector.

    The map of a picture is pooled to where each channel is active, by a spatial softmax, and how much (Levine et al.,
    arXiv 1504.00702, whose keypoints are the former); cells without a place to their mean. Vectors are normalised as
    `MLPPolicy` does.

    Args:
        observation: entries of the observation: any number of pictures and of vectors.
        context_dim: C.
        history: observations that it is shown.
        network: makes the network of a picture.
        fusion: how the context enters: `concatenate` makes it a piece beside the others; with `film` it scales and
            shifts all channels and the vector (Perez et al., arXiv 1709.07871).
        smallest_std: see `MLPPolicy`.

    Raises:
        InputError: an option is out of range.
    """

    mean: Tensor
    std: Tensor
    normalised: Tensor

    @abstractmethod
    def __init__(
        self,
        observation: Specs,
        context_dim: int,
        history: int,
        network: NetworkOfPicture,
        fusion: Fusion,
        smallest_std: float | None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if smallest_std is not None and not smallest_std > 0:
            raise InputError(f"smallest_std is {smallest_std}; it must be positive.")
        if fusion not in ("concatenate", "film"):
            raise InputError(f"{kind}: fusion is '{fusion}'; give 'concatenate' or 'film'.")
        self.history, self.smallest_std, self.concatenates = history, smallest_std, fusion == "concatenate"
        self.pictures = {name: spec for name, spec in observation.items() if spec.is_image}
        self.vectors = {name: math.prod(spec.shape) for name, spec in observation.items() if not spec.is_image}
        film = 0 if self.concatenates else context_dim
        self.see = nn.ModuleList(network(name, spec, film) for name, spec in self.pictures.items())
        length = sum(self.vectors.values())
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("std", torch.ones(length))
        # A buffer, so that files and checkpoints keep it: a policy is normalised once in its life.
        self.register_buffer("normalised", torch.tensor(not length))
        self.film = Film(context_dim, length) if film and length else None
        self.shapes = (
            *((history * each.cells, each.depth) for each in self._networks),
            *(((1, history * length),) if length else ()),
            *(((1, context_dim),) if self.concatenates and context_dim else ()),
        )

    @property
    def _networks(self) -> list[PictureNetwork]:
        return cast(list[PictureNetwork], list(self.see))

    @property
    def size(self) -> int:
        of_maps = sum(each.depth * (1 if each.sides is None else 3) for each in self._networks)
        return self.history * of_maps + sum(depth for _, depth in self.shapes[len(self.pictures) :])

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
        rows, pooled = len(pieces[0]), []
        for piece, network in zip(pieces, self._networks, strict=False):
            cells = piece.reshape(rows * self.history, network.cells, network.depth)
            each = cells.mean(dim=1) if network.sides is None else where_and_how_much(cells, network.sides)
            pooled.append(each.reshape(rows, self.history * each.shape[1]))
        return torch.cat([*pooled, *(piece.flatten(1) for piece in pieces[len(self.pictures) :])], dim=1)

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


def channels_last(pictures: Tensor, shape: tuple[int, int, int], first: bool) -> Tensor:
    """Pictures [N, history, *as they come] as [N, history, H, W, D]; see `picture_shape`."""
    rows, history = pictures.shape[:2]
    return (pictures.movedim(2, -1) if first else pictures).reshape(rows, history, *shape)


def picture_shape(name: str, spec: Spec, reader: str = "ConvEncoder") -> tuple[tuple[int, int, int], bool]:
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
        f"{reader}: '{name}' is {spec}, which is no picture: give [H, W], [H, W, 3] or [3, H, W], with 1, 3 or 4 "
        "channels."
    )
