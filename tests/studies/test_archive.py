import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ready_runs import BUDGET, write_run

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.hashed_json import hashed, unhashed
from amf_lightning.studies.archive import Archive
from amf_lightning.studies.plan import Run
from amf_lightning.studies.rows import COLUMNS, RunRows, tables


def run(folder: Path, label: str, seed: int = 0, **settings: object) -> Run:
    path = folder / "runs" / label / f"seed-{seed}"
    return Run(label, seed, path, path, BUDGET, (), {"seed_everything": seed, **settings})


def recorded(folder: Path, *runs: Run, strategies: tuple[str, ...] = ("B", "A")) -> Archive:
    """A archive of finished runs, read back from its files."""
    archive = Archive(folder, strategies)
    for made in runs:
        write_run(made.folder, made.label, made.seed)
        made.begin()
        made.note_process(seconds=1.5, version="1+gabc")
        archive.add(made)
    archive.write()
    return Archive(folder, strategies)


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in [*tables(folder / "curves"), folder / "runs.jsonl"]]


def test_the_files_say_all_that_the_run_folders_say_in_whatever_order_runs_finish(tmp_path: Path) -> None:
    runs = [run(tmp_path, label, seed, rho=0.1) for label in ("A", "B") for seed in (10, 9)]
    archive = recorded(tmp_path, *runs)
    assert [(entry.curve.strategy, entry.curve.seed) for entry in archive.entries] == [
        ("B", 9),
        ("B", 10),
        ("A", 9),
        ("A", 10),
    ]
    in_memory = Archive(tmp_path / "nowhere", ("B", "A"))
    for made in runs:
        in_memory.add(made)
    assert archive.entries == in_memory.entries
    assert archive.entries_of(runs[:1]) == archive.entries[3:]
    assert archive.entries[0].facts and archive.entries[0].facts.seconds == 1.5
    before = files(tmp_path)
    recorded(tmp_path, *reversed(runs))
    assert files(tmp_path) == before


def test_rows_of_strategies_that_are_not_compared_any_more_stay_and_nothing_is_said_of_them(tmp_path: Path) -> None:
    a, b = run(tmp_path, "A"), run(tmp_path, "B")
    recorded(tmp_path, a, b)
    lines = files(tmp_path)[-1].splitlines()
    archive = Archive(tmp_path, ["A"])
    assert [entry.curve.strategy for entry in archive.entries] == ["A"]
    archive.write()
    assert files(tmp_path)[-1].splitlines() == [lines[0], *lines[:0:-1]]
    assert Archive(tmp_path, ["B", "A"]).has(b)


def test_a_run_is_there_if_it_was_evaluated_after_its_whole_budget(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    archive = recorded(tmp_path, made)
    longer = replace(made, budget=BUDGET + 1)
    assert archive.has(made) and not archive.has(longer) and not archive.has(run(tmp_path, "A", 1))
    assert archive.conflict(longer) is None, "a larger budget goes on with the same run"


def test_rows_of_other_settings_are_told_with_the_key_and_both_values(tmp_path: Path) -> None:
    archive = recorded(tmp_path, run(tmp_path, "A", rho=0.1))
    assert archive.conflict(run(tmp_path, "A", rho=0.1)) is None
    other = run(tmp_path, "A", rho=0.2)
    assert "A seed 0 made with rho = 0.1, now it is 0.2" in (archive.conflict(other) or "")
    archive.drop(other)
    assert archive.entries == [] and archive.conflict(other) is None
    with pytest.raises(InputError, match=r"rho = 0\.1, now it is 0\.2"):
        archive.add(other)


def test_rows_without_a_line_of_their_own_are_believed_only_if_the_run_folder_says_the_same(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    recorded(tmp_path, made)
    (tmp_path / "runs.jsonl").unlink()
    archive = Archive(tmp_path, ["A"])
    assert not archive.has(made) and archive.conflict(made) is None
    write_run(made.folder, "A", 3)  # other numbers
    assert "has rows of A seed 0" in (archive.conflict(made) or "")
    made.folder.rename(tmp_path / "gone")
    assert "has rows of A seed 0" in (archive.conflict(made) or "")


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [unhashed(json.loads(line)) for line in (folder / "runs.jsonl").read_text().splitlines()]


def test_rows_that_were_lost_or_doubled_in_a_merge_are_noticed(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    recorded(tmp_path, made)
    made.folder.rename(tmp_path / "gone")
    (table,) = tables(tmp_path / "curves")
    whole = gzip.decompress(table.read_bytes()).decode()
    for damaged in (whole.rpartition("\n")[0].rpartition("\n")[0] + "\n", whole + whole.partition("\n")[2]):
        table.write_bytes(gzip.compress(damaged.encode()))
        archive = Archive(tmp_path, ["A"])
        assert not archive.has(made) and archive.conflict(made)


def test_a_line_that_is_no_run_or_a_run_twice_is_refused_by_name(tmp_path: Path) -> None:
    recorded(tmp_path, run(tmp_path, "A"))
    path = tmp_path / "runs.jsonl"
    shared, line = path.read_text().splitlines(keepends=True)
    path.write_text(shared + line + shared + line)
    assert len(Archive(tmp_path, ["A"]).entries) == 1, "both sides of a merge had it"
    other = json.dumps(hashed({**unhashed(json.loads(line)), "seconds": 2.5})) + "\n"
    path.write_text(shared + line + other)
    with pytest.raises(InputError, match=r"runs\.jsonl, line 3 has A seed 0 again"):
        Archive(tmp_path, ["A"])
    without = {key: value for key, value in json.loads(line).items() if key != "settings"}
    changed = line.rstrip().replace('"asked": [', '"asked": ["here", ')
    for damaged in ("<<<<<<< ours", json.dumps(without), "3", changed):
        path.write_text(f"{shared}{line}{damaged}\n")
        with pytest.raises(InputError, match=r"runs\.jsonl, line 3 is not a run"):
            Archive(tmp_path, ["A"])


def test_settings_that_all_runs_share_are_written_once_and_are_settings_of_each(tmp_path: Path) -> None:
    runs = [run(tmp_path, "A", seed, rho=0.1, task={"a": [1]}) for seed in (0, 1)]
    archive = recorded(tmp_path, *runs)
    shared, *lines = lines_of(tmp_path)
    assert shared == {"shared_settings": {"rho": 0.1, "task": {"a": [1]}}}
    assert [line["settings"] for line in lines] == [{"seed_everything": 0}, {"seed_everything": 1}]
    assert [entry.settings for entry in archive.entries] == [made.identity for made in runs]
    archive.add(added := finished(run(tmp_path, "B", rho=0.2)))
    archive.write()
    again = Archive(tmp_path, ["B", "A"])
    assert all(again.has(made) and again.conflict(made) is None for made in [added, *runs])


def finished(made: Run) -> Run:
    write_run(made.folder, made.label, made.seed)
    made.begin()
    return made


def test_the_files_of_version_0_1_are_read_and_replaced(tmp_path: Path) -> None:
    made = run(tmp_path, "A", rho=0.1)
    archive = recorded(tmp_path, made)
    before, now = archive.entries, files(tmp_path)
    as_in_0_1(tmp_path, made)
    made.folder.rename(tmp_path / "gone")
    old = Archive(tmp_path, ["B", "A"])
    assert old.entries == before and old.has(made) and old.conflict(made) is None
    old.write()
    assert files(tmp_path) == now and not (tmp_path / "curves.csv").exists()


def test_rows_of_version_0_1_in_full_precision_are_those_of_the_run_folder(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    recorded(tmp_path, made)
    as_in_0_1(tmp_path, made)
    (tmp_path / "runs.jsonl").unlink()
    archive = Archive(tmp_path, ["A"])
    assert not archive.has(made) and archive.conflict(made) is None


def as_in_0_1(folder: Path, made: Run) -> None:
    """Puts a table of all digits and a line with all settings in the place of today's files."""
    for table in tables(folder / "curves"):
        table.unlink()
    curve = RunFolder(made.folder).read_curve()
    rounded = RunRows(made.label, made.seed, tuple(curve)).rounded()
    assert tuple(curve) != rounded.rows, "some number has more digits than are kept"
    with (folder / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in curve:
            numbers = (repr(row.episode_return), repr(row.success), repr(row.score))
            writer.writerow((made.label, made.seed, row.demonstrations, row.task, *numbers))
    _, line = lines_of(folder)
    (folder / "runs.jsonl").write_text(json.dumps(line | {"settings": made.identity}) + "\n")
