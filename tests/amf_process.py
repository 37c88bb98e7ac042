"""`amf` as people meet it: a process with arguments, a folder that it works in, an exit code and two streams."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import yaml
from forks import PROCESSES
from undrawn import draw

from amf_lightning.command_line.main import main
from amf_lightning.configuration import merge

TESTS = Path(__file__).resolve().parent

TINY: dict[str, Any] = {
    "suite": "tiny.TinySuite",
    "expert": "tiny.TinyExpert",
    "model": {"policy": {"class_path": "MLPPolicy", "init_args": {"hidden": [8, 8]}}},
    "data": {"batch_size": 8, "steps_per_round": 5, "evaluation_episodes": 2},
    "selector": "RoundRobin",
    "retention": "NoRetention",
    "active": {"budget": 2, "batch_size": 1},
    "reports": {"animation": False},
    "trainer": {
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": False,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
    },
}


@dataclass(frozen=True)
class Outcome:
    """What became of a process."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Both streams, for a failed assertion."""
        return f"exit code {self.code}\n{self.stdout}\n{self.stderr}"


def amf(*arguments: str | Path, cwd: Path, timeout: float = 280, drawn: bool = False) -> Outcome:
    """Runs `amf ARGUMENTS` in the folder `cwd`, in a process forked from one that has only imported everything.

    Args:
        arguments: of `amf`.
        cwd: where it is run.
        timeout: seconds after which it hangs.
        drawn: whether the pictures of a run's report are looked at; else they are only stood in for.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder, "out"), Path(folder, "err")
        process = _forked([[*map(str, arguments)]], cwd, [streams], drawn)
        return Outcome(_code(process, timeout), *(stream.read_text() for stream in streams))


def printed(commands: Sequence[Sequence[str]], cwd: Path) -> list[str]:
    """What commands of `amf` print that are run one after the other in one such process, and all end well."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [(Path(folder, f"out-{number}"), Path(folder, "err")) for number in range(len(commands))]
        process = _forked([[*command] for command in commands], cwd, streams, drawn=False)
        assert _code(process, timeout=280) == 0, Path(folder, "err").read_text()
        return [stream.read_text() for stream, _ in streams]


def started(*arguments: str | Path, cwd: Path, log: Path) -> ForkServerProcess:
    """Such a process that is under way, with both streams in one file."""
    return _forked([[*map(str, arguments)]], cwd, [(log, log)], drawn=False)


def fresh(*arguments: str | Path, cwd: Path) -> Outcome:
    """Runs `python -m amf_lightning ARGUMENTS`; seconds slower than `amf`."""
    done = subprocess.run(
        [sys.executable, "-m", "amf_lightning", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def write_config(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    """Writes `TINY` with changes as a configuration, and returns its path."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(merge(TINY, changes), sort_keys=False))
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: files with their bytes, folders with None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def _forked(
    commands: list[list[str]], cwd: Path, streams: Sequence[tuple[Path, Path]], drawn: bool
) -> ForkServerProcess:
    process = PROCESSES.Process(target=_amf, args=(commands, cwd, streams, drawn), daemon=True)
    process.start()
    return process


def _code(process: ForkServerProcess, timeout: float) -> int:
    process.join(timeout)
    assert process.exitcode is not None, "amf hangs"
    return process.exitcode


def _amf(commands: list[list[str]], cwd: Path, streams: Sequence[tuple[Path, Path]], drawn: bool) -> None:
    if drawn:
        draw()
    os.chdir(cwd)
    torch.set_num_threads(1)
    # A shell starts what it puts into the background with Ctrl-C ignored, and tests may run there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for arguments, files in zip(commands, streams, strict=True):
        for descriptor, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        main(arguments)
