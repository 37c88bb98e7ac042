"""Ledgers of earlier versions: of 0.1, in the second of its rounds, with one demonstration of two recorded; and of
version 3, whose predictions were facts.
"""

import shutil
import sqlite3
from pathlib import Path

import pytest

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import Prediction, Realised, predictions_of, realised_of
from amf_lightning.campaign.request import Request

LEDGERS = Path(__file__).parent / "ledgers"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(LEDGERS / "version-1.sqlite", tmp_path / "ledger.sqlite"))


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        [(number,)] = connection.execute("PRAGMA user_version")
    connection.close()
    return int(number)


def contents(ledger: Ledger) -> str:
    parts = (ledger.jobs(), ledger.recorded(), ledger.arrivals(), ledger.skipped(), ledger.pending())
    return repr((*parts, ledger.open_round(), ledger.diagnostics(1), ledger.fact("pretrained")))


def test_a_reader_sees_all_of_it_and_leaves_it_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    ledger = Ledger(path, read_only=True)
    assert [(request.demonstration, request.round, request.task) for request in ledger.jobs()] == [
        (0, 0, "goal=-1"), (1, 0, "goal=-0.5"), (2, 1, "goal=-1"), (3, 1, "goal=1"),
    ]  # fmt: skip
    assert ledger.arrivals() == {0: 0, 1: 0, 3: 1}
    assert [request.demonstration for request in ledger.pending()] == [2]
    assert (ledger.open_round(), ledger.skipped(), ledger.fact("pretrained")) == (1, {}, "abc")
    ledger.close()
    assert path.read_bytes() == before


def test_the_first_write_brings_it_to_the_present_version_and_it_goes_on(path: Path) -> None:
    reader, writer = Ledger(path, read_only=True), Ledger(path)
    before = contents(reader)
    writer.set_fact("other", "fact")
    assert version(path) == 4
    assert contents(writer) == before
    assert contents(reader) == before
    writer.record(2, "c" * 64)
    writer.close_round(1)
    assert writer.ask([Request(4, 2, "goal=1", 3, "Uniform", (), 7)], {})
    writer.skip(4, "no time")
    assert (reader.open_round(), list(reader.skipped())) == (2, [4])


def test_a_write_that_fails_leaves_version_1(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(ValueError, match="no round has asked"):
        ledger.record(99, "ab")
    ledger.close()
    assert version(path) == 1


def test_a_round_that_version_1_had_recorded_whole_is_closed(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO recorded VALUES (2, ?)", ("c" * 64,))
    connection.close()
    ledger = Ledger(path)
    assert ledger.open_round() == 2
    ledger.set_fact("a", "b")
    assert ledger.open_round() == 2


def test_predictions_that_were_facts_become_rows_of_their_own(tmp_path: Path) -> None:
    path = Path(shutil.copy(LEDGERS / "version-3.sqlite", tmp_path / "ledger.sqlite"))
    reader, writer = Ledger(path, read_only=True), Ledger(path)
    before = contents(reader)
    expected = {0: Prediction(0.5, "nats"), 2: Prediction(0.25, "nats")}
    came = {0: Realised(0.5, 0.25), 1: Realised(0.75, 0.125)}
    assert (predictions_of(reader), predictions_of(reader, [1, 2])) == (expected, {2: expected[2]})
    assert realised_of(reader) == came
    writer.skip(2, "no time")
    assert version(path) == 4
    assert (predictions_of(writer), predictions_of(writer, [1, 2])) == (expected, {2: expected[2]})
    assert realised_of(reader) == came
    writer.undo(2)
    assert contents(writer) == before
    reader.close()
    assert contents(reader) == before, "its rows are those that were written"
