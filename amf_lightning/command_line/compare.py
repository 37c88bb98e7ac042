"""`amf compare`: strategies against each other over seeds."""

from amf_lightning.command_line.parser_errors import ArgumentParser
from amf_lightning.command_line.parsing import PARSER
from amf_lightning.studies.command import add_compare_arguments, run_compare


def main(arguments: list[str]) -> int:
    """Parses the arguments and compares; the exit code."""
    parser = ArgumentParser(**PARSER, prog="amf compare", description="Compare strategies over seeds.")
    add_compare_arguments(parser)
    return run_compare(parser.parse_args(arguments))
