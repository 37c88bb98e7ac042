"""Reads what is to be compared: a base configuration and, for each strategy, the settings that differ."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from amf_lightning.bounded_yaml import RefusedYAML, check_yaml
from amf_lightning.configuration import SEEDS, check_sections, compose, find_configuration, read_yaml_text, user_path
from amf_lightning.errors import InputError

_KEYS = ("base", "baseline", "strategies", "pretrain", "seeds", "sweep", "noise_floor")
_MOST_SEEDS, _DIGITS, _MOST_REPEATS = 10_000, 20, 100
_RESERVED = ("seed_everything", "trainer.default_root_dir", "config")


@dataclass(frozen=True)
class Specification:
    """What a comparison file says."""

    base: Path
    """The configuration that every strategy shares."""
    baseline: str
    """Label of the strategy that the others are paired with."""
    strategies: Mapping[str, Mapping[str, Any]]
    """For each label the settings that differ from the base, by dotted key; files that they name are put in."""
    pretrain: Path | None = None
    """Configuration that makes the pre-trained policy of each seed; None if the base names one for all seeds."""
    seeds: range | None = None
    """Seeds if the command line gives none."""
    sweep: str | None = None
    """What the number after the @ is in labels like Fisher@0.25, with its unit; it is drawn as an axis."""
    repeated: str | None = None
    """Label of the strategy whose runs are repeated with other training seeds, to measure the noise floor."""
    repeat_count: int = 0
    """How often each of them is."""

    @property
    def repeats(self) -> dict[str, int]:
        """Labels of the repeats, which are runs and no strategies, with their numbers from 1."""
        return {f"{self.repeated} again {number}": number for number in range(1, self.repeat_count + 1)}

    @property
    def labels(self) -> list[str]:
        """Labels of all runs: of the strategies, then of the repeats."""
        return [*self.strategies, *self.repeats]


def read_specification(path: Path) -> Specification:
    """Reads a comparison file.

    `strategies` is a mapping of labels to settings, or a list of settings, labelled by the class names of their
    selectors. Paths are relative to the file. A setting that names a YAML file, e.g. `../retention/none.yaml`, stands
    for its content.

    Raises:
        InputError: the file is missing, a key is unknown, or a value is not what it should be.
    """
    path = find_configuration(path)
    content = read_mapping(path)
    for key in content:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(_KEYS)}."
            raise InputError(f"{path}: unknown key '{key}'. {hint}")
    for key in ("base", "baseline", "strategies"):
        if not content.get(key):
            raise InputError(f"{path}: '{key}' is missing. A comparison needs base, baseline and strategies.")
    strategies = _strategies(content["strategies"], path)
    baseline = str(content["baseline"])
    if baseline not in strategies:
        raise InputError(f"{path}: baseline '{baseline}' is not among the strategies: {', '.join(strategies)}.")
    repeated, repeat_count = _noise_floor(content.get("noise_floor"), strategies, path)
    return Specification(
        repeated=repeated,
        repeat_count=repeat_count,
        base=_beside(path, content["base"], "base"),
        baseline=baseline,
        strategies=strategies,
        pretrain=_beside(path, content["pretrain"], "pretrain") if content.get("pretrain") else None,
        seeds=parse_seeds(content["seeds"], f"{path}: seeds") if content.get("seeds") is not None else None,
        sweep=None if content.get("sweep") is None else str(content["sweep"]),
    )


def setting_of(label: str) -> tuple[str, float] | None:
    """Series and setting of a strategy that is a point of a sweep; None if it is not.

    >>> setting_of("Fisher@0.25"), setting_of("Fisher"), setting_of("me@home")
    (('Fisher', 0.25), None, None)
    """
    series, _, number = label.rpartition("@")
    try:
        return (series, float(number)) if series else None
    except ValueError:
        return None


def partner_of(label: str, baseline: str, labels: Collection[str]) -> str:
    """What a strategy is paired with: the baseline, in a sweep at the strategy's own setting if it is there.

    >>> partner_of("A@2", "B@1", ["A@1", "A@2", "B@1", "B@2"]), partner_of("B@2", "B@1", ["B@1", "B@2"])
    ('B@2', 'B@1')
    """
    own, of_baseline = setting_of(label), setting_of(baseline)
    if own is None or of_baseline is None or own[0] == of_baseline[0]:
        return baseline
    there = [other for other in labels if setting_of(other) == (of_baseline[0], own[1])]
    return there[0] if there else baseline


def parse_seeds(text: object, where: str = "--seeds") -> range:
    """Seeds A to B - 1, written A:B.

    >>> parse_seeds("0:10")
    range(0, 10)
    """
    first, _, end = str(text).partition(":")
    digits = first.isdecimal() and end.isdecimal() and max(len(first), len(end)) <= _DIGITS
    if not (digits and int(first) < int(end)):
        raise InputError(
            f"{where} must be A:B with 0 ≤ A < B ≤ {SEEDS}, which stands for the seeds A to B - 1; got "
            f"{str(text)[:40]!r}. In a YAML file put it in quotes."
        )
    seeds = range(int(first), int(end))
    if seeds[-1] >= SEEDS or len(seeds) > _MOST_SEEDS:
        raise InputError(
            f"{where} is {text}: {len(seeds)} seeds. A comparison has {_MOST_SEEDS} at most, and each is below {SEEDS}."
        )
    return seeds


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds."""
    try:
        check_yaml(text := read_yaml_text(path))
        content = yaml.safe_load(text)
    except RefusedYAML as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping of keys to values.")
    return {str(key): value for key, value in content.items()}


def as_arguments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as arguments of the command line; what is not a string is written as JSON.

    >>> as_arguments({"selector": "Uniform", "active.budget": 5, "retention": {"class_path": "NoRetention"}})
    ['--selector=Uniform', '--active.budget=5', '--retention={"class_path": "NoRetention"}']
    """
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def _beside(path: Path, value: object, key: str) -> Path:
    file = Path(os.path.normpath(path.parent / user_path(str(value), f"{path}: {key}")))  # commands are read by people
    if not file.is_file():
        raise InputError(f"{path}: {key} names {value}, but there is no file {file}.")
    return file


def _strategies(value: object, path: Path) -> dict[str, dict[str, Any]]:
    if isinstance(value, list):
        labelled = [(_selector_name(settings, path), settings) for settings in value]
    elif isinstance(value, dict):
        labelled = [(str(label), settings) for label, settings in value.items()]
    else:
        raise InputError(f"{path}: strategies must map labels to settings, e.g. 'Uniform: {{selector: Uniform}}'.")
    strategies: dict[str, dict[str, Any]] = {}
    for label, settings in labelled:
        if label in strategies:
            raise InputError(f"{path}: two strategies are called '{label}'; write a mapping with labels of your own.")
        if not label.strip() or label.startswith(".") or any(c in "/\\" or not c.isprintable() for c in label):
            raise InputError(f"{path}: the label '{label}' cannot name a folder; leave out slashes and leading dots.")
        if not isinstance(settings, dict):
            raise InputError(
                f"{path}: strategy '{label}' needs a mapping of settings, e.g. {{selector: Uniform}}; "
                "{} stands for the base as it is."
            )
        for key in settings:
            if key in _RESERVED:
                raise InputError(f"{path}: strategy '{label}' sets '{key}', which the comparison sets itself.")
        check_sections(settings, f"{path}: strategy '{label}'")
        strategies[label] = {str(key): compose(setting, path.parent) for key, setting in settings.items()}
    return strategies


def _noise_floor(value: object, strategies: Mapping[str, Any], path: Path) -> tuple[str | None, int]:
    """Which strategy is repeated with other training seeds, and how often."""
    if value is None:
        return None, 0
    if not isinstance(value, dict) or not {"strategy"} <= {*value} <= {"strategy", "repeats"}:
        raise InputError(f"{path}: noise_floor must say which strategy is repeated: {{strategy: LABEL, repeats: 1}}.")
    label, count = str(value["strategy"]), value.get("repeats", 1)
    if label not in strategies:
        raise InputError(f"{path}: noise_floor: '{label}' is not among the strategies: {', '.join(strategies)}.")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_REPEATS:
        raise InputError(f"{path}: noise_floor: repeats is {count!r}; it must lie between 1 and {_MOST_REPEATS}.")
    if taken := [name for number in range(1, count + 1) if (name := f"{label} again {number}") in strategies]:
        raise InputError(f"{path}: noise_floor: a strategy is called '{taken[0]}', like a repeat. Call it otherwise.")
    return label, count


def _selector_name(settings: object, path: Path) -> str:
    selector = settings.get("selector") if isinstance(settings, dict) else None
    name = selector.get("class_path") if isinstance(selector, dict) else selector
    if not isinstance(name, str):
        raise InputError(f"{path}: a strategy without a label must name its selector, or use 'LABEL: {{...}}'.")
    return name.rpartition(".")[2]
