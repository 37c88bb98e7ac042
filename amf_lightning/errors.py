"""The one exception that means "what you gave is wrong", told apart from a bug of ours, and how it is found."""

import sys
from typing import NoReturn


class InputError(Exception):
    """Something given by the user cannot be used.

    The message says what is wrong, where, and what to do. The command line prints it without a
    traceback and exits with code 2; a program that uses the package as a library can catch it.
    """


def cause(error: BaseException | None, *kinds: type[Exception]) -> Exception | None:
    """The first error of these kinds that an exception is or comes from; None if there is none.

    jsonargparse and Lightning wrap what is raised inside them.
    """
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error


def moved(command: str) -> NoReturn:
    """Ends a process that was started as `python -m MODULE`: says which command does it now. Its exit code is 2."""
    sys.stderr.write(f"amf: this is a command now: amf {command}. For its options: amf {command} --help\n")
    raise SystemExit(2)
