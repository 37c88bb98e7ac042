"""What an observation consists of: named entries, each with a shape and a type, as LeRobot's `features` say it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from amf_lightning.errors import InputError

STATE = "state"
"""Name of the entry that a suite has whose observation is one vector of numbers."""


@dataclass(frozen=True)
class Spec:
    """One entry of an observation.

    Args:
        shape: of one observation, e.g. (17,) for a vector of joint positions, (96, 96, 3) for a picture.
        dtype: name of the type in numpy, e.g. `float32`, `uint8`.

    Raises:
        InputError: a length is not positive, or there is no such type of numbers.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        if any(length < 1 for length in self.shape):
            raise InputError(f"The shape of an observation is {list(self.shape)}; every length must be at least 1.")
        try:
            numbers = np.dtype(self.dtype).kind in "biuf"
        except TypeError:
            numbers = False
        if not numbers:
            raise InputError(f"The dtype of an observation is '{self.dtype}'; give one of numbers: float32, uint8, …")

    @property
    def is_image(self) -> bool:
        """Whether it holds bytes with height and width: a picture."""
        return self.dtype == "uint8" and len(self.shape) > 1

    @property
    def is_floating(self) -> bool:
        """Whether its numbers are of floating point."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def is_vector(self) -> bool:
        """Whether it is a list of floating-point numbers."""
        return len(self.shape) == 1 and self.is_floating

    @property
    def nbytes(self) -> int:
        """Bytes of one observation."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{list(self.shape)} {self.dtype}"


Specs = Mapping[str, Spec]
"""The entries of an observation by name; a slash may group names: `image/front`."""


def state_specs(size: int) -> dict[str, Spec]:
    """An observation that is one vector.

    >>> state_specs(17)
    {'state': Spec(shape=(17,), dtype='float32')}
    """
    return {STATE: Spec((size,))}


def state_size(observation: Specs | int, reader: str) -> int:
    """Length O of the vector that an observation consists of; a number stands for itself.

    Args:
        observation: entries of the observation, or O.
        reader: who can read nothing but a vector, for the message.

    Raises:
        InputError: the observation has other entries.

    >>> state_size({"state": Spec((17,))}, "MLPPolicy"), state_size(17, "MLPPolicy")
    (17, 17)
    """
    if isinstance(observation, int):
        return observation
    if list(observation) != [STATE] or not observation[STATE].is_vector:
        raise InputError(
            f"{reader} reads one vector, '{STATE}', but an observation consists of {described(observation)}. Choose a "
            "policy that reads these entries, or a suite that gives a vector."
        )
    return observation[STATE].shape[0]


def described(observation: Specs) -> str:
    """The entries for a message.

    >>> described({"state": Spec((7,)), "image/front": Spec((96, 96, 3), "uint8")})
    "'state' [7] float32, 'image/front' [96, 96, 3] uint8"
    """
    return ", ".join(f"'{name}' {spec}" for name, spec in observation.items()) or "nothing"


def specs_to_json(observation: Specs) -> dict[str, Any]:
    """Plain types, for files.

    >>> specs_to_json({"state": Spec((7,))})
    {'state': {'shape': [7], 'dtype': 'float32'}}
    """
    return {name: {"shape": list(spec.shape), "dtype": spec.dtype} for name, spec in observation.items()}


def specs_from_json(content: Mapping[str, Any]) -> dict[str, Spec]:
    """Inverse of `specs_to_json`."""
    return {name: Spec(tuple(entry["shape"]), entry["dtype"]) for name, entry in content.items()}


@dataclass(frozen=True)
class Dimensions:
    """What a policy is made for."""

    observation: Specs
    context: int
    """C, length of the context."""
    action: int
    """A, length of an action."""
