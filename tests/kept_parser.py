"""The parser of a command, made once in a process and its forks: making it takes as long as parsing with it."""

from typing import Any

from amf_lightning.command_line.lightning_cli import CommandLine

_make = CommandLine.setup_parser
_OF_PARSER = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")
_made: dict[tuple[str, ...], dict[str, Any]] = {}
"""What `setup_parser` sets, by the subcommands."""


def keep() -> None:
    """From now on, every command in this process that is like one before it takes its parser."""
    setattr(CommandLine, "setup_parser", _take)  # noqa: B010 - a method, which mypy knows as fixed


def _take(command: CommandLine, *arguments: Any) -> None:
    key = tuple(command.subcommands())
    if key not in _made:
        _make(command, *arguments)
        _made[key] = {name: vars(command)[name] for name in _OF_PARSER}
    vars(command).update(_made[key])
