"""Options of a policy or an encoder: what its constructor was called with, as plain types for files."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any


def options_of(kind: type, args: Sequence[Any], kwargs: Mapping[str, Any], leading: int = 3) -> dict[str, Any]:
    """Keyword arguments of a constructor call beyond the first ones, defaults included; those of `**options` too.

    >>> class Made:
    ...     def __init__(self, observation, width=4, sizes=(1, 2), **more): ...
    >>> options_of(Made, (None,), {"width": 8, "depth": 2}, leading=1)
    {'width': 8, 'sizes': [1, 2], 'depth': 2}
    """
    signature = inspect.signature(kind)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    named, further = dict(bound.arguments), {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            further = named.pop(name)
    options = {**dict(list(named.items())[leading:]), **further}
    # Lists, as the file will give them back.
    return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
