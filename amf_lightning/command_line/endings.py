"""How a command ends: what an error is, what is said of it, and the exit code. Nothing else decides that."""

import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from amf_lightning.command_line.machine import refused, whoever_asked
from amf_lightning.command_line.signals import NAMES, Signals
from amf_lightning.errors import AmfError, ExitCode, InputError, Stopped, UserCodeError
from amf_lightning.user_code import blamed, told

GO_ON = ("fit", "compare", "search-schedule", "train-expert")
"""Commands that go on where they were."""
GRACE = {"compare": 15.0, "search-schedule": 15.0, "desk": 15.0}
"""Seconds that a command may take to end after a signal: runs of a comparison, answers of a desk end before it."""
_GRACE = 5.0
_ALIKE = 2.0
"""Seconds that a rank gives the first one to say the same."""


@dataclass(frozen=True)
class Ending:
    """What is said at the end, and the exit code."""

    code: int
    line: str
    log: bool = False
    """Whether the traceback goes into a file that the line names."""
    ours: bool = False
    """Whether it is a mistake of this package: then the traceback is shown."""


PROGRAM: "ContextVar[Program | None]" = ContextVar("PROGRAM", default=None)
"""The call of `amf` that this process is; None where the package is used as a library."""


class Program:
    """One call of `amf`: what was typed, and where its run is, once that is known."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)
        self.folder: Path | None = None
        """Of the run; tracebacks go there if it has begun, and it is what a full disk is full of."""
        self.signals = Signals(GRACE.get(self.command, _GRACE), self.say_stopped)
        self._stopped = False

    @property
    def command(self) -> str:
        """Its name; empty if none was typed."""
        return self.arguments[0] if self.arguments else ""

    def end(self, error: BaseException) -> int:
        """Says what there is to say of an error and returns the exit code. `error` is what ended the command."""
        ending = self.ending(error)
        if ending.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
            self.say_stopped(ending.code - 128)
        elif ending.line and not self._said_by_the_first():
            if ending.ours:
                traceback.print_exception(error)
            where = f" The traceback is in {self._log(error)}." if ending.log else ""
            _say(f"{ending.line}{where}")
        return ending.code

    def say_stopped(self, number: int) -> None:
        """Says once that a signal ended this process; on the first rank only, as all of them are sent one."""
        if self._stopped or _rank():
            return
        self._stopped = True
        goes_on = ": the same command goes on" if self.command in GO_ON else ""
        where = f" The run is in {self.folder}." if self.folder and goes_on else ""
        _say(f"stopped by {NAMES[number]}{goes_on}.{where}")

    def ending(self, error: BaseException) -> Ending:
        """What an error is: the kind of the last one, in the chain of what it comes from, that is of any."""
        chain = list(_chain(error))
        if isinstance(error, SystemExit | KeyboardInterrupt) and (ended := self._asked(error, chain)):
            return ended
        if isinstance(error, BrokenPipeError) and error.filename is None:
            return Ending(ExitCode.PIPE_CLOSED, "")
        for position, each in enumerate(chain):
            if isinstance(each, AmfError):
                return self._explained(each)
            place = blamed(each)
            if place and not any(map(whoever_asked, chain[position:])):
                line = f"{place.name} raised {told(each)}. Mend it, and run the same command again."
                return Ending(ExitCode.USER_CODE, line, log=True)
            if says := refused(each, self.folder):
                return Ending(ExitCode.MACHINE, says)
            if _of_another_rank(each):
                return self._after_another_rank()
        return Ending(ExitCode.BUG, self._report(), ours=True)

    def _asked(self, error: BaseException, chain: list[BaseException]) -> Ending | None:
        """The ending of a process that was asked to end, by a signal or by a command itself; None if code of the user
        ended it."""
        if isinstance(error, Stopped):
            return Ending(int(str(error.code)), "")
        if any(isinstance(each, KeyboardInterrupt) for each in chain):  # Lightning makes SystemExit(1) of it
            return Ending(ExitCode.INTERRUPTED, "")
        if place := blamed(error):
            line = f"{place.name} ended the program with SystemExit({error}) ({place}). Let it raise an error instead."
            return Ending(ExitCode.USER_CODE, line, log=True)
        code = error.code if isinstance(error, SystemExit) else None
        if code is None or isinstance(code, int):
            return Ending(code or 0, "")
        return Ending(ExitCode.BAD_INPUT, str(code))

    def _after_another_rank(self) -> Ending:
        """The ending of what can go on no more since another rank has ended: as that one if it is known."""
        for code in filter(None, self.signals.codes_of_children()):
            if code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
                return Ending(code, "")
            if code in set(ExitCode):
                return Ending(code, "another process of this run has ended, and so does this one. It said why.")
            if code < 0:
                line = f"another process of this run was killed by signal {-code}, maybe since memory ran out."
                return Ending(ExitCode.MACHINE, f"{line} The same command goes on.")
        line = "another process of this run has ended, and so does this one. The same command goes on."
        return Ending(ExitCode.MACHINE, line)

    def _explained(self, error: AmfError) -> Ending:
        """The ending of what was explained where it happened; what it comes from may be of another kind."""
        because = error.__cause__
        if because is not None and not isinstance(because, AmfError) and isinstance(error, InputError | UserCodeError):
            if whoever_asked(because):
                return Ending(ExitCode.MACHINE, refused(because, self.folder) or str(error))
            if blamed(because):
                return Ending(ExitCode.USER_CODE, str(error), log=True)
        log = isinstance(error, UserCodeError) and (because is not None or bool(getattr(error, "__notes__", ())))
        return Ending(error.code, str(error), log)

    def _log(self, error: BaseException) -> Path | str:
        """Writes the traceback into a new file: of the run, if it has begun, else of the folder for such files."""
        text = "".join(traceback.format_exception(error))
        text = f"$ {self._command()}\n\n{text}"
        stamp = f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-"
        begun = self.folder is not None and (self.folder / "config.yaml").is_file()
        for folder in [self.folder, None] if begun else [None]:
            try:
                descriptor, name = tempfile.mkstemp(".log", stamp if folder else f"amf-{stamp}", folder, text=True)
                with os.fdopen(descriptor, "w") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                continue
            return Path(name)
        sys.stderr.write(text)  # nothing can be written anywhere
        return "the lines above"

    def _report(self) -> str:
        from amf_lightning import __version__

        return (
            f"this is a mistake of amf-lightning {__version__}, not yours. Please report it, with the lines above and "
            f"the command: {self._command()}"
        )

    def _command(self) -> str:
        return shlex.join(["amf", *self.arguments])

    def _said_by_the_first(self) -> bool:
        """Whether the first rank fails too, and so alike: then it ends within moments, and has said so."""
        if not _rank():
            return False
        first, deadline = os.getppid(), time.monotonic() + _ALIKE
        while time.monotonic() < deadline:
            if os.getppid() != first:
                return True
            time.sleep(0.05)
        return False


def flush() -> None:
    """Writes what was printed; if that cannot be written, nothing more is."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):  # or Python would try again as it ends, and change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _say(line: str) -> None:
    """Writes a line for people, in one piece: ranks write side by side."""
    with suppress(OSError):
        flush()
    sys.stderr.write(f"amf: {line}\n")
    sys.stderr.flush()


def _rank() -> int:
    """Of this process among those that Lightning started on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it comes from, the last first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _of_another_rank(error: BaseException) -> bool:
    """Whether this is what is left of a conversation whose other side is gone."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available():
        return False
    if isinstance(error, torch.distributed.DistNetworkError):  # also before they have found each other
        return True
    if not torch.distributed.is_initialized():
        return False
    gone = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in gone)
