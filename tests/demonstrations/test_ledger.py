import dataclasses
import math
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.demonstrations.ledger import Job, Ledger
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


def jobs_of(round: int, first: int, count: int = 2, scores: tuple[float, ...] = (0.1, 0.2)) -> list[Job]:
    return [Job(first + i, round, f"v={i}", i, "Uniform", scores, seed=1000 + first + i) for i in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run 1%20" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def killed(work: Callable[[], object]) -> None:
    """Runs `work` in a forked process that must die by SIGKILL (which `work` itself sends)."""
    if (child := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_before_the_first_write_there_is_no_file_and_nothing_in_it(ledger: Ledger, path: Path) -> None:
    assert (ledger.round(0), ledger.jobs(), ledger.recorded()) == (None, [], {})
    assert (ledger.diagnostics(0), ledger.fact("suite")) == ({}, None)
    assert not path.exists()


def test_what_was_opened_and_recorded_is_read_back_by_another_process(ledger: Ledger, path: Path) -> None:
    first, second = jobs_of(0, 0), jobs_of(1, 2, count=1)
    ledger.open_round(first, {"ess/v=2": 1.5, "undefined": math.nan})
    ledger.record(0, "ab")
    ledger.open_round(second, {})
    ledger.set_fact("suite", "old")
    ledger.set_fact("suite", "halfcheetah")
    ledger.close()

    again = Ledger(path)
    assert again.round(0) == first
    assert again.round(1) == second
    assert again.round(2) is None
    assert again.jobs() == first + second
    assert again.jobs(before_round=1) == first
    assert again.jobs(before_round=0) == []
    assert repr(again.diagnostics(0)) == repr({"ess/v=2": 1.5, "undefined": math.nan})
    assert again.recorded() == {0: "ab"}
    assert again.fact("suite") == "halfcheetah"


@settings(deadline=None, max_examples=20)
@given(
    scores=st.lists(st.floats(allow_nan=False), max_size=5), seed=st.integers(0, 2**63 - 1), task=st.text(max_size=8)
)
def test_scores_and_seeds_keep_their_bits(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], seed: int, task: str
) -> None:
    job = Job(0, 0, task, 0, "InformationGain", (*scores, math.nan), seed)
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    ledger.open_round([job], {})
    [read] = ledger.jobs()
    ledger.close()
    assert repr(read) == repr(job)


def test_a_round_is_not_opened_twice(ledger: Ledger, path: Path) -> None:
    ledger.open_round(jobs_of(3, 0), {})
    with pytest.raises(InputError, match=r"Round 3 is open already in .*ledger\.sqlite"):
        ledger.open_round(jobs_of(3, 2), {})
    with pytest.raises(InputError, match="Round 2 is open already"):
        ledger.open_round(jobs_of(2, 2), {})
    with pytest.raises(InputError, match="Round 3 is open already"):
        Ledger(path).open_round(jobs_of(3, 2), {})
    assert ledger.jobs() == jobs_of(3, 0)


@pytest.mark.parametrize(
    "jobs", [[], [*jobs_of(1, 2), *jobs_of(2, 4)], jobs_of(1, 3), jobs_of(1, 1), jobs_of(1, 2)[::-1]],
    ids=["none", "two rounds", "gap", "overlap", "order"],
)  # fmt: skip
def test_rounds_are_whole_and_demonstrations_numbered_without_gaps(ledger: Ledger, jobs: list[Job]) -> None:
    ledger.open_round(jobs_of(0, 0), {})
    with pytest.raises(ValueError, match="round"):
        ledger.open_round(jobs, {})
    assert ledger.jobs() == jobs_of(0, 0)


def test_an_error_inside_a_transaction_undoes_all_of_it(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="not a number"):
        ledger.open_round(jobs_of(0, 0), {"fine": 1.0, "bad": "not a number"})  # type: ignore[dict-item]
    assert (ledger.jobs(), ledger.diagnostics(0)) == ([], {})
    ledger.open_round(jobs_of(0, 0), {"fine": 1.0})
    assert ledger.jobs() == jobs_of(0, 0)


def test_recording_twice_is_once_but_not_with_another_hash(ledger: Ledger) -> None:
    ledger.open_round(jobs_of(0, 0), {})
    ledger.record(1, "ab")
    ledger.record(1, "ab")
    with pytest.raises(InputError, match=r"Demonstration 1 is recorded in .* with SHA-256 ab, not cd"):
        ledger.record(1, "cd")
    with pytest.raises(ValueError, match="no round has asked for demonstration 2"):
        ledger.record(2, "ab")
    assert ledger.recorded() == {1: "ab"}


def test_a_reader_sees_what_a_writer_does_and_cannot_write(ledger: Ledger, path: Path) -> None:
    reader = Ledger(path, read_only=True)
    assert reader.jobs() == []
    ledger.open_round(jobs_of(0, 0), {})
    assert reader.jobs() == jobs_of(0, 0)
    ledger.record(0, "ab")
    assert reader.recorded() == {0: "ab"}
    with pytest.raises(ValueError, match="reading only"):
        reader.record(1, "cd")
    reader.close()
    assert ledger.recorded() == {0: "ab"}


def test_a_truncated_ledger_is_refused_by_name(ledger: Ledger, path: Path) -> None:
    for round in range(20):
        ledger.open_round(jobs_of(round, 10 * round, count=10, scores=tuple(range(50))), {"x": 1.0})
    ledger.close()
    whole = path.read_bytes()
    assert len(whole) > 5 * 4096
    for length in [1, 50, 99, 100, 1000, len(whole) - 1, len(whole) - 100, *range(0, len(whole), 4096)]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"The ledger .*ledger\.sqlite is damaged.*Restore it from a copy"):
            Ledger(path)
    path.write_bytes(whole)
    assert len(Ledger(path).jobs()) == 200


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused_by_name(path: Path, seed: int) -> None:
    path.parent.mkdir()
    path.write_bytes(np.random.default_rng(seed).bytes(5000))
    with pytest.raises(InputError, match=r"The ledger .*ledger\.sqlite is damaged or not a ledger"):
        Ledger(path)


@pytest.mark.parametrize("pragma", ["user_version = 1", "application_id = 1"])
def test_a_database_of_another_program_is_refused_and_left_alone(path: Path, pragma: str) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.executescript(f"PRAGMA {pragma}; CREATE TABLE jobs (id INTEGER); INSERT INTO jobs VALUES (7);")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"ledger\.sqlite is a database of another program. Choose another run folder"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_ledger_of_another_version_is_refused(ledger: Ledger, path: Path) -> None:
    ledger.set_fact("a", "b")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(InputError, match="is a ledger of version 2"):
        Ledger(path)


def test_no_write_ahead_log_and_full_durability(ledger: Ledger, path: Path) -> None:
    ledger.open_round(jobs_of(0, 0), {})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


class KillsDuringTransaction(dict[str, float]):
    """Diagnostics that kill the process when they are read: by then the jobs are in the open transaction."""

    def items(self) -> Iterator[tuple[str, float]]:  # type: ignore[override]
        yield "first", 1.0
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("count", [2, 20_000], ids=["in memory", "spilled to the file"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_process_killed_inside_open_round_leaves_no_trace_of_the_round(
    path: Path, count: int, read_only: bool
) -> None:
    with_first = Ledger(path)
    with_first.open_round(jobs_of(0, 0), {})
    with_first.close()
    killed(lambda: Ledger(path).open_round(jobs_of(1, 2, count, tuple(np.arange(20.0))), KillsDuringTransaction()))
    if count > 2:
        assert path.with_name("ledger.sqlite-journal").stat().st_size > 0  # otherwise nothing is tested here

    again = Ledger(path, read_only=read_only)
    assert again.jobs() == jobs_of(0, 0)
    assert (again.round(1), again.diagnostics(1)) == (None, {})
    again.close()

    writer = Ledger(path)
    writer.open_round(jobs_of(1, 2), {"first": 2.0})
    assert writer.round(1) == jobs_of(1, 2)
    assert writer.diagnostics(1) == {"first": 2.0}


def test_a_process_killed_while_the_ledger_is_created_leaves_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        killed(lambda: Ledger(path).set_fact("a", "b"))
    ledger = Ledger(path)
    assert ledger.fact("a") is None
    ledger.set_fact("a", "c")
    assert ledger.fact("a") == "c"


def test_a_process_killed_between_the_file_and_its_record_repeats_it(path: Path) -> None:
    shown = Trajectory(
        observations=np.ones((3, 2), np.float32),
        actions=np.ones((2, 1), np.float32),
        rewards=np.ones(2),
        task="v=0",
        seed=1000,
        success=True,
    )
    store = DemonstrationStore(path.parent / "demonstrations")

    def work() -> None:
        ledger = Ledger(path)
        ledger.open_round(jobs_of(0, 0), {})
        store.write(0, shown)
        os.kill(os.getpid(), signal.SIGKILL)

    killed(work)
    ledger = Ledger(path)
    assert ledger.round(0) == jobs_of(0, 0)
    assert ledger.recorded() == {}
    ledger.record(0, store.write(0, shown))
    assert store.read(0, ledger.recorded()[0]).task == "v=0"


def _work_until_killed(path: Path, acknowledge: int) -> None:
    """Opens rounds of five and records them, writing a byte to a pipe after each call that returned."""
    ledger = Ledger(path)
    while True:
        done = len(ledger.jobs()) // 5
        ledger.open_round(jobs_of(done, 5 * done, count=5), {"round": float(done)})
        os.write(acknowledge, b"o")
        for demonstration in range(5 * done, 5 * done + 5):
            ledger.record(demonstration, f"hash {demonstration}")
            os.write(acknowledge, b"r")


def _check_whole(ledger: Ledger, opened: int, recorded: int) -> None:
    """Everything acknowledged is there; at most one call more; no round is there in part."""
    jobs = ledger.jobs()
    assert [job.demonstration for job in jobs] == list(range(len(jobs)))
    assert len(jobs) in (5 * opened, 5 * opened + 5)
    for round in range(len(jobs) // 5):
        assert ledger.round(round) == jobs_of(round, 5 * round, count=5)
        assert ledger.diagnostics(round) == {"round": float(round)}
    assert list(ledger.recorded().items())[:recorded] == [(n, f"hash {n}") for n in range(recorded)]
    assert len(ledger.recorded()) in (recorded, recorded + 1)


def test_processes_killed_at_random_times_lose_nothing_acknowledged(path: Path) -> None:
    rng = random.Random(0)
    opened = recorded = 0
    for _ in range(12):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            _work_until_killed(path, writing)
        os.close(writing)
        os.read(reading, 1)  # it has begun: the first round of this process is open
        opened += 1
        time.sleep(rng.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = b"".join(iter(lambda pipe=reading: os.read(pipe, 65536), b""))  # type: ignore[misc]
        os.close(reading)
        opened, recorded = opened + acknowledged.count(b"o"), recorded + acknowledged.count(b"r")
        ledger = Ledger(path)
        _check_whole(ledger, opened, recorded)
        opened, recorded = _complete(ledger)
        ledger.close()
    assert opened > 12


def _complete(ledger: Ledger) -> tuple[int, int]:
    """Records what the killed process left out, as a resumed run does."""
    jobs: Sequence[Job] = ledger.jobs()
    for job in jobs:
        ledger.record(job.demonstration, f"hash {job.demonstration}")
    return len(jobs) // 5, len(jobs)


def test_jobs_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        jobs_of(0, 0)[0].seed = 1  # type: ignore[misc]
