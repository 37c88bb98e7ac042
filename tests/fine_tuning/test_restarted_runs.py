"""The identical command again: on a finished run, on one whose budget was raised, on one whose files were harmed."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import kill_points
import pytest
from amf_process import tree
from tiny_runs import Run, assert_same_outcome

from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.selection.context import Selection, SelectionContext
from amf_lightning.selection.informed import InformedSelector


def files(run: Run) -> dict[str, bytes]:
    """Every file of a run folder."""
    paths = [path for path in run.path.rglob("*") if path.is_file()]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths}


def with_budget(budget: int, batch_size: int = 2) -> dict[str, dict[str, int]]:
    return {"active": {"budget": budget, "batch_size": batch_size}}


@pytest.fixture
def finished(make_run: Callable[..., Run]) -> Run:
    """A finished run that a test may change."""
    run: Run = make_run().complete()
    return run


@pytest.fixture
def half_way(make_run: Callable[..., Run]) -> Run:
    """A run that was killed in the middle of round 1, all four of whose demonstrations are recorded."""
    run = make_run()
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    return run


def test_a_finished_run_started_again_changes_nothing(finished: Run) -> None:
    before = files(finished)
    after = files(finished.complete())
    assert [name for name in before | after if before.get(name) != after.get(name)] == []


@pytest.mark.parametrize(("budget", "batch_size"), [(4, 2), (5, 2)])
def test_a_finished_run_goes_on_when_its_budget_is_raised(
    make_run: Callable[..., Run], budget: int, batch_size: int
) -> None:
    small = make_run("run", with_budget(budget, batch_size)).complete()
    before = small.folder.read_selections()
    raised = make_run("run", with_budget(6, batch_size)).complete()
    jobs = raised.folder.read_selections()
    assert len(jobs) == 6
    assert jobs[:budget] == before
    assert raised.folder.finished(6)
    if budget % batch_size == 0:  # otherwise the last round of the small budget was cut short
        assert_same_outcome(raised, make_run("at-once", with_budget(6, batch_size)).complete())


def test_a_budget_below_what_was_collected_is_refused(finished: Run, make_run: Callable[..., Run]) -> None:
    before = tree(finished.path)
    lowered = make_run(finished.path.name, with_budget(4))
    assert lowered.finish() == 2
    assert "holds 5 demonstrations" in lowered.log.read_text()
    assert tree(finished.path) == before


def never_choose() -> None:
    def refuse(*_: object) -> Selection:
        raise AssertionError("a round that is in the ledger was chosen again")

    InformedSelector.select = refuse  # type: ignore[method-assign,assignment]


def test_a_round_in_the_ledger_is_completed_and_never_chosen_again(finished: Run, uninterrupted: Run) -> None:
    shutil.rmtree(finished.folder.checkpoint.parent)
    for path in (finished.folder.policy, finished.folder.selections, finished.folder.curve):
        path.unlink()
    assert_same_outcome(finished.complete(never_choose), uninterrupted)


def test_an_open_round_is_completed_with_the_same_picks(make_run: Callable[..., Run], uninterrupted: Run) -> None:
    run = make_run()
    assert run.finish(kill_points.with_an_episode_half_collected, 2) == -signal.SIGKILL
    assert_same_outcome(run.complete(never_choose), uninterrupted)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_another(path: Path) -> None:
    shutil.copyfile(path.with_name("000002.safetensors"), path)


@pytest.mark.parametrize(
    ("harm", "demonstration"),
    [(flip_a_bit, 0), (truncate, 0), (replace_by_another, 0), (flip_a_bit, 3), (truncate, 3), (Path.unlink, 3)],
)
def test_a_harmed_demonstration_is_refused_by_name(
    half_way: Run, harm: Callable[[Path], None], demonstration: int
) -> None:
    path = DemonstrationStore(half_way.folder.demonstrations).path(demonstration)
    harm(path)
    assert_refused(half_way, path)


def test_a_checkpoint_with_one_bit_flipped_is_refused_and_the_run_comes_out_the_same_without_it(
    half_way: Run, uninterrupted: Run
) -> None:
    path = half_way.folder.checkpoint
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_refused(half_way, path)
    assert "remove it: the same command then trains again" in half_way.log.read_text()
    path.unlink()
    assert_same_outcome(half_way.complete(never_choose_again), uninterrupted)


def never_choose_again() -> None:
    """Refuses to choose for the rounds that are in the ledger of `half_way`."""
    select = InformedSelector.select

    def later(self: InformedSelector, context: SelectionContext, batch_size: int) -> Selection:
        assert len(context.demonstrations) >= 4
        return select(self, context, batch_size)

    InformedSelector.select = later  # type: ignore[method-assign]


def test_the_checkpoint_of_another_run_is_refused(half_way: Run, make_run: Callable[..., Run]) -> None:
    other = make_run("other", {"seed_everything": 1})
    assert other.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    shutil.copyfile(other.folder.checkpoint, half_way.folder.checkpoint)
    before = tree(half_way.path)
    assert half_way.finish() == 2
    assert "trained on other demonstrations" in half_way.log.read_text()
    assert tree(half_way.path) == before


def test_results_are_there_until_those_of_a_larger_budget_are(make_run: Callable[..., Run]) -> None:
    small = make_run("run", with_budget(4)).complete()
    results = {path: path.read_bytes() for path in (small.folder.policy, small.folder.report)}
    raised = make_run("run", with_budget(6))
    assert raised.finish(kill_points.in_mid_epoch, 2) == -signal.SIGKILL
    assert {path: path.read_bytes() for path in results} == results
    assert not raised.folder.finished(6) and not raised.folder.finished(4)
    left = raised.path / f".report.md.{os.getppid()}0.{os.uname().nodename}.0123abcd.partial"
    left.write_text("half")
    raised.complete()
    assert raised.folder.finished(6) and not left.exists()
    assert all(path.read_bytes() != before for path, before in results.items())


def scramble(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [truncate, scramble])
def test_a_harmed_checkpoint_is_refused_by_name(half_way: Run, harm: Callable[[Path], None]) -> None:
    harm(half_way.folder.checkpoint)
    assert_refused(half_way, half_way.folder.checkpoint)


def test_a_harmed_ledger_is_refused_by_name(half_way: Run) -> None:
    truncate(half_way.folder.ledger)
    assert_refused(half_way, half_way.folder.ledger)


def assert_refused(run: Run, path: Path) -> None:
    """Exit code 2, a message that names the file, no traceback, and nothing in the folder has changed."""
    run.log.write_text("")
    before = tree(run.path)
    assert run.finish() == 2
    printed = run.log.read_text()
    assert str(path) in printed
    assert "Traceback" not in printed
    assert tree(run.path) == before, "TensorBoard's files included"
