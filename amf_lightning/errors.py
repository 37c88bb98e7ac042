"""The exceptions that say whose mistake something is, and the exit code of each ending of the program."""

import sys
from enum import IntEnum
from typing import ClassVar, NoReturn


class ExitCode(IntEnum):
    """How a command of `amf` ends."""

    FINISHED = 0
    RUNS_FAILED = 1
    """Some runs of a comparison failed; each is named, with its own ending."""
    BAD_INPUT = 2
    """Something given cannot be used."""
    USER_CODE = 3
    """Code of the user raised, or gave what it may not give."""
    UNFINISHED = 4
    """A run was ended before its budget was spent, by nobody's mistake; the same command goes on."""
    BUG = 70
    """A mistake of this package."""
    MACHINE = 74
    """Disk, permission or memory."""
    WAITING = 75
    """The run waits for demonstrations; the same command goes on."""
    INTERRUPTED = 130
    """Ctrl-C; the same command goes on."""
    PIPE_CLOSED = 141
    """Who read the output has gone, as `head` does."""
    TERMINATED = 143
    """SIGTERM; the same command goes on."""


class AmfError(Exception):
    """Something that a line can tell: what is wrong, where, and what to do. Not a bug of this package.

    The command line prints the message without a traceback and ends with `code`; a program that uses the package as a
    library can catch it.
    """

    code: ClassVar[ExitCode]


class InputError(AmfError):
    """Something given by the user cannot be used."""

    code = ExitCode.BAD_INPUT


class UserCodeError(AmfError):
    """Code of the user raised, or gave what it may not give: an environment, a policy, an expert, a selector.

    The message names the class and the file; `__cause__` is what was raised, whose traceback goes to a file.
    """

    code = ExitCode.USER_CODE


class MachineError(AmfError):
    """The machine refused: no space, no permission, no memory. The message says what to free or to allow."""

    code = ExitCode.MACHINE


class UnfinishedError(AmfError):
    """A limit of the trainer ended a run before its budget was spent. Nothing is lost: the same command goes on."""

    code = ExitCode.UNFINISHED


class Stopped(SystemExit):
    """A signal asked this process to end; the exit code is the one that shells give it, 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


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
