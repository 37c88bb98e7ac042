"""The program `amf`: finds the command, and imports what that command needs and nothing else."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module

from amf_lightning.command_line.endings import PROGRAM, Program, flush
from amf_lightning.errors import InputError
from amf_lightning.lifeline import end_with_parent

COMMANDS = {
    "fit": ("fine-tune a policy with demonstrations that are chosen as it learns", "lightning_cli"),
    "validate": ("evaluate the policy of a run, or of a file", "lightning_cli"),
    "compare": ("compare strategies over seeds", "compare"),
    "search-schedule": ("search for the best schedule, the bound on what choosing can reach", "search_schedule"),
    "status": ("say how far a run is; changes nothing", "status"),
    "import": ("bring demonstrations in somebody's format into a folder of ours", "import_demonstrations"),
    "export": ("write demonstrations in somebody's format", "export_demonstrations"),
    "advise": ("say which task to demonstrate next, from features of any policy", "advise"),
    "next": ("say what to demonstrate now, and why; changes nothing", "next"),
    "add": ("hand over recordings: files, or a folder of them", "add"),
    "skip": ("say that a request will not be answered, and why", "skip"),
    "undo": ("take back the last recording that was added, or the last skip", "undo"),
    "desk": ("serve a page at the robot: what to record, recordings handed over, trials", "desk"),
    "score": ("report trials of the policy: how many succeeded", "score"),
    "measure": ("measure what random actions and an expert return, task by task", "measure"),
    "train-expert": ("train a goal-conditioned expert by reinforcement learning", "train_expert"),
    "training-curve": ("draw the curve of such a training", "training_curve"),
    "publish": ("copy a file into checkpoints/ and enter it in the manifest", "publish"),
    "completion": ("print the completion script of a shell", "completion"),
}
"""For each command what it does and the module of this folder that does it, by a function `main(arguments)`."""

COMPLETE = "__complete"
"""The command that completion scripts call; nobody types it."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `amf` and `python -m amf_lightning`. Every way to end leads through here: see `Program.ending`."""
    arguments = list(sys.argv[1:] if args is None else args)
    end_with_parent()
    if "" not in sys.path:
        sys.path.insert(0, "")  # so that a class of the user's own in this folder can be named
    program = Program(arguments)
    PROGRAM.set(program)
    with program.signals.heeded():
        try:
            code = _run(arguments)
            flush()  # what cannot be written is told here, not when Python ends
        except BaseException as error:
            code = program.end(error)
            program.signals.end_children()
        if args is None:  # this process ends now, and nothing that is asked of it can change how
            program.signals.ignore()
    if code:
        raise SystemExit(code)


def _run(arguments: list[str]) -> int | None:
    """Runs the command; its exit code, None for 0."""
    name = arguments[0] if arguments else ""
    if name in ("--help", "-h"):
        print(usage())
        return None
    if name == "--version":
        from amf_lightning import __version__

        print(f"amf {__version__}")
        return None
    module = "completion" if name == COMPLETE else _module(name)
    # Lightning's parser takes the name of its subcommand as the first argument, and completion looks which it is.
    takes_name = module == "lightning_cli" or name == COMPLETE
    with _no_collection():
        command = import_module(f"amf_lightning.command_line.{module}")
    code: int | None = command.main(arguments if takes_name else arguments[1:])
    return code


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector still during the imports, and from ever searching what they made.

    Nearly all of it stays. Each full collection, of which a run makes several, would take a quarter of a second.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
        gc.freeze()


def _module(name: str) -> str:
    if name in COMMANDS:
        return COMMANDS[name][1]
    offered = ", ".join(COMMANDS)
    if not name:
        raise InputError(f"Name a command, one of {offered}. For help: amf --help")
    if name.startswith("-"):
        raise InputError(f"There is no option {name} here. Options come after the subcommand: amf fit --config FILE.")
    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"Did you mean '{near[0]}' instead of '{name}'?" if near else f"Give one of {offered}."
    raise InputError(f"There is no '{name}'. {hint}")


def usage() -> str:
    """What `amf --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{does}" for name, (does, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: amf COMMAND [OPTIONS]",
            "",
            "Active fine-tuning of multi-task policies: which task should be demonstrated next?",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            f"  {'--help':<{width}}show this",
            f"  {'--version':<{width}}show the version",
            "",
            "Of one command: amf COMMAND --help. A run to begin with: amf fit --config configs/halfcheetah.yaml",
        ]
    )
