"""Out of a store into a format and back: the same files, whatever is killed on the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from amf_process import tree
from forks import PROCESSES
from recordings import awkward, exported, imported, store_of

from amf_lightning.demonstrations.exporting import lerobot
from amf_lightning.demonstrations.exporting.destination import FORMATS
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


def files(path: Path) -> dict[str, bytes | None]:
    return tree(path) if path.is_dir() else {"": path.read_bytes()}


@pytest.mark.parametrize("after_last", [False, True], ids=["T", "T+1"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_bit_comes_back(tmp_path: Path, format: str, after_last: bool) -> None:
    store = store_of(tmp_path / "store", awkward(after_last))
    destination = exported(store, tmp_path / "there", format)
    assert imported(destination, tmp_path / "back").written == 4
    assert tree(tmp_path / "back") == tree(store.folder)
    again = exported(store, tmp_path / "again", format)
    assert files(again) == files(destination)


@pytest.mark.parametrize("format", FORMATS)
def test_what_nobody_recorded_stays_unsaid(tmp_path: Path, format: str) -> None:
    bare = [replace(each, rewards=None, seed=None, success=None, metrics={}) for each in awkward(False, 2)]
    store = store_of(tmp_path / "store", bare)
    imported(exported(store, tmp_path / "there", format), tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store.folder)


def test_an_import_is_done_once_and_adds_behind_what_is_there(tmp_path: Path) -> None:
    episodes = awkward(True)
    there = exported(store_of(tmp_path / "a", episodes[:2]), tmp_path / "there", "npz")
    more = exported(store_of(tmp_path / "b", episodes), tmp_path / "more", "npz")
    assert imported(there, tmp_path / "store").first == 0
    done = imported(more, tmp_path / "store")
    assert (done.written, done.known, done.first) == (2, 2, 2)
    before = tree(tmp_path / "store")
    assert imported(more, tmp_path / "store").written == 0
    assert tree(tmp_path / "store") == before


def test_a_destination_with_something_else_is_left_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", awkward(True, 2))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        exported(store, tmp_path / "there", "npz")
    assert tree(tmp_path / "there") == {"thesis.txt": b"mine"}


def test_a_store_of_a_run_is_not_imported_into(tmp_path: Path) -> None:
    (tmp_path / "run" / "demonstrations").mkdir(parents=True)
    (tmp_path / "run" / "ledger.sqlite").touch()
    there = exported(store_of(tmp_path / "a", awkward(True, 1)), tmp_path / "there", "npz")
    with pytest.raises(InputError, match="belongs to a run"):
        imported(there, tmp_path / "run" / "demonstrations")


def test_lerobot_files_end_by_size_and_the_next_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lerobot, "FILE_BYTES", 10_000)
    store = store_of(tmp_path / "store", awkward(True))
    there = exported(store, tmp_path / "there", "lerobot")
    assert len(list(there.glob("data/*/*.parquet"))) > 1
    imported(there, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(store.folder)


def _killed(work: Callable[..., object], arguments: tuple[Any, ...], at: int) -> None:
    """Does the work and kills the process at the `at`-th time that it puts something on the disk or renames."""
    moments = count()
    fsync, move = os.fsync, Path.replace

    def moment() -> None:
        if next(moments) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying_fsync(descriptor: int) -> None:
        moment()
        fsync(descriptor)

    def dying_move(self: Path, target: Any) -> Path:
        moment()
        return move(self, target)

    os.fsync = dying_fsync  # type: ignore[assignment]
    Path.replace = dying_move  # type: ignore[method-assign,assignment]
    lerobot.FILE_BYTES = 10_000  # so that there are several files
    work(*arguments)


def _kills(work: Callable[..., object], *arguments: Any, most: int, every: int) -> int:
    """Calls until one lives, each killed a few moments later than the one before; how many were killed."""
    for killed, at in enumerate(range(every - 1, most, every)):
        process = PROCESSES.Process(target=_killed, args=(work, arguments, at))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            return killed
        assert process.exitcode == -signal.SIGKILL
    raise AssertionError("it never got to its end")


EVERY = {"lerobot": 9, "minari": 3, "robomimic": 3, "npz": 7, "pictures": 29}
"""Moments between two kills; the slow test kills at each."""


@pytest.mark.parametrize(
    ("format", "every"),
    [*EVERY.items(), *(pytest.param(each, 1, marks=pytest.mark.slow) for each in FORMATS)],
)
def test_an_export_killed_anywhere_and_called_again_has_the_same_bytes(
    tmp_path: Path, format: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lerobot, "FILE_BYTES", 10_000)
    store = store_of(tmp_path / "store", awkward(True))
    whole = exported(store, tmp_path / "whole", format)
    assert _kills(exported, store, tmp_path / "there", format, most=500, every=every) >= 1
    assert files(tmp_path / "there") == files(whole)
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_an_import_killed_anywhere_and_called_again_has_the_same_bytes(tmp_path: Path, every: int) -> None:
    store = store_of(tmp_path / "store", awkward(True))
    there = exported(store, tmp_path / "there", "lerobot")
    assert _kills(imported, there, tmp_path / "back", most=100, every=every) >= 1
    assert tree(tmp_path / "back") == tree(store.folder)


def test_entries_that_would_have_one_name_elsewhere_are_refused(tmp_path: Path) -> None:
    [first] = awkward(True, 1)
    twice = {"a/b": first.observations["joints"], "a_b": first.observations["joints"]}
    clash = Trajectory(twice, first.actions, None, "reach")
    store = store_of(tmp_path / "store", [clash])
    with pytest.raises(InputError, match="one name in robomimic"):
        exported(store, tmp_path / "there", "robomimic")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert DemonstrationStore(store.folder).read(0).specs == clash.specs


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path: Path, format: str) -> None:
    benchmark = Path(__file__).resolve().parents[2] / "benchmarks" / "formats.py"
    command = [sys.executable, str(benchmark), "--episodes", "50", "1000", "--formats", format]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    few, many = ([int(line.split()[column]) for column in (2, 4)] for line in done.stdout.splitlines()[1:])
    assert all(after - before < 40 for before, after in zip(few, many, strict=True)), done.stdout  # MiB
