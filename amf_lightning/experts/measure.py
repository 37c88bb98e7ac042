"""`python -m amf_lightning.experts.measure`: returns of random actions and of an expert, task by task.

Of a run's configuration, `--config FILE`, or of a suite and weights that are named. What `--output` writes can be given
to the suite as its `reference`.
With `--publish` the numbers go beside the shipped weights: `reference.json`, which scores are normalised by, and a
card, `expert.md`, for people.
"""

import argparse
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jsonargparse import ArgumentParser

from amf_lightning.configuration import find_configuration, read_configuration
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError, cause
from amf_lightning.experts import metaworld, own, recorded, scripted, stable_baselines3, state_dict  # noqa: F401 - by their short names
from amf_lightning.experts.expert import ActingExpert, Expert
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.shipped import manifest, publish, shipped_folder
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites import designed, gymnasium_suite, halfcheetah, humanoid, integrator  # noqa: F401 - suites to choose by their short names
from amf_lightning.tasks.task import Episode, TaskSuite


@dataclass(frozen=True)
class Measured:
    """One task, over some episodes."""

    random: float
    """Mean return of uniformly random actions."""
    random_spread: float
    """Standard deviation of it over episodes."""
    expert: float
    """Mean return of the expert."""
    spread: float
    """Standard deviation of it over episodes."""
    success: float
    """Share of the expert's episodes that succeed."""
    length: float
    """Mean length of the expert's episodes in steps."""
    metrics: dict[str, float]
    """Mean of each of the suite's metrics over the expert's episodes."""


def measure(suite: TaskSuite, expert: Expert, episodes: int) -> dict[str, Measured]:
    """Runs random actions and the expert on every task of the suite, from the same initial states.

    Args:
        suite: its tasks are measured.
        expert: should give every demonstration at the first attempt, failed or not (`successes_only: false`).
        episodes: for each task.

    Raises:
        InputError: no episode is asked for, or the expert does not answer at once.
    """
    if episodes < 1:
        raise InputError(f"episodes is {episodes}; at least one of each task is needed to measure anything.")
    measured = {}
    for task in suite.tasks:
        asked = [Episode(task, keyed_seed(0, Purpose.MEASURE, task.index, number)) for number in range(episodes)]
        shown = [trajectory for trajectory in expert.demonstrate(suite, asked) if trajectory is not None]
        if len(shown) != episodes:
            raise InputError(
                f"{type(expert).__name__} gave {len(shown)} of {episodes} demonstrations of task '{task.name}'. Only "
                "an expert that answers at once can be measured."
            )
        blind = rollout(UniformActor(suite.action_dim), suite, asked)
        random = [trajectory.episode_return for trajectory in blind]
        returns = [trajectory.episode_return for trajectory in shown]
        names = sorted({name for trajectory in shown for name in trajectory.metrics})
        measured[task.name] = Measured(
            random=float(np.mean(random)),
            random_spread=float(np.std(random)),
            expert=float(np.mean(returns)),
            spread=float(np.std(returns)),
            success=float(np.mean([trajectory.success for trajectory in shown])),
            length=float(np.mean([trajectory.length for trajectory in shown])),
            metrics={name: float(np.mean([t.metrics[name] for t in shown if name in t.metrics])) for name in names},
        )
    return measured


def table(measured: dict[str, Measured]) -> str:
    """The numbers in Markdown, a row a task."""
    names = sorted({name for row in measured.values() for name in row.metrics})
    head = ["task", "random return", "expert return", "success", "length", *(name.replace("_", " ") for name in names)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for task, row in measured.items():
        metrics = [f"{row.metrics[name]:.3f}" if name in row.metrics else "" for name in names]
        returns = [f"{row.random:.1f} ± {row.random_spread:.1f}", f"{row.expert:.1f} ± {row.spread:.1f}"]
        lines.append([task, *returns, f"{100 * row.success:.0f} %", f"{row.length:.0f}", *metrics])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line, measures, prints, and publishes if asked to."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = ArgumentParser(prog="python -m amf_lightning.experts.measure", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", type=str, default="", help="Take suite and expert from this run's configuration.")
    parser.add_subclass_arguments(TaskSuite, "suite")
    parser.add_subclass_arguments(Expert, "expert")
    parser.add_argument("--weights", type=str, default="", help="Of a TrainedExpert: shipped name or path.")
    parser.add_argument("--episodes", type=int, default=50, help="Episodes of each task.")
    parser.add_argument("--publish", action="store_true", help="Write reference.json and expert.md beside the weights.")
    parser.add_argument("--output", type=str, default="", help="Write them into this file too, for suite.reference.")
    _set_defaults(parser, arguments)
    made = parser.instantiate(parser.parse_args(arguments))
    expert, values = TrainedExpert(made.weights) if made.weights else made.expert, made
    if made.suite is None or expert is None:
        raise InputError("Say what to measure: --config FILE, or --suite and --weights or --expert.")
    _show_failures(expert)
    measured = measure(made.suite, expert, values.episodes)
    print(table(measured), end="")
    kept = [argument for argument in arguments if argument != "--publish"]
    command = f"python -m amf_lightning.experts.measure {shlex.join(kept)}"
    reference = _reference(made.suite, values.episodes, measured, command)
    if values.output:
        write_durably(Path(values.output), reference)
    if values.publish:
        _publish(made.suite, values.weights, values.episodes, measured, reference, command)


def _set_defaults(parser: ArgumentParser, arguments: list[str]) -> None:
    """Suite and expert of `--config`, for the command line to change; without reference, which is to be measured."""
    first = argparse.ArgumentParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config", default="")
    name = first.parse_known_args(arguments)[0].config
    if not name:
        return
    content = read_configuration(find_configuration(name))
    parts = {key: content[key] for key in ("suite", "expert") if isinstance(content, dict) and key in content}
    if isinstance(suite := parts.get("suite"), dict):
        given = suite.get("init_args") or {}
        parts["suite"] = {**suite, "init_args": {key: given[key] for key in given if key != "reference"}}
    parser.set_defaults(parts)


def _show_failures(expert: Expert) -> None:
    """A failed episode is measured like any other, also of an expert within another."""
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
    suite: TaskSuite, weights: str, episodes: int, measured: dict[str, Measured], reference: str, command: str
) -> None:
    entry = manifest().get(f"{weights}.safetensors")
    if entry is None:
        raise InputError(f"'{weights}' is not shipped: publish the weights first, python -m amf_lightning.shipped.")
    folder = weights.rpartition("/")[0]
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "reference.json"
        file.write_text(reference)
        publish(file, f"{folder}/reference.json", command)
    write_durably(
        shipped_folder("checkpoints") / folder / "expert.md", _card(suite, weights, entry, episodes, measured)
    )


def _card(suite: TaskSuite, weights: str, entry: dict[str, str], episodes: int, measured: dict[str, Measured]) -> str:
    return f"""# {weights}

The expert of suite `{suite.name}`: a goal-conditioned actor (a = tanh of a ReLU network of observation and goal),
trained by soft actor-critic at random targets, best of the training by evaluation, run deterministically. On torch
alone: `TrainedExpert(weights="{weights}")`.

Made with

    {entry["command"]}

File: `checkpoints/{weights}.safetensors`, SHA-256 `{entry["sha256"]}`.

Over {episodes} episodes a task of {suite.tasks[0].horizon} steps (mean ± standard deviation over episodes; velocity
error: mean |v_x − v| after the first 30 %, in m/s; success as the suite defines it):

{table(measured)}"""


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        if (given := cause(error, InputError)) is None:
            raise
        sys.exit(f"error: {given}")
