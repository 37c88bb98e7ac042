import os
from pathlib import Path

import pytest
from amf_process import tree

from amf_lightning.campaign.clean_start import clean_start
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError, UserCodeError


def fail_in(folder: RunFolder, others: Path | None = None) -> None:
    with pytest.raises(InputError, match="no expert"), clean_start(folder):
        folder.write_config("a: 1\n")
        folder.write_selections([])
        if others is not None:
            others.parent.mkdir(parents=True)
            others.write_text("theirs")
        raise InputError("no expert")


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    fail_in(RunFolder(tmp_path / "runs" / "one"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["thesis/chapter.txt", "demonstrations.old/000000.safetensors", "other/config.yaml"])
def test_what_others_put_there_meanwhile_is_left_alone(tmp_path: Path, name: str) -> None:
    fail_in(RunFolder(tmp_path / "runs"), others=tmp_path / "runs" / name)
    assert (tmp_path / "runs" / name).read_text() == "theirs"
    assert not (tmp_path / "runs" / "config.yaml").exists()


def test_what_was_there_before_is_left_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config("a: 0\n")
    (tmp_path / "notes.txt").write_text("mine")
    fail_in(folder)
    assert folder.config.read_text() == "a: 0\n"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_demonstration_is_never_taken_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError), clean_start(folder):
        folder.write_config("a: 1\n")
        folder.demonstrations.mkdir()
        (folder.demonstrations / "000000.safetensors").write_bytes(b"precious")
        raise InputError("later")
    assert (folder.demonstrations / "000000.safetensors").read_bytes() == b"precious"
    assert folder.config.exists()


def asked(folder: RunFolder) -> None:
    ledger = Ledger(folder.ledger)
    ledger.ask([Request(0, 0, "pick", 0, "Uniform", (1.0,), 7)], {})
    ledger.close()


@pytest.mark.parametrize(
    "error", [InputError("Please record pick"), ValueError("a bug of somebody"), UserCodeError("x")]
)
def test_a_request_is_never_taken_back_however_it_ends(tmp_path: Path, error: Exception) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(type(error)), clean_start(folder):
        folder.write_config("a: 1\n")
        folder.write_selections([])
        asked(folder)
        raise error
    assert [request.task for request in Ledger(folder.ledger).pending()] == ["pick"]
    assert folder.config.read_text() == "a: 1\n" and folder.selections.exists()


def test_a_skip_stays_too(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError), clean_start(folder):
        folder.write_config("a: 1\n")
        asked(folder)
        ledger = Ledger(folder.ledger)
        ledger.skip(0, "the robot is broken")
        ledger.close()
        raise InputError("nothing left")
    assert Ledger(folder.ledger).skipped()[0].reason == "the robot is broken" and folder.config.exists()


def test_what_a_person_typed_keeps_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError), clean_start(folder):
        folder.write_config("a: 1\n")
        (folder.path / "outcomes.jsonl").write_text("{}\n")
        raise InputError("no selector")
    assert folder.config.exists() and (folder.path / "outcomes.jsonl").exists()


def test_a_ledger_without_requests_is_no_trace(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError), clean_start(folder):
        folder.write_config("a: 1\n")
        ledger = Ledger(folder.ledger)
        ledger.set_fact("a", "b")
        ledger.close()
        raise InputError("no selector")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [InputError("refused"), RuntimeError("refused")])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_refused_resume_leaves_no_log_but_one_that_got_anywhere_does(
    tmp_path: Path, error: Exception, goes_on: bool
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config("a: 0\n")
    asked(folder)
    old = tmp_path / f"events.out.tfevents.1.host.{os.getpid()}.0"
    old.write_text("of before")
    (other := tmp_path / "events.out.tfevents.0.host.1.0").write_text("kept, to be logged again")
    before = tree(tmp_path)
    with pytest.raises(type(error)), clean_start(folder):
        folder.write_config("a: 1\n")
        (new := tmp_path / f"events.out.tfevents.2.host.{os.getpid()}.1").write_text("of now")
        other.write_text("kept")
        if goes_on:
            ledger = Ledger(folder.ledger)
            ledger.record(0, "ab")
            ledger.close()
        raise error
    assert new.exists() is goes_on and old.read_text() == "of before" and folder.config.read_text() == "a: 0\n"
    assert other.read_text() == "kept" if goes_on else tree(tmp_path) == before


def test_leftovers_of_the_killed_are_removed_at_the_start(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    places = [folder.path, folder.demonstrations, folder.checkpoint.parent, folder.path / ".unconfirmed"]
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / f".file.{child}.{os.uname().nodename}.0123abcd.partial").write_text("half")
        (place / f".file.{os.getppid()}.{os.uname().nodename}.0123abcd.partial").write_text("half of a living one")
    with clean_start(folder):
        assert [len(list(place.glob(".*.partial"))) for place in places] == [1, 1, 1, 1]
