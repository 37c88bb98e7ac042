"""Configurations that are made of others: one file names its base, and parts that lie in files of their own."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder

MODE = "amf"
"""Name of the parser mode in which configurations are composed."""


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
        content = _yaml(path.read_text())
    except OSError as error:
        raise InputError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return compose(content, path.parent, (*including, path.resolve()))


def compose(content: Any, folder: Path, including: tuple[Path, ...] = ()) -> Any:
    """Puts in what `content`, read from a file in `folder`, includes; see `read_configuration`."""
    if isinstance(content, str) and (named := _named(content, folder)):
        return read_configuration(named, including)
    if not isinstance(content, dict):
        return content
    bases = content.get("config", [])
    own = {key: compose(value, folder, including) for key, value in content.items() if key != "config"}
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases or []:
        merged = merge(merged, read_configuration(_named(base, folder) or folder / base, including))
    return merge(merged, own)


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
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and not _another_class(before, value):
            merged[key] = merge(before, value)
        else:
            merged[key] = value
    return merged


def _another_class(before: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return "class_path" in value and value["class_path"] != before.get("class_path")


def _load(text: str) -> Any:
    """What jsonargparse calls, in the folder of the file, with its text; and with every single value."""
    content = _yaml(text)
    part = isinstance(content, str) and content.startswith("configs/")  # else it may be any name of a file
    return compose(content, Path.cwd()) if part or isinstance(content, dict) else content


_yaml = get_loader("yaml")
set_loader(MODE, _load, (yaml.YAMLError,))
