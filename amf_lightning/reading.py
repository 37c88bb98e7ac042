"""Reading of text files, whatever is in them: what cannot be used is refused by name, with what to do about it."""

import json
from pathlib import Path
from typing import Any

import yaml

from amf_lightning.errors import InputError


def read_text(path: Path, advice: str) -> str:
    """The text in a file.

    Args:
        path: of the file.
        advice: a sentence on what to do if the file is damaged, here and below.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text ({error.reason} at byte {error.start}). {advice}") from error


def parse_json(text: str, where: str, advice: str) -> Any:
    """What a text of JSON says; `where` names it, e.g. by file and line.

    Raises:
        InputError: it is not JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({_reason(error)}). {advice}") from error


def read_json_mapping(path: Path, advice: str) -> dict[str, Any]:
    """The mapping that a file of JSON holds.

    Raises:
        InputError: it holds something else.
    """
    content = parse_json(read_text(path, advice), str(path), advice)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {_kind(content)} where a mapping of names to values belongs. {advice}")
    return content


def read_yaml_mapping(path: Path, advice: str) -> dict[str, Any]:
    """The mapping that a file of YAML holds, in plain types.

    Raises:
        InputError: it holds something else.
    """
    text = read_text(path, advice)
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML ({_reason(error)}). {advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {_kind(content)} where a mapping of keys to values belongs. {advice}")
    return {str(key): value for key, value in content.items()}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__


def _kind(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
