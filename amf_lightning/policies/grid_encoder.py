"""Grids of numbers that stand for things, tile by tile; everything else by `ConvEncoder`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.conv_encoder import ConvEncoder
from amf_lightning.policies.encoder import Encoder
from amf_lightning.tasks.spec import Spec, Specs, described
from amf_lightning.tasks.steps import Steps

BABYAI_KINDS = (11, 6, 3)
"""Of a tile in MiniGrid: what is there, its colour, and its state."""


class GridEncoder(Encoder):
    """Grids (integers, [H, W, D]): each tile becomes the one-hot code of its D numbers, and where it lies.

    Nothing is learned here; a transformer that reads the tiles learns what they mean. All other entries, and the
    context, are read as `ConvEncoder` reads them.

    Args:
        observation: entries of the observation.
        context_dim: C.
        history: observations that it is shown.
        grids: names of the entries that are grids.
        kinds: how many different numbers, from 0, each of the D stands at; None: those of MiniGrid.

    Raises:
        InputError: there is no such entry, or it is no grid of D integers.
    """

    def __init__(
        self,
        observation: Specs,
        context_dim: int,
        history: int = 1,
        grids: Sequence[str] = ("image/symbolic",),
        kinds: Sequence[int] = BABYAI_KINDS,
    ) -> None:
        super().__init__()
        if not grids or not kinds or min(kinds) < 1:
            raise InputError(f"GridEncoder: grids {list(grids)} and kinds {list(kinds)} must not be empty or below 1.")
        for name in grids:
            _check(name, observation, len(kinds))
        self.history, self.grids, self.kinds = history, tuple(grids), tuple(kinds)
        self.rest = ConvEncoder({k: v for k, v in observation.items() if k not in grids}, context_dim, history)
        depth = sum(kinds) + 2
        sides = [observation[name].shape[:2] for name in grids]
        self.shapes = (*((history * math.prod(pair), depth) for pair in sides), *self.rest.shapes)
        for number, pair in enumerate(sides):
            self.register_buffer(f"places_{number}", _places(pair), persistent=False)

    @property
    def size(self) -> int:
        tiles = sum(cells * depth for cells, depth in self.shapes[: len(self.grids)])
        return tiles + self.rest.size

    def pieces(self, steps: Steps) -> list[Tensor]:
        return [*(self._tiles(steps, number) for number in range(len(self.grids))), *self.rest.pieces(steps)]

    def pooled(self, pieces: list[Tensor]) -> Tensor:
        count = len(self.grids)
        tiles = [piece.flatten(1) for piece in pieces[:count]]
        return torch.cat([*tiles, self.rest.pooled(pieces[count:])] if self.rest.shapes else tiles, dim=1)

    @property
    def is_normalised(self) -> bool:
        return self.rest.is_normalised

    def fit_normaliser(self, steps: Steps) -> None:
        self.rest.fit_normaliser(steps)

    def _tiles(self, steps: Steps, number: int) -> Tensor:
        """The codes of a grid's tiles, [N, history · H · W, Σ kinds + 2]; zeros for a number beyond what there is."""
        rows, dtype = len(steps), steps.contexts.dtype
        places = getattr(self, f"places_{number}").to(dtype)
        ids = steps.observations[self.grids[number]].reshape(rows, self.history * len(places), len(self.kinds))
        codes = [
            (ids[..., place, None] == torch.arange(kinds, device=ids.device)).to(dtype)
            for place, kinds in enumerate(self.kinds)
        ]
        where = places.repeat(self.history, 1).expand(rows, -1, -1)
        return torch.cat([*codes, where], dim=2)


def _places(sides: tuple[int, ...]) -> Tensor:
    """Where each tile lies, from -1 to 1 both ways, [H · W, 2]."""
    first, second = (torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1) for side in sides)
    return torch.cartesian_prod(first, second)


def _check(name: str, observation: Specs, depth: int) -> None:
    spec = observation.get(name, Spec((1,)))
    if spec.is_floating or len(spec.shape) != 3 or spec.shape[2] != depth:
        raise InputError(
            f"GridEncoder: '{name}' must be an entry of integers [H, W, {depth}], but an observation consists of "
            f"{described(observation)}. Name its grids in `grids` and how many numbers each has in `kinds`."
        )
