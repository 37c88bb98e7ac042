"""How a policy, or its encoder, is made again: class and options as plain types, for files and policies of others."""

import inspect
import json
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TypeVar

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.spec import Dimensions

T = TypeVar("T")

Recipe = Mapping[str, Any]
"""`{"class": import path, "options": keyword arguments beyond the first three}`."""


def recipe_of(policy: Policy) -> dict[str, Any]:
    """The recipe of a policy. It says nothing of its weights."""
    return {"class": import_path_of(type(policy)), "options": dict(policy.options)}


def import_path_of(kind: type) -> str:
    """Module and name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def from_recipe(recipe: Recipe, dimensions: Dimensions) -> Policy:
    """A policy of the class, options and dimensions, with weights to be overwritten.

    Raises:
        InputError: the class is neither of this package nor imported already, or not a policy.
    """
    kind = class_of(recipe["class"], Policy, "policies")
    made_for = dimensions.observation, dimensions.context, dimensions.action
    return kind(*made_for, **flat_options(kind, recipe["options"]))


def class_of(path: str, base: type[T], those: str) -> type[T]:
    """The class of an import path that stands in a file.

    It comes from a file, and a file must not decide what code is imported: a class is taken from this package,
    or from a module that the program has imported already.

    Args:
        path: of a policy or of a part of one.
        base: what the class has to extend.
        those: what such classes are of, in words for the message: `policies`.

    Raises:
        InputError: the class is neither, or does not extend the base.
    """
    module, _, name = str(path).rpartition(".")
    if not module.startswith("amf_lightning.") and module not in sys.modules:
        raise InputError(f"{path} is not of this package. Import its module before the policy is made.")
    kind = getattr(import_module(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise InputError(f"{path} is not a class of {those}.")
    return kind


def flat_options(kind: type[Policy], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the constructor takes them: files of earlier versions hold those of its `**options` under that name.

    >>> class Loose(Policy):
    ...     def __init__(self, observation, context_dim, action_dim, **more): ...
    ...     def act(self, steps): ...
    >>> flat_options(Loose, {"more": {"width": 3}})
    {'width': 3}
    """
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and isinstance(options.get(name), Mapping):
            plain_options = {key: value for key, value in options.items() if key != name}
            return flat_options(kind, {**plain_options, **options[name]})
    return dict(options)


def first_difference(recipe: Recipe, policy: Policy) -> str | None:
    """The first difference between a recipe and that of `policy`, in words; None if both make the same.

    A class is known by its name, for its module may have been moved, and a subclass passes for it. An option that the
    recipe does not know, e.g. one that is newer than its file, has the default. One that matters before training only
    may be left at its default.
    """
    kind = type(policy)
    if str(recipe["class"]).rpartition(".")[2] not in [base.__name__ for base in kind.__mro__]:
        return f"the class is {recipe['class']} in the file and {recipe_of(policy)['class']} in model.policy"
    parameters = inspect.signature(kind).parameters
    loose = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    in_file, in_policy = flat_options(kind, recipe["options"]), dict(policy.options)
    for name in sorted(in_policy.keys() | (in_file.keys() if loose else set())):
        if name not in in_file and name in parameters and parameters[name].default is inspect.Parameter.empty:
            continue
        default = parameters[name].default if name in parameters else None
        if name in kind.before_training and in_policy.get(name) == default:
            continue
        value_in_file, value_in_policy = (_plain(options.get(name, default)) for options in (in_file, in_policy))
        if value_in_file != value_in_policy:
            return f"{name} is {value_in_file!r} in the file and {value_in_policy!r} in model.policy"
    return None


def _plain(value: Any) -> Any:
    """The value as a JSON file gives it back, e.g. a tuple as a list."""
    return json.loads(json.dumps(value))
