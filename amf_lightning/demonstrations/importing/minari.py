"""Minari's datasets: `metadata.json` beside `main_data.hdf5`, or beside a folder of parquet or arrow for each episode.

Read with h5py or pyarrow. Minari itself makes the environment that a dataset names, if it has to, which runs code of
somebody else. Its observations are T + 1. It names no tasks: they are looked for in `options/task` of an episode, or
every episode shows the dataset's own name, which a map of tasks can change.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.demonstrations.facts import FACTS, Facts, read_facts
from amf_lightning.demonstrations.importing import minari_tables
from amf_lightning.demonstrations.importing.described import read_description, text_of
from amf_lightning.demonstrations.importing.encoded_pictures import decode
from amf_lightning.demonstrations.importing.hdf5 import Group, opened
from amf_lightning.demonstrations.importing.minari_spaces import Box, boxes
from amf_lightning.demonstrations.importing.parts import parts
from amf_lightning.demonstrations.importing.reading import Reading
from amf_lightning.demonstrations.importing.recorded import AGAIN, Recorded, as_flag, as_seed, trajectory
from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.trajectory import Trajectory

DESCRIPTION, MAIN = "metadata.json", "main_data.hdf5"
_LIBRARY = "Minari's format"


def root(path: Path) -> Path | None:
    """The folder with the description: the one that is named, or `data/` in it; None if there is none."""
    return next((folder for folder in (path, path / "data") if (folder / DESCRIPTION).is_file()), None)


def count(path: Path) -> int:
    """How many episodes there are."""
    _, description = _described(path)
    return _number(description, "total_episodes", path)


def episodes(path: Path, reading: Reading | None = None) -> Iterator[Trajectory]:
    """The episodes in order.

    Raises:
        InputError: the dataset is damaged, or of a kind that is not read.
    """
    reading = reading or Reading()
    folder, description = _described(path)
    total = _number(description, "total_episodes", path)
    kind = text_of(description, "data_format", folder / DESCRIPTION)
    if kind not in ("hdf5", *minari_tables.KINDS):
        raise InputError(f"{folder}: the data format '{kind[:40]}' is not read; hdf5, parquet and arrow are. {AGAIN}")
    read = _from_hdf5 if kind == "hdf5" else _from_tables
    found = False
    for where, recorded in read(folder, description, total, reading):
        for place, part in parts(where, recorded, reading.subgoals):
            found = True
            if (made := trajectory(place, part, reading)) is not None:
                yield made
    if reading.subgoals is not None and not found:
        raise InputError(
            f"{folder}: no recording reaches a sub-goal after its start, within {reading.subgoals.within:g}. Correct "
            "'subgoals' in the file of --keys."
        )


def _described(path: Path) -> tuple[Path, dict[str, Any]]:
    folder = root(path)
    if folder is None:
        raise InputError(f"{path} has no {DESCRIPTION}. Give the folder of a Minari dataset.")
    return folder, read_description(folder / DESCRIPTION)


def _number(description: Mapping[str, Any], key: str, path: Path) -> int:
    value = description.get(key)
    if type(value) is not int or value < 1:
        raise InputError(f"{path}: '{key}' of {DESCRIPTION} is {value!r:.60}, not a number of episodes. {AGAIN}")
    return value


def _from_hdf5(
    folder: Path, description: Mapping[str, Any], total: int, reading: Reading
) -> Iterator[tuple[str, Recorded]]:
    spaces = boxes(description.get("observation_space"), f"{folder / DESCRIPTION}: observation_space")
    jpeg = bool(description.get("jpeg_encoding", True))
    with opened(folder / MAIN, _LIBRARY) as file:
        held = sum(name.startswith("episode_") for name in file.names())
        if held != total:
            raise InputError(f"{folder}: {MAIN} holds {held} episodes, but {DESCRIPTION} says {total}. {AGAIN}")
        for number in range(total):
            group = file.group(f"episode_{number}")
            facts = read_facts(group.attribute(FACTS), group.where)
            names = _names(list(spaces), facts, reading, group.where)
            observations = {}
            for theirs, ours in names.items():
                place = f"observations/{theirs}" if theirs else "observations"
                encoded = jpeg and spaces[theirs].is_picture
                observations[ours] = (
                    _decoded(group.blobs(place), spaces[theirs], f"{group.where}: '{place}'")
                    if encoded
                    else _checked(group.rows(place), spaces[theirs], f"{group.where}: '{place}'")
                )
            success = None
            if "infos" in group and "success" in (infos := group.group("infos")):
                success = as_flag(infos.rows("success", -1), f"{infos.where}/success")
            yield (
                group.where,
                Recorded(
                    observations=_without_filler(observations, facts),
                    actions=group.rows(reading.action or "actions"),
                    rewards=_rewards(facts, group.rows(reading.reward or "rewards")),
                    task=group.attribute("options/task") or description.get("dataset_id"),
                    seed=as_seed(group.attribute("seed"), f"{group.where}: 'seed'"),
                    success=success,
                    facts=facts,
                    subgoals=_subgoals(group, spaces, reading),
                ),
            )


def _from_tables(
    folder: Path, description: Mapping[str, Any], total: int, reading: Reading
) -> Iterator[tuple[str, Recorded]]:
    spaces = boxes(description.get("observation_space"), f"{folder / DESCRIPTION}: observation_space")
    actions = boxes(description.get("action_space"), f"{folder / DESCRIPTION}: action_space")
    jpeg = bool(description.get("jpeg_encoding", True))
    if list(actions) != [""]:
        raise InputError(f"{folder}: its actions have parts {', '.join(actions)}; one vector is read. {AGAIN}")
    for number in range(total):
        where = f"{folder}, episode {number}"
        about = read_description(folder / str(number) / DESCRIPTION)
        table = minari_tables.read(folder / str(number), str(description["data_format"]), where)
        names = _names(list(spaces), None, reading, where)
        observations = {}
        for theirs, ours in names.items():
            what = f"{where}: '{theirs or 'observations'}'"
            encoded = jpeg and spaces[theirs].is_picture
            observations[ours] = (
                _decoded(table.blobs(f"observations/{theirs}"), spaces[theirs], what)
                if encoded
                else table.rows(f"observations/{theirs}", spaces[theirs].shape)
            )
        options = about.get("options")
        task = options.get("task") if isinstance(options, dict) else None
        success = table.rows("infos/success", ()) if table.has("infos/success") else None
        yield (
            where,
            Recorded(
                observations=observations,
                # The last row of these is a filler, as there is one more observation.
                actions=table.rows("actions/", actions[""].shape)[:-1],
                rewards=table.rows("rewards", ())[:-1],
                task=task if isinstance(task, str) else description.get("dataset_id"),
                seed=as_seed(about.get("seed"), f"{where}: 'seed'"),
                success=None if success is None else as_flag(success, f"{where}: infos/success"),
                subgoals=_subgoals(table, spaces, reading),
            ),
        )


def _subgoals(
    episode: Group | minari_tables.Table, spaces: Mapping[str, Box], reading: Reading
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """What is reached and what should be, by name of the sub-goal, if the reading asks for parts."""
    if (asked := reading.subgoals) is None:
        return {}
    achieved, desired = (
        {entry.removeprefix(f"{group}/"): entry for entry in spaces if entry.startswith(f"{group}/")}
        for group in (asked.achieved, asked.desired)
    )
    if not achieved or achieved.keys() != desired.keys():
        odd = ", ".join(sorted(achieved.keys() ^ desired.keys())) or "none"
        raise InputError(
            f"{episode.where}: '{asked.achieved}' and '{asked.desired}' must have the same sub-goals, at least one; "
            f"only one of them has {odd}, among {', '.join([*spaces][:12])}. Correct 'subgoals' in the file of --keys."
        )

    def rows(entry: str) -> NDArray[Any]:
        place = f"observations/{entry}"
        return episode.rows(place) if isinstance(episode, Group) else episode.rows(place, spaces[entry].shape)

    return {name: (rows(achieved[name]), rows(desired[name])) for name in sorted(achieved)}


def _names(entries: list[str], facts: Facts | None, reading: Reading, where: str) -> dict[str, str]:
    known = facts.names if facts else {}
    return reading.names(entries, lambda theirs: known.get(theirs) or theirs or STATE, where)


def _checked(entry: NDArray[Any], space: Box, what: str) -> NDArray[Any]:
    if entry.shape[1:] != space.shape:
        raise InputError(
            f"{what} has shape {list(entry.shape[1:])}, but the observation space says {list(space.shape)}. {AGAIN}"
        )
    return entry


def _decoded(encoded: list[bytes], space: Box, what: str) -> NDArray[Any]:
    if not encoded:
        raise InputError(f"{what} has no pictures. {AGAIN}")
    pictures = [decode(each, space.shape, f"{what}, picture {row}") for row, each in enumerate(encoded)]
    if len({picture.shape for picture in pictures}) > 1:
        raise InputError(f"{what} has pictures of different shapes. {AGAIN}")
    return np.stack(pictures)


def _without_filler(observations: dict[str, NDArray[Any]], facts: Facts | None) -> dict[str, NDArray[Any]]:
    """Without what our exporter put after the last action because Minari wants something there."""
    if facts is None or facts.after_last:
        return observations
    return {name: entry[:-1] for name, entry in observations.items()}


def _rewards(facts: Facts | None, rewards: NDArray[Any]) -> NDArray[Any] | None:
    """None where our exporter wrote NaN for rewards that nobody recorded."""
    return None if facts is not None and rewards.dtype.kind == "f" and np.isnan(rewards).all() else rewards
