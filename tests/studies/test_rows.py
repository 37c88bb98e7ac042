import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.campaign.curve import CurveRow
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.studies.rows import COLUMNS, RunRows, read_rows, read_run, tables, write_rows


def test_a_run_that_stopped_early_keeps_its_last_scores_up_to_the_budget(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    evaluations = [Evaluation(n, (n / 10, 0.0), (0.0, 0.0), (n / 10, 0.0), n / 20) for n in (0, 2, 4)]
    names = ["a", "b"]
    folder.write_curve(evaluations, names)
    folder.write_evaluation(evaluations[-1], names, budget=9)
    assert [row.demonstrations for row in read_run("s", 0, folder)[0].of("a")] == [0, 2, 4]
    folder.write_evaluation(evaluations[-1], names, budget=9, stopped="little was left")
    assert folder.stopped == "little was left"
    rows = read_run("s", 0, folder)[0].of("a")
    assert [(row.demonstrations, row.score) for row in rows] == [(0, 0.0), (2, 0.2), (4, 0.4), (9, 0.4)]


numbers = st.floats(allow_nan=False, allow_infinity=False)
curve_rows = st.builds(CurveRow, st.integers(0, 99), st.text("ab ,\"'\nκ", min_size=1), numbers, numbers, numbers)


@given(st.dictionaries(st.tuples(st.sampled_from(["A", "B, 1"]), st.integers(0, 3)), st.lists(curve_rows, min_size=1)))
@settings(max_examples=30, deadline=None)
def test_rows_are_read_back_with_six_digits_which_do_not_change_any_more(
    tmp_path_factory: pytest.TempPathFactory, of_runs: dict[tuple[str, int], list[CurveRow]]
) -> None:
    folder = tmp_path_factory.mktemp("curves")
    runs = [RunRows(strategy, seed, tuple(of)) for (strategy, seed), of in of_runs.items()]
    write_rows(folder, runs)
    there = read_rows(tables(folder))
    by_name = {(run.strategy, run.seed): run for run in there}
    assert by_name == {(run.strategy, run.seed): run.rounded() for run in runs}
    for run in runs:
        for row, short in zip(run.rows, by_name[run.strategy, run.seed].rows, strict=True):
            assert (short.demonstrations, short.task) == (row.demonstrations, row.task)
            assert (short.episode_return, short.score) == pytest.approx((row.episode_return, row.score), rel=5.1e-6)
    assert [run.rounded() for run in there] == there


def curve(strategy: str, seed: int, score: float = 0.5) -> RunRows:
    return RunRows(strategy, seed, (CurveRow(0, "a", 1.0, 0.0, score), CurveRow(0, "mean", 1.0, 0.0, score)))


def test_a_seed_that_is_added_or_left_out_changes_no_other_table(tmp_path: Path) -> None:
    first, second = [curve("A", 0), curve("B", 0)], [curve("A", 1)]
    write_rows(tmp_path, [*first, *second])
    assert [path.name for path in tables(tmp_path)] == ["seed-0.csv.gz", "seed-1.csv.gz"]
    table = tmp_path / "seed-0.csv.gz"
    before = table.stat().st_mtime_ns, table.read_bytes()
    assert struct.unpack("<I", before[1][4:8]) == (0,), "the bytes do not depend on when they are written"
    write_rows(tmp_path, [*first, *second, curve("A", 2)])
    write_rows(tmp_path, first)
    assert [path.name for path in tables(tmp_path)] == ["seed-0.csv.gz"]
    assert (table.stat().st_mtime_ns, table.read_bytes()) == before


def test_a_table_with_the_same_text_in_other_bytes_is_left_alone(tmp_path: Path) -> None:
    write_rows(tmp_path, [curve("A", 0)])
    (table,) = tables(tmp_path)
    table.write_bytes(gzip.compress(gzip.decompress(table.read_bytes()), compresslevel=1))
    before = table.read_bytes()
    write_rows(tmp_path, [curve("A", 0)])
    assert table.read_bytes() == before
    write_rows(tmp_path, [curve("A", 0, 0.6)])
    assert read_rows([table]) == [curve("A", 0, 0.6)]


def test_a_run_in_two_tables_counts_once_unless_the_rows_differ(tmp_path: Path) -> None:
    for name, score in (("one", 0.5), ("other", 0.5000000001), ("third", 0.6)):
        write_rows(tmp_path / name, [curve("A", 0, score)])
    one, other, third = (tmp_path / name / "seed-0.csv.gz" for name in ("one", "other", "third"))
    assert read_rows([one, other]) == [curve("A", 0)]
    (run,) = read_rows([one, third])
    assert len(run.rows) == 4


@pytest.mark.parametrize("text", ["", "a,b\n", f"{','.join(COLUMNS)}\nA,0,x,t,0,0,0\n"])
@pytest.mark.parametrize("name", ["curves.csv", "seed-0.csv.gz"])
def test_a_file_of_other_rows_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    with pytest.raises(InputError, match=str(path)):
        read_rows([path])


@pytest.mark.parametrize("keep", [0, 10, -4])
def test_a_table_that_is_cut_off_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    write_rows(tmp_path, [curve("A", 0)])
    (table,) = tables(tmp_path)
    table.write_bytes(table.read_bytes()[:keep])
    with pytest.raises(InputError, match=str(table)):
        read_rows([table])
