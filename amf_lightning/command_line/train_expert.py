"""`amf train-expert`: trains a goal-conditioned expert.

The identical command goes on after an interruption; with a larger `--recipe.env_steps` it also goes on after the end.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from amf_lightning.command_line.parser_errors import ArgumentParser
from amf_lightning.command_line.parsing import PARSER, with_configurations
from amf_lightning.command_line.values import check_values
from amf_lightning.configuration import user_path
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.experts.training.recipe import Recipe
from amf_lightning.suites.velocity import VelocitySuite


def main(arguments: list[str]) -> None:
    """Parses the command line and trains."""
    _, *arguments = with_configurations(["train-expert", *arguments], sections=("recipe",))
    parser = ArgumentParser(**PARSER, prog="amf train-expert", description=__doc__)
    parser.add_argument("--config", action="config", help="YAML file with the options below.")
    parser.add_subclass_arguments(VelocitySuite, "suite", required=True)
    parser.add_class_arguments(Recipe, "recipe")
    parser.add_argument("--output", type=Path, required=True, help="Folder of everything; resumed if it exists.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate_every", type=int, default=25_000, help="Environment steps between evaluations.")
    parser.add_argument("--save_every", type=int, default=100_000, help="Environment steps between checkpoints.")
    parser.add_argument("--episodes", type=int, default=4, help="Episodes of each task in an evaluation.")
    values = parser.parse_args(arguments)
    check_values(vars(values), parser)
    made = parser.instantiate(values)
    made.output = user_path(made.output, "--output")
    train = _learner()
    recipe: Recipe = made.recipe
    numbers = {key: value for key, value in asdict(recipe).items() if key != "env_steps"}  # may be raised later
    _check_same(made.output, {"recipe": numbers, "suite": values.suite.as_dict(), "seed": made.seed})
    train(made.suite, recipe, made.output, made.seed, made.evaluate_every, made.save_every, made.episodes)


def _learner() -> Callable[[VelocitySuite, Recipe, Path, int, int, int, int], None]:
    try:
        from amf_lightning.experts.training.learner import train
    except ModuleNotFoundError as error:
        raise InputError(
            f"Training an expert needs '{error.name}', which is not installed: pip install 'amf-lightning[experts]'."
        ) from error
    return train


def _check_same(output: Path, identity: dict[str, object]) -> None:
    """Refuses to go on in a folder that another recipe, suite or seed began."""
    text = json.dumps(identity, indent=1, sort_keys=True, default=str)
    path = output / "identity.json"
    if path.is_file() and path.read_text() != text:
        raise InputError(f"{output} belongs to another training (see {path}). Choose another --output.")
    write_durably(path, text)
