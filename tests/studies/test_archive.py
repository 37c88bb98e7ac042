import json
from dataclasses import replace
from pathlib import Path

import pytest
from ready_runs import BUDGET, write_run

from amf_lightning.errors import InputError
from amf_lightning.studies.archive import Record
from amf_lightning.studies.plan import Run


def run(folder: Path, label: str, seed: int = 0, **settings: object) -> Run:
    path = folder / "runs" / label / f"seed-{seed}"
    return Run(label, seed, path, path, BUDGET, (), {"seed_everything": seed, **settings})


def recorded(folder: Path, *runs: Run, strategies: tuple[str, ...] = ("B", "A")) -> Record:
    """A record of finished runs, read back from its files."""
    record = Record(folder, strategies)
    for made in runs:
        write_run(made.folder, made.label, made.seed)
        made.begin()
        made.note_making(seconds=1.5, version="1+gabc")
        record.add(made)
    record.write()
    return Record(folder, strategies)


def files(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("curves.csv", "runs.jsonl")]


def test_the_files_say_all_that_the_run_folders_say_in_whatever_order_runs_finish(tmp_path: Path) -> None:
    runs = [run(tmp_path, label, seed, rho=0.1) for label in ("A", "B") for seed in (10, 9)]
    record = recorded(tmp_path, *runs)
    assert [(entry.curve.strategy, entry.curve.seed) for entry in record.entries] == [
        ("B", 9),
        ("B", 10),
        ("A", 9),
        ("A", 10),
    ]
    in_memory = Record(tmp_path / "nowhere", ("B", "A"))
    for made in runs:
        in_memory.add(made)
    assert record.entries == in_memory.entries
    assert record.of(runs[:1]) == record.entries[3:]
    assert record.entries[0].facts and record.entries[0].facts.seconds == 1.5
    before = files(tmp_path)
    recorded(tmp_path, *reversed(runs))
    assert files(tmp_path) == before


def test_rows_of_strategies_that_are_not_compared_any_more_stay_and_nothing_is_said_of_them(tmp_path: Path) -> None:
    a, b = run(tmp_path, "A"), run(tmp_path, "B")
    recorded(tmp_path, a, b)
    lines = files(tmp_path)[1].splitlines()
    record = Record(tmp_path, ["A"])
    assert [entry.curve.strategy for entry in record.entries] == ["A"]
    record.write()
    assert files(tmp_path)[1].splitlines() == lines[::-1]
    assert Record(tmp_path, ["B", "A"]).has(b)


def test_a_run_is_there_if_it_was_evaluated_after_its_whole_budget(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    record = recorded(tmp_path, made)
    longer = replace(made, budget=BUDGET + 1)
    assert record.has(made) and not record.has(longer) and not record.has(run(tmp_path, "A", 1))
    assert record.conflict(longer) is None, "a larger budget goes on with the same run"


def test_rows_of_other_settings_are_told_with_the_key_and_both_values(tmp_path: Path) -> None:
    record = recorded(tmp_path, run(tmp_path, "A", rho=0.1))
    assert record.conflict(run(tmp_path, "A", rho=0.1)) is None
    other = run(tmp_path, "A", rho=0.2)
    assert "A seed 0 made with rho = 0.1, now it is 0.2" in (record.conflict(other) or "")
    record.drop(other)
    assert record.entries == [] and record.conflict(other) is None
    with pytest.raises(InputError, match=r"rho = 0\.1, now it is 0\.2"):
        record.add(other)


def test_rows_without_a_line_of_their_own_are_believed_only_if_the_run_folder_says_the_same(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    recorded(tmp_path, made)
    (tmp_path / "runs.jsonl").unlink()
    record = Record(tmp_path, ["A"])
    assert not record.has(made) and record.conflict(made) is None
    write_run(made.folder, "A", 3)  # other numbers
    assert "has rows of A seed 0" in (record.conflict(made) or "")
    made.folder.rename(tmp_path / "gone")
    assert "has rows of A seed 0" in (record.conflict(made) or "")


def test_rows_that_were_lost_or_doubled_in_a_merge_are_noticed(tmp_path: Path) -> None:
    made = run(tmp_path, "A")
    recorded(tmp_path, made)
    made.folder.rename(tmp_path / "gone")
    whole = (tmp_path / "curves.csv").read_text()
    for damaged in (whole.rpartition("\n")[0].rpartition("\n")[0] + "\n", whole + whole.partition("\n")[2]):
        (tmp_path / "curves.csv").write_text(damaged)
        record = Record(tmp_path, ["A"])
        assert not record.has(made) and record.conflict(made)


def test_a_line_that_is_no_run_or_a_run_twice_is_refused_by_name(tmp_path: Path) -> None:
    recorded(tmp_path, run(tmp_path, "A"))
    path = tmp_path / "runs.jsonl"
    line = path.read_text()
    path.write_text(line + line)
    with pytest.raises(InputError, match=r"runs\.jsonl, line 2 has A seed 0 again"):
        Record(tmp_path, ["A"])
    without = {key: value for key, value in json.loads(line).items() if key != "settings"}
    for damaged in ("<<<<<<< ours", json.dumps(without), "3"):
        path.write_text(f"{line}{damaged}\n")
        with pytest.raises(InputError, match=r"runs\.jsonl, line 2 is not a run"):
            Record(tmp_path, ["A"])
