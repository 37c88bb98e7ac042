import dataclasses
import math
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.request import Request
from amf_lightning.errors import InputError


def jobs_of(round: int, first: int, count: int = 2, scores: tuple[float, ...] = (0.1, 0.2)) -> list[Request]:
    return [Request(first + i, round, f"v={i}", i, "Uniform", scores, seed=1000 + first + i) for i in range(count)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run 1%20" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


def test_before_the_first_write_there_is_no_file_and_nothing_in_it(ledger: Ledger, path: Path) -> None:
    assert (ledger.round(0), ledger.jobs(), ledger.recorded()) == (None, [], {})
    assert (ledger.diagnostics(0), ledger.fact("suite")) == ({}, None)
    assert not path.exists()


def test_what_was_opened_and_recorded_is_read_back_by_another_process(ledger: Ledger, path: Path) -> None:
    first, second = jobs_of(0, 0), jobs_of(1, 2, count=1)
    ledger.ask(first, {"ess/v=2": 1.5, "undefined": math.nan})
    ledger.record(0, "ab")
    ledger.ask(second, {})
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
    job = Request(0, 0, task, 0, "InformationGain", (*scores, math.nan), seed)
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    ledger.ask([job], {})
    [read] = ledger.jobs()
    ledger.close()
    assert repr(read) == repr(job)


def test_of_two_who_ask_at_the_same_time_the_second_is_told_to_choose_again(ledger: Ledger, path: Path) -> None:
    assert ledger.ask(jobs_of(0, 0), {"environment_steps": 3.0, "variance": 1.0})
    assert not Ledger(path).ask(jobs_of(0, 0, count=1), {"environment_steps": 100.0})
    assert ledger.jobs() == jobs_of(0, 0)
    assert Ledger(path).ask(jobs_of(0, 2, count=1), {"environment_steps": 4.0, "variance": 0.5})
    assert ledger.diagnostics(0) == {"environment_steps": 7.0, "variance": 0.5}


def test_nothing_is_asked_in_a_round_that_is_closed(ledger: Ledger) -> None:
    ledger.ask(jobs_of(0, 0, count=1), {})
    with pytest.raises(InputError, match="no demonstration to train on"):
        ledger.close_round(0)
    ledger.record(0, "ab")
    ledger.close_round(0)
    ledger.close_round(0)
    with pytest.raises(ValueError, match="before round 1"):
        ledger.close_round(2)
    assert not ledger.ask(jobs_of(0, 1), {})
    assert ledger.ask(jobs_of(1, 1), {})
    assert (ledger.open_round(), len(ledger.jobs())) == (1, 3)


@pytest.mark.parametrize(
    "jobs", [[], [*jobs_of(1, 2), *jobs_of(2, 4)], jobs_of(1, 3), jobs_of(1, 2)[::-1]],
    ids=["none", "two rounds", "gap", "order"],
)  # fmt: skip
def test_rounds_are_whole_and_demonstrations_numbered_without_gaps(ledger: Ledger, jobs: list[Request]) -> None:
    ledger.ask(jobs_of(0, 0), {})
    with pytest.raises(ValueError, match="round"):
        ledger.ask(jobs, {})
    assert ledger.jobs() == jobs_of(0, 0)


def test_an_error_inside_a_transaction_undoes_all_of_it(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="not a number"):
        ledger.ask(jobs_of(0, 0), {"fine": 1.0, "bad": "not a number"})  # type: ignore[dict-item]
    assert (ledger.jobs(), ledger.diagnostics(0)) == ([], {})
    ledger.ask(jobs_of(0, 0), {"fine": 1.0})
    assert ledger.jobs() == jobs_of(0, 0)


def test_recording_twice_is_once_but_not_with_another_hash(ledger: Ledger) -> None:
    ledger.ask(jobs_of(0, 0), {})
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
    ledger.ask(jobs_of(0, 0), {})
    assert reader.jobs() == jobs_of(0, 0)
    ledger.record(0, "ab")
    assert reader.recorded() == {0: "ab"}
    with pytest.raises(ValueError, match="reading only"):
        reader.record(1, "cd")
    reader.close()
    assert ledger.recorded() == {0: "ab"}


def test_a_truncated_ledger_is_refused_by_name(ledger: Ledger, path: Path) -> None:
    for round in range(20):
        ledger.ask(jobs_of(round, 10 * round, count=10, scores=tuple(range(50))), {"x": 1.0})
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
        connection.execute("PRAGMA user_version = 5")
    connection.close()
    with pytest.raises(InputError, match="is a ledger of version 5"):
        Ledger(path)


def test_there_is_no_write_ahead_log(ledger: Ledger, path: Path) -> None:
    ledger.ask(jobs_of(0, 0), {})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    connection.close()


def test_jobs_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        jobs_of(0, 0)[0].seed = 1  # type: ignore[misc]


def test_whatever_is_written_and_by_whom_the_rows_are_found_to_be_those_that_were_written(path: Path) -> None:
    """Hashes of tables are kept between writes: each write must be noticed, also one of another process."""
    first, second = Ledger(path), Ledger(path)
    writes: list[Callable[[Ledger], object]] = [
        lambda ledger: ledger.ask(jobs_of(0, 0), {"a": 1.0}, {"b": "c"}, {0: "{}"}),
        lambda ledger: ledger.record(0, "ab"),
        lambda ledger: ledger.skip(1, "no time"),
        lambda ledger: ledger.undo(1),
        lambda ledger: ledger.record(1, "cd"),
        lambda ledger: ledger.set_realised({0: "{}", 1: "{}"}),
        lambda ledger: ledger.close_round(0),
        lambda ledger: ledger.ask(jobs_of(1, 2, count=1), {}, {}, {2: "{}"}),
        lambda ledger: ledger.skip(2, "no time"),
        lambda ledger: ledger.undo(2),
        lambda ledger: ledger.set_fact("b", "d"),
    ]
    for number, write in enumerate(writes):
        write(second if number in (2, 3, 6, 9) else first)
        fresh = Ledger(path, read_only=True)
        assert fresh.fact("b") in ("c", "d")
        fresh.close()
    assert fresh.recorded() == {0: "ab", 1: "cd"}
