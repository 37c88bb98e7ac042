"""The contexts of a suite whose tasks a configuration lists: what policies are told about each task."""

import math
from collections.abc import Sequence

import numpy as np

from amf_lightning.errors import InputError


def contexts_of(suite: str, names: Sequence[str], given: Sequence[Sequence[float] | None]) -> list[tuple[float, ...]]:
    """Contexts of all tasks, [K] of length C each, all different: the given ones, or the tasks' numbers, one-hot.

    Args:
        suite: name of the suite's class, for messages.
        names: of the tasks.
        given: context of each task as the configuration has it, or None.

    Raises:
        InputError: no task, a name twice, some tasks with and some without a context, or contexts that differ in
            length, are equal or hold something else than finite numbers.

    >>> contexts_of("S", ["near", "far"], [None, None])
    [(1.0, 0.0), (0.0, 1.0)]
    """
    if not names or len(set(names)) != len(names):
        raise InputError(f"{suite}: tasks must be at least one and have different names, got {list(names)}.")
    if all(context is None for context in given):
        return [tuple(float(i == j) for j in range(len(names))) for i in range(len(names))]
    length = next(len(context) for context in given if context is not None)
    contexts: list[tuple[float, ...]] = []
    for name, numbers in zip(names, given, strict=True):
        # In the precision in which policies get them.
        context = None if numbers is None else tuple(np.asarray(numbers, dtype=np.float32).tolist())
        if context is None or len(context) != length:
            has = "none" if context is None else f"one of {len(context)} numbers"
            raise InputError(
                f"{suite}: task '{name}' has {has} as context, others have {length} numbers. Give every task a context "
                "of the same length, or none at all (then it is the task's number, one-hot)."
            )
        if not context or not all(map(math.isfinite, context)):
            raise InputError(f"{suite}: the context of task '{name}' is {list(context)}; numbers are needed.")
        contexts.append(context)
    for index, own in enumerate(contexts):
        if (first := contexts.index(own)) < index:
            raise InputError(
                f"{suite}: tasks '{names[first]}' and '{names[index]}' have the same context {list(own)}: no policy "
                "could tell them apart."
            )
    return contexts
