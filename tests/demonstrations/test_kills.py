"""Real kills, by SIGKILL: whatever was acknowledged is there afterwards, and nothing is there in part."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.request import Request
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


def jobs_of(round: int, first: int, count: int = 2, scores: tuple[float, ...] = (0.1, 0.2)) -> list[Request]:
    return [Request(first + i, round, f"v={i}", i, "Uniform", scores, seed=1000 + first + i) for i in range(count)]


def trajectory(seed: int) -> Trajectory:
    rng = np.random.default_rng(seed)
    return Trajectory(
        observations={"state": rng.normal(size=(6, 4)).astype(np.float32)},
        actions=rng.uniform(-1, 1, size=(5, 2)).astype(np.float32),
        rewards=rng.normal(size=5),
        task="v=0",
        seed=seed,
        success=True,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "ledger.sqlite"


@pytest.fixture
def store(tmp_path: Path) -> DemonstrationStore:
    return DemonstrationStore(tmp_path / "run" / "demonstrations")


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


def kill_self(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("point", ["fsync", "replace"])
def test_a_process_killed_while_writing_leaves_the_old_file_or_none(
    store: DemonstrationStore, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(0, trajectory(0))
    with monkeypatch.context() as patch:
        patch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[point], kill_self)
        killed(lambda: store.write(0, trajectory(1)))
        killed(lambda: store.write(1, trajectory(1)))
    assert store.read(0).seed == 0
    with pytest.raises(InputError, match="cannot be read"):
        store.read(1)
    assert any(path.name.startswith(".") for path in store.folder.iterdir())  # what the killed processes left
    assert store.read(1, store.write(1, trajectory(2))).seed == 2
    assert store.read(0, store.write(0, trajectory(3))).seed == 3


class KillsDuringTransaction(dict[str, float]):
    """Diagnostics that kill the process when they are read: by then the jobs are in the open transaction."""

    def items(self) -> Iterator[tuple[str, float]]:  # type: ignore[override]
        yield "first", 1.0
        kill_self()


@pytest.mark.parametrize("count", [2, 20_000], ids=["in memory", "spilled to the file"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_process_killed_inside_open_round_leaves_no_trace_of_the_round(
    path: Path, count: int, read_only: bool
) -> None:
    with_first = Ledger(path)
    with_first.ask(jobs_of(0, 0), {})
    with_first.close()
    killed(lambda: Ledger(path).ask(jobs_of(1, 2, count, tuple(np.arange(20.0))), KillsDuringTransaction()))
    if count > 2:
        assert path.with_name("ledger.sqlite-journal").stat().st_size > 0  # otherwise nothing is tested here

    again = Ledger(path, read_only=read_only)
    assert again.jobs() == jobs_of(0, 0)
    assert (again.round(1), again.diagnostics(1)) == (None, {})
    again.close()

    writer = Ledger(path)
    writer.ask(jobs_of(1, 2), {"first": 2.0})
    assert writer.round(1) == jobs_of(1, 2)
    assert writer.diagnostics(1) == {"first": 2.0}


def test_a_process_killed_while_the_ledger_is_created_leaves_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill_self)
        killed(lambda: Ledger(path).set_fact("a", "b"))
    ledger = Ledger(path)
    assert ledger.fact("a") is None
    ledger.set_fact("a", "c")
    assert ledger.fact("a") == "c"


def test_a_process_killed_between_the_file_and_its_record_repeats_it(path: Path, store: DemonstrationStore) -> None:
    def work() -> None:
        Ledger(path).ask(jobs_of(0, 0), {})
        store.write(0, trajectory(0))
        kill_self()

    killed(work)
    ledger = Ledger(path)
    assert ledger.round(0) == jobs_of(0, 0)
    assert ledger.recorded() == {}
    ledger.record(0, store.write(0, trajectory(0)))
    assert store.read(0, ledger.recorded()[0]).task == "v=0"


def _work_until_killed(path: Path, acknowledge: int) -> None:
    """Opens rounds of five and records them, writing a byte to a pipe after each call that returned."""
    ledger = Ledger(path)
    while True:
        done = len(ledger.jobs()) // 5
        ledger.ask(jobs_of(done, 5 * done, count=5), {"round": float(done)})
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
        acknowledged = b"".join(os.read(reading, 1) for _ in range(rng.randint(0, 12)))
        time.sleep(rng.uniform(0.0, 0.02))  # somewhere inside the next call or a later one
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged += b"".join(iter(lambda pipe=reading: os.read(pipe, 65536), b""))  # type: ignore[misc]
        os.close(reading)
        opened, recorded = opened + acknowledged.count(b"o"), recorded + acknowledged.count(b"r")
        ledger = Ledger(path)
        _check_whole(ledger, opened, recorded)
        opened, recorded = _complete(ledger)
        ledger.close()
    assert recorded > 12


def _complete(ledger: Ledger) -> tuple[int, int]:
    """Records what the killed process left out, as a resumed run does."""
    jobs = ledger.jobs()
    for job in jobs:
        ledger.record(job.demonstration, f"hash {job.demonstration}")
    return len(jobs) // 5, len(jobs)
