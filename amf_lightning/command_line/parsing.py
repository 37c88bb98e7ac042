"""How every command parses: files are composed of others, and the modules of the classes they name are imported."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_loader

from amf_lightning.bounded_yaml import RefusedYAML
from amf_lightning.catalogue import import_named
from amf_lightning.configuration import (
    SECTIONS,
    check_sections,
    compose,
    find_configuration,
    parse_yaml,
    read_mapping,
)
from amf_lightning.errors import InputError

MODE = "amf"
"""Name of the parser mode in which configurations are composed."""

PARSER: dict[str, Any] = {"allow_abbrev": False, "parser_mode": MODE}
"""Lightning takes `--trainer.max_epoch` silently for max_epochs if abbreviations are allowed."""


def with_configurations(args: Sequence[str], sections: Sequence[str] = SECTIONS) -> list[str]:
    """Puts in where each configuration is, so that shipped ones are found in any folder, and reads it.

    jsonargparse would read it anyway, but say of a damaged file neither its name nor what was expected.

    Args:
        args: the command and what follows it.
        sections: keys that hold further keys.

    Raises:
        InputError: a configuration is missing, or is no mapping of keys to values, or has none in a section.
    """
    import_named(args)
    resolved = [*args[:1]]
    for before, argument in pairwise(args):
        prefix = "--config=" if argument.startswith("--config=") else ""
        if prefix or before in ("--config", "-c"):
            path = find_configuration(argument.removeprefix(prefix))
            check_sections(read_mapping(path), str(path), sections)
            argument = f"{prefix}{path}"
        resolved.append(argument)
    return resolved


def _load(text: str) -> Any:
    """What jsonargparse calls, in the folder of the file, with its text; and with every single value."""
    try:
        content = parse_yaml(text)
    except RefusedYAML as error:
        raise InputError(f"'{text[:60]}' cannot be used: {error}") from None
    part = isinstance(content, str) and content.startswith("configs/")  # else it may be any name of a file
    composed = compose(content, Path.cwd()) if part or isinstance(content, dict) else content
    import_named(composed)
    return composed


set_loader(MODE, _load, (yaml.YAMLError,))
