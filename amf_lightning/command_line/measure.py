"""`amf measure`: returns of random actions and of an expert, task by task.

Of a run's configuration, `--config FILE`, or of a suite and weights that are named. What `--output` writes can be given
to the suite as its `reference`.
With `--publish` the numbers go beside the shipped weights: `reference.json`, which scores are normalised by, and a
card, `expert.md`, for people.
"""

import argparse
import json
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from amf_lightning.catalogue import import_named
from amf_lightning.command_line.parser_errors import ArgumentParser
from amf_lightning.command_line.parsing import PARSER
from amf_lightning.command_line.values import check_values
from amf_lightning.configuration import find_configuration, read_mapping, user_path
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert, Expert
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.experts.measure import Measured, measure, table
from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.shipped import manifest, publish, shipped_folder
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.writable import check_file


def main(arguments: list[str]) -> None:
    """Parses the command line, measures, prints, and publishes if asked to."""
    parser = ArgumentParser(**PARSER, prog="amf measure", description=__doc__)
    parser.add_argument("--config", type=str, default="", help="Take suite and expert from this run's configuration.")
    parser.add_subclass_arguments(TaskSuite, "suite")
    parser.add_subclass_arguments(Expert, "expert")
    parser.add_argument("--weights", type=str, default="", help="Of a TrainedExpert: shipped name or path.")
    parser.add_argument("--episodes", type=int, default=50, help="Episodes of each task.")
    parser.add_argument("--publish", action="store_true", help="Write reference.json and expert.md beside the weights.")
    parser.add_argument("--output", type=str, default="", help="Write them into this file too, for suite.reference.")
    import_named(arguments)
    _set_defaults(parser, arguments)
    values = parser.parse_args(arguments)
    check_values(vars(values), parser)
    output = user_path(values.output, "--output") if values.output else None
    objects = parser.instantiate(values)
    expert, values = TrainedExpert(objects.weights) if objects.weights else objects.expert, objects
    if objects.suite is None or expert is None:
        raise InputError("Say what to measure: --config FILE, or --suite and --weights or --expert.")
    if values.output:
        check_file(Path(values.output))
    _show_failures(expert)
    returns = measure(objects.suite, expert, values.episodes)
    print(table(returns), end="")
    repeatable = [argument for argument in arguments if argument != "--publish"]
    command = f"amf measure {shlex.join(repeatable)}"
    reference = _reference(objects.suite, values.episodes, returns, command)
    if output is not None:
        write_durably(output, reference)
    if values.publish:
        _publish(objects.suite, expert, values.weights, values.episodes, returns, reference, command)


def _set_defaults(parser: ArgumentParser, arguments: list[str]) -> None:
    """Suite and expert of `--config`, for the command line to change; without reference, which is to be measured."""
    first = argparse.ArgumentParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config", default="")
    name = first.parse_known_args(arguments)[0].config
    if not name:
        return
    content = read_mapping(find_configuration(name))
    import_named(content)
    parts: dict[str, Any] = {key: content[key] for key in ("suite", "expert") if key in content}
    if isinstance(suite := parts.get("suite"), dict):
        options = suite.get("init_args") or {}
        parts["suite"] = {**suite, "init_args": {key: options[key] for key in options if key != "reference"}}
    parser.set_defaults(parts)


def _show_failures(expert: Expert) -> None:
    """Lets the expert, or the one within a `LimitedExpert`, return failed episodes: they are measured, too."""
    while isinstance(expert, LimitedExpert):
        expert = expert.expert
    if isinstance(expert, ActingExpert):
        expert.successes_only = False


def _reference(suite: TaskSuite, episodes: int, measured: dict[str, Measured], command: str) -> str:
    """What `suite.reference` names, as JSON."""
    horizons = {task.horizon for task in suite.tasks}
    content = {
        "suite": suite.name,
        "horizon": horizons.pop() if len(horizons) == 1 else {task.name: task.horizon for task in suite.tasks},
        "episodes": episodes,
        "command": command,
        "tasks": {task: row.__dict__ for task, row in measured.items()},
    }
    return json.dumps(content, indent=1) + "\n"


def _publish(
    suite: TaskSuite,
    expert: Expert,
    weights: str,
    episodes: int,
    measured: dict[str, Measured],
    reference: str,
    command: str,
) -> None:
    entry = manifest().get(f"{weights}.safetensors")
    if entry is None:
        raise InputError(f"'{weights}' is not shipped: publish the weights first, with amf publish.")
    folder = weights.rpartition("/")[0]
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "reference.json"
        file.write_text(reference)
        publish(file, f"{folder}/reference.json", command)
    card = _card(suite, expert, weights, entry, episodes, measured)
    write_durably(shipped_folder("checkpoints") / folder / "expert.md", card)


def _card(
    suite: TaskSuite,
    expert: Expert,
    weights: str,
    entry: dict[str, str],
    episodes: int,
    measured: dict[str, Measured],
) -> str:
    spread = "mean ± standard deviation over episodes"
    explained = "; ".join(filter(None, [spread, suite.metrics_text, "success as the suite defines it"]))
    return f"""# {weights}

The expert of suite `{suite.name}`: {expert.card_text}

Made with

    {entry["command"]}

File: `checkpoints/{weights}.safetensors`, SHA-256 `{entry["sha256"]}`.

Over {episodes} episodes a task of {suite.tasks[0].horizon} steps ({explained}):

{table(measured)}"""
