"""What `amf status` says of a run, at every moment of its life, and that it changes nothing."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from amf_process import Outcome, amf, tree, write_config

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.ledger_check import rows_hash, table_hashes
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.run_lock import held, sole_writer
from amf_lightning.campaign.status import read_status
from amf_lightning.errors import InputError


def job(number: int, round: int, task: str) -> Request:
    return Request(number, round, task, ["left", "right"].index(task), "Uniform", (0.5, float("nan")), 7)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with two rounds of two, of which the second was answered by half."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_config(
        "suite: {class_path: tiny.TinySuite}\nselector: {class_path: a.b.Uniform}\n"
        "active: {budget: 6}\nseed_everything: 3\n"
    )
    ledger = Ledger(run.ledger)
    ledger.ask([job(0, 0, "left"), job(1, 0, "right")], {})
    for number in (0, 1):
        ledger.record(number, "f" * 64)
    ledger.close_round(0)
    ledger.ask([job(2, 1, "left"), job(3, 1, "left")], {})
    ledger.record(3, "f" * 64)
    ledger.close()
    return run


def test_a_run_that_was_interrupted_has_pending_demonstrations(folder: RunFolder) -> None:
    status = read_status(folder.path)
    assert (status.state, status.suite, status.selector, status.seed) == ("interrupted", "TinySuite", "Uniform", 3)
    total = status.campaign.total
    assert (status.budget, status.rounds, total.asked, total.answered, total.pending) == (6, 2, 4, 3, 1)
    counts = {name: (count.asked, count.answered, count.pending) for name, count in status.campaign.tasks.items()}
    assert counts == {"left": (3, 2, 1), "right": (1, 1, 0)}
    assert status.score is None and status.evaluated_after is None


def test_a_run_whose_folder_is_held_is_running(folder: RunFolder) -> None:
    before = tree(folder.path)
    with sole_writer(folder.path):
        assert held(folder.path)
        assert read_status(folder.path).state == "running"
    assert not held(folder.path)
    assert tree(folder.path) == before


def test_a_writer_in_mid_transaction_is_waited_for_and_not_disturbed(folder: RunFolder) -> None:
    with sole_writer(folder.path):
        writer = sqlite3.connect(folder.ledger, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO recorded (demonstration, sha256) VALUES (2, 'abc')")
        writer.execute("UPDATE facts SET value = ? WHERE key = 'sha256'", (rows_hash(table_hashes(writer)),))
        assert read_status(folder.path).campaign.total.pending == 1, "what is not committed is not there"
        writer.execute("COMMIT")
        writer.close()
    assert read_status(folder.path).campaign.total.pending == 0


def test_a_journal_that_a_killed_writer_left_is_not_rolled_back(folder: RunFolder, tmp_path: Path) -> None:
    writer = sqlite3.connect(folder.ledger, isolation_level=None)
    writer.execute("PRAGMA cache_spill = 1")
    writer.execute("PRAGMA cache_size = 1")
    writer.execute("BEGIN IMMEDIATE")
    writer.executemany("INSERT INTO facts VALUES (?, ?)", ((str(i), "x" * 4000) for i in range(50)))
    journal = Path(f"{folder.ledger}-journal").read_bytes()
    torn = folder.ledger.read_bytes()
    writer.execute("ROLLBACK")
    writer.close()
    folder.ledger.write_bytes(torn)
    Path(f"{folder.ledger}-journal").write_bytes(journal)
    before = tree(folder.path)
    total = read_status(folder.path).campaign.total
    assert (total.asked, total.answered) == (4, 3)
    assert tree(folder.path) == before


def test_a_journal_that_comes_and_goes_is_not_waited_for(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers a campaign by hand does not hold the folder, and may commit while it is looked at."""
    writer = sqlite3.connect(folder.ledger, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO recorded (demonstration, sha256) VALUES (2, 'abc')")
    writer.execute("UPDATE facts SET value = ? WHERE key = 'sha256'", (rows_hash(table_hashes(writer)),))
    assert Path(f"{folder.ledger}-journal").exists()
    copy = shutil.copy

    def committed_meanwhile(path: Path, to: str) -> object:
        if writer.in_transaction:
            writer.execute("COMMIT")
        return copy(path, to)

    monkeypatch.setattr(shutil, "copy", committed_meanwhile)
    assert read_status(folder.path).campaign.total.asked == 4
    writer.close()


def test_a_campaign_that_somebody_drives_by_hand_has_a_status(folder: RunFolder) -> None:
    folder.config.unlink()
    status = read_status(folder.path)
    assert (status.state, status.budget, status.campaign.total.pending) == ("by hand", None, 1)
    table = amf("status", str(folder.path), cwd=folder.path)
    assert table.code == 0 and "by hand" in table.stdout and "?" not in table.stdout and "None" not in table.stdout


def test_a_run_whose_configuration_is_gone_is_not_taken_for_a_campaign_by_hand(folder: RunFolder) -> None:
    with closing(Ledger(folder.ledger)) as ledger:
        ledger.set_fact("pretrained", "0" * 16)  # what only `amf fit` notes
    folder.config.unlink()
    with pytest.raises(InputError, match=r"config\.yaml is missing, and `amf fit` made this run"):
        read_status(folder.path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        read_status(tmp_path)


def status_of(run: str, *options: str, cwd: Path) -> Outcome:
    outcome = amf("status", run, *options, cwd=cwd)
    assert outcome.code == 0, outcome.said
    return outcome


def test_the_command_says_of_a_finished_run_what_its_files_say(tmp_path: Path) -> None:
    write_config(tmp_path)
    assert amf("fit", "--config=tiny.yaml", "--trainer.default_root_dir=run", cwd=tmp_path).code == 0
    before = tree(tmp_path)
    said: dict[str, Any] = json.loads(status_of("run", "--json", cwd=tmp_path).stdout)
    text = status_of("run", cwd=tmp_path).stdout
    assert tree(tmp_path) == before
    rows = [row for row in RunFolder(tmp_path / "run").read_curve() if row.task == "mean"]
    assert (said["state"], said["selector"], said["suite"]) == ("finished", "RoundRobin", "TinySuite")
    assert (said["asked"], said["answered"], said["pending"], said["rounds"]) == (2, 2, 0, 2)
    assert (said["score"], said["evaluated_after"]) == (rows[-1].score, rows[-1].demonstrations)
    assert "finished" in text and all(task in text for task in said["tasks"])
