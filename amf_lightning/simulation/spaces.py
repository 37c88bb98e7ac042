"""Between the spaces of gymnasium and the vectors of this package: observations flat, actions in [-1, 1]."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten
from numpy.typing import NDArray

from amf_lightning.errors import InputError

_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class FlatObservations:
    """One vector for an observation: the entries of a `Dict` in alphabetical order (nested ones too), each flat.

    A `Box` is read row by row, `Discrete`, `MultiDiscrete` and `MultiBinary` become zeros and ones, a `Tuple` keeps
    its order; numbers of any type become float32.

    Args:
        space: of the observations.
        keys: which entries of a `Dict` are read, in this order; all if None.

    Raises:
        InputError: the space holds images or something that has no fixed length, or a key that it does not have.
    """

    def __init__(self, space: spaces.Space[Any], keys: Sequence[str] | None = None) -> None:
        if keys is not None:
            known = sorted(space.spaces) if isinstance(space, spaces.Dict) else []
            if not keys or not set(keys) <= set(known):
                raise InputError(
                    f"observation_keys is {list(keys)}, but the observations are "
                    f"{'a dictionary of ' + ', '.join(known) if known else f'no dictionary: {space}'}."
                )
            if twice := sorted({key for key in keys if keys.count(key) > 1}):
                raise InputError(f"observation_keys names {', '.join(twice)} more than once.")
        self._space, self._keys = space, keys
        leaves = [(name, leaf) for name, leaf, _ in _leaves(space, keys=keys)]
        self.size = sum(flatdim(leaf) for _, leaf in leaves)
        self.parts = {f"observation {name}".rstrip(): _kind(leaf) for name, leaf in leaves}
        """What is read, in this order: name, and kind and size in words."""

    def __call__(self, observation: Any) -> NDArray[np.float32]:
        """[O] float32."""
        parts = [
            np.asarray(flatten(leaf, _within(name, leaf, value)), dtype=np.float64)
            for name, leaf, value in _leaves(self._space, observation, keys=self._keys)
        ]
        # Numbers beyond float32 become infinite here and are refused, with task and step, where episodes are run.
        with np.errstate(over="ignore"):
            return np.concatenate(parts).astype(np.float32)


def _leaves(
    space: spaces.Space[Any], value: Any = None, name: str = "", keys: Sequence[str] | None = None
) -> Iterator[tuple[str, spaces.Space[Any], Any]]:
    """Names and spaces that are flat, with their part of `value` if there is one, in the documented order."""
    if isinstance(space, spaces.Dict):
        for key in sorted(space.spaces) if keys is None else keys:
            yield from _leaves(space[key], None if value is None else value[key], f"{name}.{key}".lstrip("."))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, None if value is None else value[index], f"{name}[{index}]")
    else:
        where = f"The observation{f' {name}' if name else ''} is"
        if isinstance(space, spaces.Box) and _is_image(space):
            raise InputError(
                f"{where} an image, {space.shape} of {space.dtype}; policies here read vectors. Wrap the "
                "environment so that it gives features of the image, or choose other entries by observation_keys."
            )
        if not isinstance(space, _FLAT):
            raise InputError(f"{where} a {type(space).__name__}, which has no fixed length. Wrap the environment.")
        yield name, space, value


def _is_image(space: spaces.Box) -> bool:
    """Bytes with height and width, or numbers of any type with one, three or four channels, first or last."""
    if space.dtype == np.uint8:
        return len(space.shape) > 1
    if len(space.shape) != 3:
        return False
    first, *_, last = space.shape
    return any(
        channels in (1, 3, 4) and min(sides) >= 8
        for channels, sides in ((last, space.shape[:2]), (first, space.shape[1:]))
    )


def _kind(leaf: spaces.Space[Any]) -> str:
    size = leaf.shape if isinstance(leaf, spaces.Box) else flatdim(leaf)
    return f"{type(leaf).__name__} of size {size}"


def _within(name: str, leaf: spaces.Space[Any], value: Any) -> Any:
    """`value`; ValueError if it is no choice that there is. Gymnasium would take -1 for the last one."""
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        choices = leaf.n if isinstance(leaf, spaces.Discrete) else leaf.nvec
        chosen = np.asarray(value) - leaf.start
        if (chosen < 0).any() or (chosen >= choices).any():
            raise ValueError(f"the observation{f' {name}' if name else ''} is {value}, which is not in {leaf}")
    return value


class Actions(ABC):
    """Actions of an environment as vectors in [-1, 1]."""

    size: int
    """A."""
    discrete: bool
    """Whether they are choices, one-hot."""

    @abstractmethod
    def __call__(self, action: NDArray[np.float32]) -> Any:
        """The environment's own action for [A]."""


class Rescaled(Actions):
    """A `Box`: -1 and 1 stand for its bounds, low + (a + 1)/2 · (high − low); bounds of -1 and 1 change no bit.

    Raises:
        InputError: a bound is infinite.
    """

    discrete = False

    def __init__(self, space: spaces.Box) -> None:
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise InputError(
                f"The actions have no bounds ({space}), so [-1, 1] stands for nothing. Give them bounds, e.g. "
                "gymnasium.wrappers.TransformAction(env, lambda action: action, gymnasium.spaces.Box(-1, 1, "
                f"{space.shape})) in a function that makes the environment."
            )
        self.low, self.high = space.low.flatten().astype(np.float64), space.high.flatten().astype(np.float64)
        self.size = len(self.low)
        self._space = space
        self._unchanged = bool((self.low == -1).all() and (self.high == 1).all())

    def __str__(self) -> str:
        return f"from {self.low.tolist()} to {self.high.tolist()}"

    def __call__(self, action: NDArray[np.float32]) -> NDArray[Any]:
        if not self._unchanged:
            scaled = self.low + (action.astype(np.float64) + 1) / 2 * (self.high - self.low)
            action = np.clip(scaled, self.low, self.high)
        return action.astype(self._space.dtype).reshape(self._space.shape)


class OneHot(Actions):
    """A `Discrete` of n actions: vectors [n], of which the largest entry is chosen."""

    discrete = True

    def __init__(self, space: spaces.Discrete) -> None:
        self.size, self._start = int(space.n), int(space.start)

    def __str__(self) -> str:
        return f"{self.size} choices"

    def __call__(self, action: NDArray[np.float32]) -> int:
        return self._start + int(action.argmax())


def actions_of(space: spaces.Space[Any]) -> Actions:
    """How vectors become actions of `space`; InputError if it is neither a bounded `Box` nor `Discrete`."""
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return Rescaled(space)
    if isinstance(space, spaces.Discrete):
        return OneHot(space)
    raise InputError(
        f"The action space is {space}; it must be a Box of floating-point numbers or Discrete. Wrap the environment."
    )
