"""Between the spaces of gymnasium and the arrays of this package: observations by entry, actions in [-1, 1]."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE, Spec

_FLAT = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_IMAGE = "image"

Path = tuple[str, ...]
"""Keys of nested dictionaries, and places in tuples, that lead to a part of an observation; () is all of it."""


class ObservationEntries:
    """The entries of an observation: pictures each for themselves, and `state`, one vector of all else.

    A picture is `image/<key>`, or `image` if there is nothing else; nested keys are joined by slashes. Its shape and
    type stay. Into the vector go the parts of a `Dict` in alphabetical order (nested ones too), each flat: a `Box` is
    read row by row, `Discrete`, `MultiDiscrete` and `MultiBinary` become zeros and ones, a `Tuple` keeps its order;
    numbers of any type become float32.

    Args:
        space: of the observations.
        keys: which entries of a `Dict` are read, in this order; all if None.

    Raises:
        InputError: the space holds something that has no fixed length, or lacks a key.
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
        leaves = [(path, leaf) for path, leaf, _ in _leaves(space, keys=keys)]
        images = {path: leaf for path, leaf in leaves if _is_image(leaf)}
        self._images = {path: "/".join((_IMAGE, *path)) for path in images}
        size = sum(flatdim(leaf) for path, leaf in leaves if path not in images)
        self.specs = {STATE: Spec((size,))} if size else {}
        """Shape and type of every entry, by name."""
        self.specs |= {self._images[path]: Spec(leaf.shape, leaf.dtype.name) for path, leaf in images.items()}
        self.parts = {f"observation {_dotted(path)}".rstrip(): _kind(leaf) for path, leaf in leaves}
        """What is read, in this order: name, and kind and size in words."""

    def __call__(self, observation: Any) -> dict[str, NDArray[Any]]:
        """The entries of an observation of the space; pictures are not copied."""
        entries: dict[str, NDArray[Any]] = {}
        parts = []
        for path, leaf, value in _leaves(self._space, observation, keys=self._keys):
            if path in self._images:
                entries[self._images[path]] = np.asarray(value)
            else:
                parts.append(np.asarray(flatten(leaf, _within(path, leaf, value)), dtype=np.float64))
        if not parts:
            return entries
        # Numbers beyond float32 become infinite here and are refused, with task and step, where episodes are run.
        with np.errstate(over="ignore"):
            return {STATE: np.concatenate(parts).astype(np.float32), **entries}


def _leaves(
    space: spaces.Space[Any], value: Any = None, path: Path = (), keys: Sequence[str] | None = None
) -> Iterator[tuple[Path, spaces.Space[Any], Any]]:
    """Paths and spaces of the parts that are no containers, with their part of `value` if there is one, in the
    documented order."""
    if isinstance(space, spaces.Dict):
        for key in sorted(space.spaces) if keys is None else keys:
            yield from _leaves(space[key], None if value is None else value[key], (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _leaves(part, None if value is None else value[index], (*path, str(index)))
    else:
        if not isinstance(space, _FLAT):
            raise InputError(
                f"The observation{f' {_dotted(path)}' if path else ''} is a {type(space).__name__}, which has no fixed "
                "length. Wrap the environment."
            )
        yield path, space, value


def _dotted(path: Path) -> str:
    return ".".join(path)


def _is_image(space: spaces.Space[Any]) -> TypeGuard[spaces.Box]:
    """Bytes with height and width, or numbers of any type with one, three or four channels, first or last."""
    if not isinstance(space, spaces.Box):
        return False
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
    kind = f" of type {leaf.dtype}" if _is_image(leaf) else ""
    return f"{type(leaf).__name__} of size {size}{kind}"


def _within(path: Path, leaf: spaces.Space[Any], value: Any) -> Any:
    """`value`; ValueError if it is no choice that there is. Gymnasium would take -1 for the last one."""
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        choices = leaf.n if isinstance(leaf, spaces.Discrete) else leaf.nvec
        chosen = np.asarray(value) - leaf.start
        if (chosen < 0).any() or (chosen >= choices).any():
            raise ValueError(f"the observation{f' {_dotted(path)}' if path else ''} is {value}, which is not in {leaf}")
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
