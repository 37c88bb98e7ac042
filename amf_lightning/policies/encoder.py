"""What a policy sees: an encoder turns observations of any entries, and the context, into features."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.options import options_of
from amf_lightning.policies.recipe import class_of, import_path_of
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps


class Encoder(nn.Module, ABC):
    """A part of a policy, made as `cls(observation, context_dim, history, **options)`, options of plain types.

    A row depends on no other. In training it may draw from torch's global generators (augmentation), which are set by
    (seed, round, step); in evaluation mode it draws nothing.
    """

    shapes: tuple[tuple[int, int], ...]
    """(T, D) of each of its pieces."""
    options: dict[str, object]
    """Keyword arguments of the constructor beyond the first three, defaults included; kept by themselves."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        encoder = super().__new__(cls)
        if args or kwargs:  # copies are made without any
            encoder.__dict__["options"] = options_of(cls, args, kwargs)
        return encoder

    @abstractmethod
    def pieces(self, steps: Steps) -> list[Tensor]:
        """What is seen, [N, T, D] each: the cells of a picture, a vector as one cell. For transformers."""

    def pooled(self, pieces: list[Tensor]) -> Tensor:
        """Features of the rows, [N, size], of their pieces. For networks of vectors."""
        return torch.cat([piece.flatten(1) for piece in pieces], dim=1)

    @property
    def size(self) -> int:
        """Length of the features."""
        return sum(cells * depth for cells, depth in self.shapes)

    def forward(self, steps: Steps) -> Tensor:
        """Features, [N, size]."""
        return self.pooled(self.pieces(steps))

    @property
    def is_normalised(self) -> bool:
        """Whether `fit_normaliser` was called, now or before it was saved; True if there is nothing to normalise."""
        return True

    def fit_normaliser(self, steps: Steps) -> None:
        """Sets the input normalisation from data. Called once, before the first training of a new policy."""

    def deviations(self, steps: Steps) -> Tensor | None:
        """See `Policy.deviations`."""
        return None

    @classmethod
    def check_recipe(cls, options: Mapping[str, Any]) -> None:
        """Raises InputError if options that stand in a file would import or call what no file may."""


EncoderFactory = Callable[[Specs, int, int], Encoder]
"""Makes an encoder for the entries of an observation, the length C of the context and the observations it is shown."""


def encoder_of(
    factory: EncoderFactory | Mapping[str, Any], observation: Specs, context_dim: int, history: int
) -> Encoder:
    """Makes an encoder, by a class or by what `encoder_recipe` says of one.

    Raises:
        InputError: what a file names is no encoder, or of a module that is not imported.
    """
    if not isinstance(factory, Mapping):
        return factory(observation, context_dim, history)
    try:
        path, options = factory["class_path"], factory.get("init_args", {})
    except KeyError:
        raise InputError(f"encoder is {dict(factory)}; give a class_path and init_args.") from None
    made_for: tuple[Any, ...] = (observation, context_dim, history)
    kind = class_of(path, Encoder, "encoders")
    kind.check_recipe(options)
    return kind(*made_for, **options)


def encoder_recipe(encoder: Encoder) -> dict[str, Any]:
    """Class and options of an encoder, as a configuration says them."""
    return {"class_path": import_path_of(type(encoder)), "init_args": dict(encoder.options)}
