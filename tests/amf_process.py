"""`amf` as people meet it: a process with arguments, a folder that it works in, an exit code and two streams."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from tiny_runs import PROCESSES
from undrawn import draw

from amf_lightning.command_line.main import main
from amf_lightning.configuration import merge

TESTS = Path(__file__).resolve().parent

STREAMS = ("out", "err")

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
        code = _forked([[*map(str, arguments)]], cwd, Path(folder), drawn, timeout)
        return Outcome(code, *(Path(folder, f"0.{stream}").read_text() for stream in STREAMS))


def printed(commands: Sequence[Sequence[str]], cwd: Path) -> list[str]:
    """What commands of `amf` print that are run one after the other in one such process, and all end well."""
    with tempfile.TemporaryDirectory() as folder:
        code = _forked([[*command] for command in commands], cwd, Path(folder), drawn=False, timeout=280)
        assert code == 0, "".join(path.read_text() for path in Path(folder).glob("*.err"))
        return [Path(folder, f"{number}.out").read_text() for number in range(len(commands))]


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


def _forked(commands: list[list[str]], cwd: Path, folder: Path, drawn: bool, timeout: float) -> int:
    process = PROCESSES.Process(target=_amf, args=(commands, cwd, folder, drawn), daemon=True)
    process.start()
    process.join(timeout)
    assert process.exitcode is not None, f"amf {commands} hangs"
    return process.exitcode


def _amf(commands: list[list[str]], cwd: Path, folder: Path, drawn: bool) -> None:
    if drawn:
        draw()
    os.chdir(cwd)
    torch.set_num_threads(1)
    for number, arguments in enumerate(commands):
        for descriptor, stream in enumerate(STREAMS, start=1):
            os.dup2(os.open(folder / f"{number}.{stream}", os.O_WRONLY | os.O_CREAT), descriptor)
        main(arguments)
