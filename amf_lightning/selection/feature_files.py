"""Reads what the advisor needs from files: arrays of features [T, F], one an episode, and a small YAML of settings."""

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amf_lightning.errors import InputError
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.selection.feature_episodes import objection_to

SETTINGS = "advise.yaml"
"""Name of the file of settings in a folder of features."""
ARCHIVE = "features.npz"
"""Name of the file that may hold all arrays in place of folders."""
_KINDS = {"candidates": "features", "demonstrated": "demonstrated"}
_NUMBERS = ("distribution", "costs", "noise", "horizons", "remaining")
_STATISTICS = ("second_moment", "count", "largest_norm")
_MOST_BYTES = 2**33
"""That an archive may hold, uncompressed."""


@dataclass
class FeatureFiles:
    """Arguments of `advise` that were read from files."""

    features: dict[str, list[Any]] = field(default_factory=dict)
    demonstrated: dict[str, list[Any]] = field(default_factory=dict)
    pretraining: "FeatureStatistics | list[Any] | None" = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`distribution`, `costs`, `noise`, `horizons` and `remaining` where the YAML has them."""

    def arguments(self) -> dict[str, Any]:
        """For `advise`."""
        found = {"features": self.features, "demonstrated": self.demonstrated, "pretraining": self.pretraining}
        return {**found, **self.settings}


def read_features(place: Path) -> FeatureFiles:
    """Reads a folder, or one `.npz`; docs/advisor.md has the layout.

    Files `.npy` are mapped, not read: of a large data set only what is looked at comes into memory at once.

    Raises:
        InputError: the place or something in it cannot be used; names the file and what is wrong.
    """
    if not place.exists():
        raise InputError(f"--features: there is no {place}. Give a folder with candidates/TASK/*.npy, or an .npz.")
    files = FeatureFiles()
    archive = place if place.is_file() else place / ARCHIVE
    of_archive = archive.is_file()
    arrays = _of_archive(archive) if of_archive else _of_folders(place)
    widths: dict[int, str] = {}
    statistics: dict[str, Any] = {}
    pretraining: list[Any] = []
    for name, kind, task, array in arrays:
        if kind == "statistics":
            statistics[task] = array
            continue
        if (wrong := objection_to(array)) is not None:
            raise InputError(f"{name} {wrong}.")
        widths.setdefault(array.shape[1], name)
        if len(widths) > 1:
            (width, first), (other, second) = widths.items()
            raise InputError(f"{second} has {other} features, but {first} has {width}; one policy gives all of them.")
        (pretraining if kind == "pretraining" else getattr(files, _KINDS[kind]).setdefault(task, [])).append(array)
    if not (files.features or files.demonstrated):
        raise InputError(f"{place} holds no episode. Put arrays [steps, features] into candidates/TASK/NAME.npy.")
    if statistics and pretraining:
        raise InputError(f"{place} says twice what the pre-training was: give episodes or pretraining.npz, not both.")
    files.pretraining = _statistics(place, statistics, next(iter(widths))) if statistics else pretraining or None
    if (settings := archive.with_name(SETTINGS)).is_file():
        files.settings = _settings(settings, {*files.features, *files.demonstrated})
    return files


def _of_folders(place: Path) -> Iterator[tuple[str, str, str, Any]]:
    """Name, kind, task and array of every file."""
    for kind in _KINDS:
        folders = sorted(path for path in (place / kind).glob("*") if path.is_dir())
        for folder in folders:
            paths = sorted(folder.glob("*.npy"))
            if not any([*(place / other / folder.name).glob("*.npy")] for other in _KINDS):
                raise InputError(f"{folder} holds no episode (*.npy). Put one there, or remove the folder.")
            for path in paths:
                yield str(path), kind, folder.name, _load(path)
    for path in sorted((place / "pretraining").glob("*.npy")):
        yield str(path), "pretraining", "", _load(path)
    if (path := place / "pretraining.npz").is_file():
        for name, array in _entries(path):
            yield f"{path}, {name}", "statistics", name, array


def _of_archive(path: Path) -> Iterator[tuple[str, str, str, Any]]:
    """The same of the entries candidates/TASK/NAME, demonstrated/TASK/NAME, pretraining/NAME of an archive."""
    for name, array in _entries(path):
        kind, _, rest = name.partition("/")
        task, _, _ = rest.rpartition("/")
        label = f"{path}, entry {name},"
        if kind == "pretraining" and rest in _STATISTICS:
            yield label, "statistics", rest, array
        elif kind == "pretraining" and rest:
            yield label, kind, "", array
        elif kind in _KINDS and task:
            yield label, kind, task, array
        else:
            raise InputError(
                f"{label} is none of candidates/TASK/NAME, demonstrated/TASK/NAME and pretraining/NAME. Rename it."
            )


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} {_unreadable(error)}") from error


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_BYTES:
            raise InputError(f"{path} would hold {size >> 30} GiB. Write a folder of .npy files, which are mapped.")
        with np.load(path, allow_pickle=False) as content:
            for name in sorted(content.files):
                yield name, content[name]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        raise InputError(f"{path} {_unreadable(error)}") from error


def _unreadable(error: Exception) -> str:
    if any(word in str(error) for word in ("pickle", "Object arrays", "Python objects")):
        return "holds Python objects (a pickle), which are not read: they could run code. Save an array of float32."
    return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__}). Write it again with numpy.save."


def _statistics(place: Path, found: Mapping[str, Any], width: int) -> FeatureStatistics:
    where = f"pretraining statistics in {place}"
    if missing := [name for name in _STATISTICS if name not in found]:
        raise InputError(f"The {where} lack {', '.join(missing)}. Give {', '.join(_STATISTICS)}.")
    moment, count, largest = (found[name] for name in _STATISTICS)
    numbers = all(each.dtype.kind in "fiu" and np.isfinite(each).all() for each in (moment, count, largest))
    if not numbers or count.size != 1 or largest.size != 1 or not (count.item() >= 1 and largest.item() > 0):
        raise InputError(f"The {where} are no finite numbers: second_moment, count >= 1 and largest_norm > 0.")
    if moment.shape != (width + 1, width + 1):
        raise InputError(
            f"The second_moment of the {where} has shape {list(moment.shape)}; features of {width} entries and a 1 for "
            f"the bias need {[width + 1, width + 1]}."
        )
    if not np.allclose(moment, moment.T) or np.linalg.eigvalsh(moment)[0] < -1e-6 * max(1.0, np.trace(moment)):
        raise InputError(f"The second_moment of the {where} is no sum of φφᵀ: it is not symmetric and semidefinite.")
    return FeatureStatistics(torch.from_numpy(moment).double(), int(count.item()), float(largest.item()), "", {})


def _settings(path: Path, tasks: set[str]) -> dict[str, dict[str, Any]]:
    import yaml

    from amf_lightning.bounded_yaml import check_yaml
    from amf_lightning.reading import read_text, read_yaml_mapping

    advice = "Correct it, or remove it: it need not be there."
    try:
        check_yaml(read_text(path, advice))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())[:150]}). {advice}") from error
    content = read_yaml_mapping(path, advice)
    for key, values in content.items():
        if key not in _NUMBERS:
            near = get_close_matches(key, _NUMBERS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(_NUMBERS)}."
            raise InputError(f"{path}: unknown key '{key}'. {hint}")
        if not isinstance(values, dict):
            raise InputError(f"{path}: {key} must be a mapping of tasks to numbers.")
        for task, value in values.items():
            if task not in tasks:
                raise InputError(f"{path}: {key} names task '{task}', of which there is no episode.")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"{path}: {key} of '{task}' is {value!r}; it must be a number.")
    return content
