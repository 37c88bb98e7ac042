"""What is printed where: bars on terminals, a line a round elsewhere; and only warnings that somebody can act on."""

import os
import pty
import re
import termios
import threading
import warnings
from pathlib import Path

import pytest
import torch
from amf_process import amf, write_config
from forks import PROCESSES
from lightning.pytorch.utilities import rank_zero_warn

from amf_lightning.command_line.main import main
from amf_lightning.command_line.quiet import WARNINGS, be_quiet

ARGUMENTS = ["fit", "--config=tiny.yaml", "--trainer.default_root_dir=run"]


def test_into_a_file_goes_a_line_a_round_and_nothing_else(tmp_path: Path) -> None:
    write_config(tmp_path, trainer={"enable_progress_bar": None})
    outcome = amf(*ARGUMENTS, cwd=tmp_path)
    assert outcome.code == 0, outcome.said
    start, first, second, _, end = outcome.stdout.splitlines()
    assert re.fullmatch(r"start: 0 of 2 demonstrations; mean score [\d.]+, lowest goal=\S+ [\d.]+", start)
    for number, line in enumerate((first, second)):
        pattern = (
            rf"round {number}: asked (goal=\S+); {number + 1} of 2 demonstrations; "
            r"mean score [\d.]+ \([+-][\d.]+\), \1 [\d.]+ to [\d.]+; [\d.]+ s"
        )
        assert re.fullmatch(pattern, line), line
    assert end.startswith("The run is in run;")
    assert outcome.stderr == ""


def test_on_a_terminal_there_is_a_bar_and_no_line(tmp_path: Path) -> None:
    write_config(tmp_path, trainer={"enable_progress_bar": None})
    said = in_terminal(ARGUMENTS, tmp_path)
    assert "Epoch 0:" in said and "Epoch 1:" in said and "Collecting" in said
    assert "round 0:" not in said


def in_terminal(arguments: list[str], cwd: Path) -> str:
    """What `amf` prints on a terminal."""
    mine, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    said: list[bytes] = []
    reader = threading.Thread(target=_read, args=(mine, said))
    reader.start()
    process = PROCESSES.Process(target=_amf, args=(arguments, cwd, os.ttyname(theirs)), daemon=True)
    process.start()
    process.join(120)
    os.close(theirs)
    reader.join(10)
    os.close(mine)
    assert process.exitcode == 0, b"".join(said).decode()
    return b"".join(said).decode()


def _read(descriptor: int, said: list[bytes]) -> None:
    try:
        while part := os.read(descriptor, 4096):
            said.append(part)
    except OSError:  # Linux says so at the end
        return


def _amf(arguments: list[str], cwd: Path, terminal: str) -> None:
    os.chdir(cwd)
    for descriptor in (1, 2):
        os.dup2(os.open(terminal, os.O_RDWR | os.O_NOCTTY), descriptor)
    torch.set_num_threads(1)
    main(arguments)


def test_who_stops_reading_does_not_end_the_run(tmp_path: Path) -> None:
    write_config(tmp_path)
    process = PROCESSES.Process(target=_amf_into_nothing, args=(ARGUMENTS, tmp_path), daemon=True)
    process.start()
    process.join(120)
    assert (tmp_path / "run" / "report.md").is_file()


def _amf_into_nothing(arguments: list[str], cwd: Path) -> None:
    os.chdir(cwd)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    os.close(writer)
    torch.set_num_threads(1)
    main(arguments)


@pytest.mark.parametrize("pattern", WARNINGS)
def test_a_warning_that_helps_nobody_is_not_shown_and_its_neighbours_are(pattern: str) -> None:
    message = pattern.replace(".*", "anything")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        be_quiet()
        rank_zero_warn(message)
        rank_zero_warn("GPU available but not used. You can set it by doing `Trainer(accelerator='gpu')`.")
        warnings.warn("a warning of ours", stacklevel=1)
    assert [str(warning.message).partition(" ")[0] for warning in caught] == ["GPU", "a"]
