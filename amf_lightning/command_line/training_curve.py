"""`amf training-curve progress.csv curve.png`: draws each task during a training of an expert."""

from pathlib import Path

from amf_lightning.command_line.parser_errors import ArgumentParser
from amf_lightning.experts.training.curve import draw


def main(arguments: list[str]) -> None:
    """Parses the command line and draws."""
    parser = ArgumentParser(prog="amf training-curve", description=__doc__)
    parser.add_argument("progress", type=Path, help="progress.csv of a training.")
    parser.add_argument("picture", type=Path, help="PNG file to write.")
    made = parser.parse_args(arguments)
    draw(made.progress, made.picture)
