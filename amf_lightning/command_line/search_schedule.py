"""`amf search-schedule`: the best schedule that a search finds."""

from amf_lightning.command_line.parser_errors import ArgumentParser
from amf_lightning.command_line.parsing import PARSER
from amf_lightning.studies.search import add_search_arguments, run_search


def main(arguments: list[str]) -> int:
    """Parses the arguments and searches; the exit code."""
    description = "Search for the schedule of demonstrations with the largest area under the curve."
    parser = ArgumentParser(**PARSER, prog="amf search-schedule", description=description)
    add_search_arguments(parser)
    return run_search(parser.parse_args(arguments))
