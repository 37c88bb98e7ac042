"""Configurations: how they are read, composed of others, told apart, and what makes two runs the same run.

One file names its base, and parts that lie in files of their own. Nothing here imports jsonargparse before a file is
read: its YAML differs from that of `yaml` in what is a number (`1e-3` is one).
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from amf_lightning.bounded_yaml import LONGEST, RefusedYAML, check_yaml
from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder

SEEDS = 2**32
"""Seeds are below this: numpy takes no larger ones."""
SECTIONS = ("model", "data", "active", "reports", "trainer")
"""Keys of a run's configuration under which there are further keys, and not a class."""
NOT_IDENTITY = ("trainer", "active.budget", "reports", "ckpt_path", "config")
"""Keys of a configuration that may change while the run stays the same run."""
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
"""Bytes of a name and of a path, as file systems and Linux have them."""
_FEW = 60
"""Characters of a value in a message."""


def find_configuration(name: str | Path) -> Path:
    """The file of that name; else the shipped one, so that `configs/halfcheetah.yaml` works in any folder.

    Raises:
        InputError: there is neither; names the nearest shipped one.
    """
    folder = shipped_folder("configs")
    for candidate in (user_path(name, "--config"), folder / str(name).removeprefix("configs/")):
        if candidate.is_file():
            return candidate
    shipped = sorted(f"configs/{file.relative_to(folder).as_posix()}" for file in folder.rglob("*.yaml"))
    runs = [file.removeprefix("configs/") for file in shipped if file.count("/") == 1]
    near = get_close_matches(str(name), shipped, n=1, cutoff=0.7)
    hint = f"Did you mean {near[0]}?" if near else f"In configs/ there are {', '.join(runs)}."
    raise InputError(f"There is no configuration {name}. {hint}")


def user_path(name: str | Path, key: str) -> Path:
    """The path that somebody wrote under `key`, with `~` for the home folder.

    Raises:
        InputError: no file can be called that.

    >>> user_path("runs/a", "--output")
    PosixPath('runs/a')
    """
    text = str(name)
    if not text.strip():
        raise InputError(f"{key} is empty; give a path, e.g. runs/mine, or . for this folder.")
    if not text.isprintable():
        raise InputError(f"{key} is {text[:80]!r}, and no path has characters in it that cannot be seen.")
    longest = max(len(os.fsencode(part)) for part in text.split("/"))
    if longest > _LONGEST_NAME or len(os.fsencode(text)) > _LONGEST_PATH:
        raise InputError(
            f"{key} is too long for a path ({len(text)} characters, {text[:40]}…): a name in it may have "
            f"{_LONGEST_NAME} bytes, all of it {_LONGEST_PATH}."
        )
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise InputError(f"{key} is {text}, but there is no home folder {text.split('/')[0]}.") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping of keys to values that a configuration holds, with what it includes put in.

    Raises:
        InputError: see `read_configuration`; or it holds something else.
    """
    content = read_configuration(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping of keys to values, e.g. suite: HalfCheetahVelocity.")
    return content


def check_sections(content: Mapping[Any, Any], where: str, sections: Sequence[str] = SECTIONS) -> None:
    """Makes sure that the keys are names, and that there is a mapping under each that must have one.

    jsonargparse drops a list, a number or null there without a word, and with it what the base says.

    Raises:
        InputError: says which key is wrong, and what stands there.
    """
    for key, value in content.items():
        if not isinstance(key, str):
            raise InputError(f"{where}: the key {key!r} is no name of a setting.")
        if key in sections and not isinstance(value, Mapping):
            raise InputError(
                f"{where}: '{key}' must hold a mapping of its keys to values, not {_told(value)}. Leave it out for "
                "what the base says, or for the defaults."
            )
        if key in sections and (wrong := next((each for each in value if not isinstance(each, str)), "")) != "":
            raise InputError(f"{where}: the key {wrong!r} below '{key}' is no name of a setting.")


def _told(value: Any) -> str:
    """A value as YAML writes it, in a few characters."""
    text = " ".join(yaml.safe_dump(plain(value), default_flow_style=True, width=math.inf).split()).removesuffix(" ...")
    return text if len(text) <= _FEW else text[:_FEW] + " …"


def read_configuration(path: Path, including: tuple[Path, ...] = ()) -> Any:
    """Reads a YAML file, with what it includes put in.

    `config: base.yaml` (or a list, later ones winning) at the top is the base that the file's own keys are merged
    into, key by key. Any value that names an existing `.yaml` file is replaced by its content. Both are relative to
    the file; `configs/…` is a shipped one if there is none. jsonargparse can include files too, but then
    `model: {pretrained: x}` would drop the rest of the base's `model`.

    Raises:
        InputError: a file is missing, is not YAML, is too much of it, says one key twice, or includes itself.
    """
    if path.resolve() in including:
        raise InputError(f"{path} includes itself: {' -> '.join(str(step) for step in (*including, path.resolve()))}.")
    try:
        content = parse_yaml(read_yaml_text(path))
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except RefusedYAML as error:
        raise InputError(f"{path} cannot be used: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return compose(content, path.parent, (*including, path.resolve()))


def read_yaml_text(path: Path) -> str:
    """The text of a file of YAML that is not too long.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text.
        RefusedYAML: it is too long.
    """
    if (size := path.stat().st_size) > 4 * LONGEST:  # bytes; a character has four at most
        raise RefusedYAML(f"it has {size} bytes; at most {LONGEST} characters are read.")
    return path.read_text(encoding="utf-8")


def compose(content: Any, folder: Path, including: tuple[Path, ...] = ()) -> Any:
    """Puts in what `content`, read from a file in `folder`, includes; see `read_configuration`."""
    if isinstance(content, str) and (path_of_value := _named(content, folder)):
        return read_configuration(path_of_value, including)
    if not isinstance(content, dict):
        return content
    bases = [bases] if isinstance(bases := content.get("config", []), str) else bases
    if bases is None or (isinstance(bases, list) and all(isinstance(base, str) for base in bases)):
        bases = bases or []
    else:
        raise InputError(
            f"{including[-1] if including else folder}: 'config' must name a file, or a list of files, not "
            f"{_told(bases)}."
        )
    own_settings = {key: compose(value, folder, including) for key, value in content.items() if key != "config"}
    merged: dict[str, Any] = {}
    for base in bases:
        path = _named(base, folder) or folder / user_path(base, "config")
        content_of_base = read_configuration(path, including)
        if not isinstance(content_of_base, dict):
            raise InputError(f"{path} must hold a mapping of keys to values: it is the base of a configuration.")
        merged = merge(merged, content_of_base)
    return merge(merged, own_settings)


def _named(value: str, folder: Path) -> Path | None:
    """The configuration that a value names: a file relative to `folder`, or a shipped one as `configs/…`."""
    if value.endswith((".yaml", ".yml")) and value.isprintable() and len(os.fsencode(value)) <= _LONGEST_NAME:
        if (folder / value).is_file():
            return folder / value
        if value.startswith("configs/") and (path := shipped_folder("configs") / value[len("configs/") :]).is_file():
            return path
    return None


def merge(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `own` over it, key by key; the options of a class are dropped when another class is chosen.

    >>> merge({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}})
    {'a': {'x': 1, 'y': 3}}
    >>> merge({"s": {"class_path": "A", "init_args": {"k": 1}}}, {"s": {"class_path": "B"}})
    {'s': {'class_path': 'B'}}
    """
    merged = dict(base)
    for key, value in own.items():
        base_value = merged.get(key)
        if isinstance(base_value, Mapping) and isinstance(value, Mapping) and not _another_class(base_value, value):
            merged[key] = merge(base_value, value)
        else:
            merged[key] = value
    return merged


def _another_class(base: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "class_path" in value and value["class_path"] != base.get("class_path")


def parse_yaml(text: str) -> Any:
    """What a text of YAML says, as jsonargparse reads it.

    Raises:
        yaml.YAMLError: it is not YAML; RefusedYAML, if it is too much of it or says one key twice.
    """
    check_yaml(text)
    from jsonargparse import get_loader

    try:
        return get_loader("yaml")(text)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # of a tag or a long number
        raise RefusedYAML(f"it holds a value that cannot be read ({error}).") from None


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys with values as YAML and JSON both give them back, see `plain`; an empty mapping is a value.

    >>> leaves({"a": {"x": 1, "y": {}}, "b": (2,)})
    {'a.x': 1, 'a.y': {}, 'b': [2]}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= leaves(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = plain(value)
    return flat


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run of this configuration that run: its leaves without `NOT_IDENTITY`.

    >>> identity({"active": {"budget": 3, "batch_size": 1}, "trainer": {"devices": 2}})
    {'active.batch_size': 1}
    """
    return {key: value for key, value in leaves(config).items() if not _may_change(key)}


def _may_change(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in NOT_IDENTITY)


def plain(value: Any, strict: bool = False) -> Any:
    """Only what JSON and YAML have in common: NaN becomes null, which equals itself; paths and dates become their text.

    Args:
        value: mappings, sequences and single values.
        strict: infinities become their text, too. The JSON of Python reads and writes them, that of others does not.

    >>> plain({1: (float("nan"), float("inf"), Path("a/b"))}, strict=True)
    {'1': [None, 'inf', 'a/b']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry, strict) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, strict) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return str(value) if strict else value
    return str(value) if isinstance(value, Path | date) else value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The keys in which two settings differ, each with both values; those of `now` first, in its order.

    None stands for a key that is not there, so an option that is left off equals one that did not exist yet: a newer
    version goes on with the runs of an older one.
    """
    for key in {**now, **before}:
        if before.get(key) != now.get(key):
            yield key, before.get(key), now.get(key)


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first key, in alphabetical order, in which two settings differ, with both values; see `differences`.

    >>> first_difference({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    ('b', 2, 3)
    """
    return min(differences(before, now), key=lambda difference: difference[0], default=None)
