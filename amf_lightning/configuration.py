"""Configurations: how they are read, composed of others, told apart, and what makes two runs the same run.

One file names its base, and parts that lie in files of their own. Nothing here imports jsonargparse before a file is
read: its YAML differs from that of `yaml` in what is a number (`1e-3` is one).
"""

import math
from collections.abc import Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder

NOT_IDENTITY = ("trainer", "active.budget", "reports", "ckpt_path", "config")
"""Keys of a configuration that may change while the run stays the same run."""


def find_configuration(name: str | Path) -> Path:
    """The file of that name; else the shipped one, so that `configs/halfcheetah.yaml` works in any folder.

    Raises:
        InputError: there is neither; names the nearest shipped one.
    """
    folder = shipped_folder("configs")
    for candidate in (Path(name), folder / str(name).removeprefix("configs/")):
        if candidate.is_file():
            return candidate
    shipped = sorted(f"configs/{file.relative_to(folder).as_posix()}" for file in folder.rglob("*.yaml"))
    runs = [file.removeprefix("configs/") for file in shipped if file.count("/") == 1]
    near = get_close_matches(str(name), shipped, n=1, cutoff=0.7)
    hint = f"Did you mean {near[0]}?" if near else f"In configs/ there are {', '.join(runs)}."
    raise InputError(f"There is no configuration {name}. {hint}")


def read_configuration(path: Path, including: tuple[Path, ...] = ()) -> Any:
    """Reads a YAML file, with what it includes put in.

    `config: base.yaml` (or a list, later ones winning) at the top is the base that the file's own keys are merged
    into, key by key. Any value that names an existing `.yaml` file is replaced by its content. Both are relative to
    the file; `configs/…` is a shipped one if there is none. jsonargparse can include files too, but then
    `model: {pretrained: x}` would drop the rest of the base's `model`.

    Raises:
        InputError: a file is missing, is not YAML, or includes itself.
    """
    if path.resolve() in including:
        raise InputError(f"{path} includes itself: {' -> '.join(str(step) for step in (*including, path.resolve()))}.")
    try:
        content = parse_yaml(path.read_text())
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return compose(content, path.parent, (*including, path.resolve()))


def compose(content: Any, folder: Path, including: tuple[Path, ...] = ()) -> Any:
    """Puts in what `content`, read from a file in `folder`, includes; see `read_configuration`."""
    if isinstance(content, str) and (path_of_value := _named(content, folder)):
        return read_configuration(path_of_value, including)
    if not isinstance(content, dict):
        return content
    bases = content.get("config", [])
    own_settings = {key: compose(value, folder, including) for key, value in content.items() if key != "config"}
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases or []:
        merged = merge(merged, read_configuration(_named(base, folder) or folder / base, including))
    return merge(merged, own_settings)


def _named(value: str, folder: Path) -> Path | None:
    """The configuration that a value names: a file relative to `folder`, or a shipped one as `configs/…`."""
    if value.endswith((".yaml", ".yml")):
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
        yaml.YAMLError: it is not YAML.
    """
    from jsonargparse import get_loader

    return get_loader("yaml")(text)


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
