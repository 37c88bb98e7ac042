"""Pictures by a small convolutional network, everything else as one normalised vector."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.picture_encoder import (
    Film,
    Fusion,
    PictureEncoder,
    PictureNetwork,
    channels_last,
    picture_shape,
    shifted,
)
from amf_lightning.tasks.spec import Spec, Specs


class ConvEncoder(PictureEncoder):
    """Each picture by a small convolutional network with group normalisation; see `PictureEncoder` for the rest.

    Pictures stay uint8 until they are resized.

    Args:
        observation: entries of the observation: any number of pictures and of vectors.
        context_dim: C.
        history: observations that it is shown.
        channels: of the convolutions, each of which halves height and width.
        resize: height and width that pictures are brought to, by the mean over areas; None: they stay as they are.
        shift: largest random shift of a picture in training, in pixels of the picture as it comes (Yarats et al., DrQ,
            arXiv 2004.13649); 0: none.
        fusion: see `PictureEncoder`; with `film` the context enters after each convolution.
        smallest_std: see `MLPPolicy`.

    Raises:
        InputError: an entry of uint8 is no picture, or an option is out of range.
    """

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
        if not channels or min(channels) < 1 or shift < 0 or (resize is not None and resize < 1):
            raise InputError(f"ConvEncoder: channels {list(channels)}, resize {resize}, shift {shift} cannot be.")

        def network(name: str, spec: Spec, film: int) -> PictureNetwork:
            return ConvNetwork(name, spec, tuple(channels), resize, shift, film)

        super().__init__(observation, context_dim, history, network, fusion, smallest_std)


class ConvNetwork(PictureNetwork):
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
        self.shape, self.first = picture_shape(name, spec)
        self.resize, self.shift, self.depth = resize, shift, channels[-1]
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
        rows, history = pictures.shape[:2]
        pictures = channels_last(pictures, self.shape, self.first)
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
