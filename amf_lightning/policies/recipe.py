"""How a policy is made again: its class and its options as plain types, for files and for policies made of others."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy

Recipe = Mapping[str, Any]
"""`{"class": import path, "options": keyword arguments beyond the three dimensions}`."""


def recipe_of(policy: Policy) -> dict[str, Any]:
    """The recipe of a policy. It says nothing of its weights."""
    return {"class": f"{type(policy).__module__}.{type(policy).__qualname__}", "options": dict(policy.options)}


def from_recipe(recipe: Recipe, dims: tuple[int, int, int]) -> Policy:
    """A policy of the class, options and dimensions (observation, context, action), with weights to be overwritten.

    A recipe comes from a file, and a file must not decide what code is imported: a class is taken from this package,
    or from a module that the program has imported already.

    Raises:
        InputError: the class is neither, or not a policy.
    """
    module, _, name = str(recipe["class"]).rpartition(".")
    if not module.startswith("amf_lightning.") and module not in sys.modules:
        raise InputError(f"{recipe['class']} is not of this package. Import its module before the policy is made.")
    found = getattr(import_module(module), name, None)
    if not (isinstance(found, type) and issubclass(found, Policy)):
        raise InputError(f"{recipe['class']} is not a class of policies.")
    return found(*dims, **recipe["options"])
