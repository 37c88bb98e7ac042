"""A folder that LeRobot saved an ACT into, as plain types, and the network and the normalisation that these make."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError
from amf_lightning.import_path import told
from amf_lightning.policies.library_function import load_weights
from amf_lightning.policies.weights import read_safetensors

WEIGHTS = "model.safetensors"
_OF_ITS_PLACE = (
    "type",
    "push_to_hub",
    "repo_id",
    "private",
    "tags",
    "license",
    "pretrained_path",
    "pretrained_revision",
)
"""Entries of `config.json` that say where a checkpoint lies, and nothing of what it does."""
_PREPARING = ("rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor")
_FINISHING = ("unnormalizer_processor", "device_processor")
_READS = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}
"""Statistics that each way of normalising reads."""


def lerobot_module(name: str) -> Any:
    """A module of LeRobot; InputError, with how to install it, where it is missing."""
    return required(f"lerobot.{name}", "LeRobotACT", "lerobot")


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What makes the policy of a checkpoint again, beside its weights; only data is read, no code that a file names.

    That is `config` (of `ACTConfig`), `renamed` (LeRobot's rename map), `eps` and `statistics` (of the normalisation).

    Args:
        folder: `pretrained_model` of `lerobot-train`, or what `save_pretrained` of policy and processors wrote.

    Raises:
        InputError: there is no such checkpoint, it is of another policy, or it does more to observations and actions
            than to rename and to normalise them.
    """
    config = _json(folder / "config.json", folder)
    if (kind := config.get("type")) != "act":
        raise InputError(
            f"LeRobotACT: {folder} holds a policy of type {kind!r}, and 'act' is the one that can be read. Write a "
            "policy around yours (docs/your-own-policy.md)."
        )
    if config.get("use_peft"):
        raise InputError(f"LeRobotACT: {folder} holds adapters (PEFT). Merge them into the weights with LeRobot first.")
    config = {name: value for name, value in config.items() if name not in _OF_ITS_PLACE}
    # Its weights hold the backbone already, which LeRobot would download first.
    config |= {"device": "cpu", "pretrained_backbone_weights": None}
    prepare = _steps(folder, "policy_preprocessor.json", _PREPARING)
    finish = _steps(folder, "policy_postprocessor.json", _FINISHING)
    normaliser, after = prepare["normalizer_processor"], finish["unnormalizer_processor"]
    if normaliser["norm_map"] != after["norm_map"] or normaliser["eps"] != after["eps"]:
        raise InputError(f"LeRobotACT: {folder} normalises in another way than it undoes that. Save both anew.")
    features = {**config["input_features"], **config["output_features"]}
    statistics: dict[str, dict[str, Any]] = {}
    for name, feature in features.items():
        source = after if name in config["output_features"] else normaliser
        found = source["statistics"].get(name, {})
        read = _READS.get(normaliser["norm_map"].get(feature["type"], "IDENTITY"), tuple(found))
        if kept := {each: found[each].tolist() for each in read if each in found}:
            statistics[name] = kept
    return {
        "config": {**config, "normalization_mapping": normaliser["norm_map"]},
        "renamed": prepare.get("rename_observations_processor", {}).get("rename_map", {}),
        "eps": normaliser["eps"],
        "statistics": statistics,
    }


def _steps(folder: Path, file: str, known: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Settings of each step of a pipeline by its name, those of a normalisation with its `statistics`."""
    steps: dict[str, dict[str, Any]] = {}
    for step in _json(folder / file, folder).get("steps", []):
        name = step.get("registry_name") or step.get("class")
        if name not in known:
            raise InputError(
                f"LeRobotACT: {folder / file} has the step '{name}', and nothing but {', '.join(known)} can be "
                "done here. Do it to the recordings before LeRobot is trained on them."
            )
        steps[name] = dict(step.get("config", {}))
        if state := step.get("state_file"):
            flat = read_safetensors(folder / Path(state).name)[0]
            statistics: dict[str, dict[str, Tensor]] = {}
            for key, tensor in flat.items():
                entry, _, statistic = key.rpartition(".")
                statistics.setdefault(entry, {})[statistic] = tensor
            steps[name]["statistics"] = statistics
    if not any(name.endswith("normalizer_processor") for name in steps):
        raise InputError(f"LeRobotACT: {folder / file} says nothing of a normalisation. Save the processors anew.")
    for settings in steps.values():
        settings.setdefault("statistics", {})
    return steps


def _json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"LeRobotACT: {folder} has no {path.name}, so it is no checkpoint that LeRobot 0.4 or newer has written. "
            "Give the folder pretrained_model of lerobot-train; older ones are converted by "
            "`python -m lerobot.processor.migrate_policy_normalization --pretrained-path FOLDER`."
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"LeRobotACT: {path} cannot be read ({error}). Copy the checkpoint anew.") from None
    if not isinstance(content, dict):
        raise InputError(f"LeRobotACT: {path} is no JSON object. Copy the checkpoint anew.")
    return content


def config_of(made_of: Mapping[str, Any]) -> Any:
    """`ACTConfig` of what `read_checkpoint` gives."""
    kind = lerobot_module("policies.act.configuration_act").ACTConfig
    try:
        return required("draccus", "LeRobotACT", "lerobot").decode(kind, dict(made_of["config"]))
    except InputError:
        raise
    except Exception as error:  # its decoder raises errors of many kinds
        raise InputError(
            f"LeRobotACT: the installed LeRobot cannot read the checkpoint's configuration ({told(error)}). Install "
            "the version that wrote it."
        ) from error


def network_of(config: Any, weights: Path | None) -> nn.Module:
    """LeRobot's `ACTPolicy`, with the weights of a file, or untrained."""
    try:
        network: nn.Module = lerobot_module("policies.act.modeling_act").ACTPolicy(config)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"LeRobotACT: LeRobot cannot make an ACT of its configuration ({told(error)}).") from error
    if weights is not None:
        load_weights(network, weights, frozenset(), "LeRobot's ACT")
    return network


class Normalisation:
    """What LeRobot does to a batch before the network and to the actions after it, by its own steps.

    Args:
        config: `ACTConfig`.
        made_of: see `read_checkpoint`.
    """

    def __init__(self, config: Any, made_of: Mapping[str, Any]) -> None:
        processor = lerobot_module("processor")
        options = {"norm_map": dict(config.normalization_mapping), "eps": made_of["eps"]}
        features, statistics = {**config.input_features, **config.output_features}, made_of["statistics"]
        self._prepare = processor.NormalizerProcessorStep(features=features, stats=statistics, **options)
        self._finish = processor.UnnormalizerProcessorStep(features=config.output_features, stats=statistics, **options)
        self._of_batch, self._to_batch = processor.batch_to_transition, processor.transition_to_batch
        self._of_actions = processor.policy_action_to_transition
        self._to_actions = processor.transition_to_policy_action

    def batch(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch normalised, with nothing but what was in it."""
        done = self._to_batch(self._prepare(self._of_batch(dict(batch))))
        return {name: done[name] for name in batch}

    def actions(self, actions: Tensor) -> Tensor:
        """Actions of the network in the units of its recordings."""
        finished: Tensor = self._to_actions(self._finish(self._of_actions(actions)))
        return finished
