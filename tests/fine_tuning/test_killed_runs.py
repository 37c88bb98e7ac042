"""Runs that die by SIGKILL, wherever it may be: the identical command again ends as if nothing had happened."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import kill_points
import pytest
from tiny_runs import FINE_TUNING, PRETRAINING, PROCESSES, TINY, Run, assert_same_outcome, checkpoint

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.configuration import merge
from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.checkpoint_io import read_checkpoint

BATCH = 2


def state(run: Run) -> dict[str, int]:
    """Demonstrations of a run that are asked for, that lie on the disk, are recorded, and are in the checkpoint."""
    with closing(Ledger(run.folder.ledger, read_only=True)) as ledger:
        return {
            "asked": len(ledger.jobs()),
            "on the disk": len(list(run.folder.demonstrations.glob("[!.]*"))),
            "recorded": len(ledger.recorded()),
            "trained on": checkpoint(run)["demonstrations"] if run.folder.checkpoint.exists() else 0,
        }


@pytest.mark.parametrize("round", [0, 1])
@pytest.mark.parametrize(
    ("point", "on_disk", "recorded", "last_words"),
    [
        (kill_points.with_an_episode_half_collected, 0, 0, "died after 12 of 24 steps"),
        (kill_points.between_rename_and_ledger, 1, 0, "died before demonstration {first} was recorded"),
        (kill_points.between_ledger_and_training, BATCH, BATCH, "died before the first batch"),
        (kill_points.in_mid_epoch, BATCH, BATCH, "died in training step 6"),
        (kill_points.while_the_checkpoint_is_written, BATCH, BATCH, "died with half a checkpoint"),
    ],
    ids=["half an episode", "file not recorded", "recorded", "mid-epoch", "half a checkpoint"],
)
def test_a_run_killed_at_a_named_point_ends_as_if_it_had_not_been(
    make_run: Callable[..., Run],
    uninterrupted: Run,
    point: Callable[[int], None],
    on_disk: int,
    recorded: int,
    last_words: str,
    round: int,
) -> None:
    run, first = make_run(), BATCH * round
    assert run.finish(point, round) == -signal.SIGKILL
    assert run.log.read_text().rstrip().endswith(last_words.format(first=first))
    assert state(run) == {
        "asked": first + BATCH,
        "on the disk": first + on_disk,
        "recorded": first + recorded,
        "trained on": first,
    }
    torn = list(run.folder.checkpoint.parent.glob(".last.ckpt.*"))
    assert len(torn) == (point is kill_points.while_the_checkpoint_is_written)
    for file in torn:
        with pytest.raises(InputError, match="truncated"):
            read_checkpoint(file)
    assert_same_outcome(run.complete(), uninterrupted)


def tell_through(progress: Connection) -> None:
    descriptor = os.dup(progress.fileno())
    kill_points.report_progress(lambda: os.write(descriptor, b"."))


def kill_after(run: Run, events: int, delay: float) -> int | None:
    """Starts a run, kills it so many signs of life and then so many seconds later, and returns its exit code."""
    reading, writing = PROCESSES.Pipe(duplex=False)
    process = run.start(tell_through, writing)
    writing.close()
    for _ in range(events):
        os.read(reading.fileno(), 1)
    time.sleep(delay)
    process.kill()
    process.join()
    reading.close()
    return process.exitcode


@pytest.fixture(scope="module")
def signs_of_life(runs_from: Callable[[Path], Callable[..., Run]], tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many signs of life an uninterrupted run gives."""
    run = runs_from(tmp_path_factory.mktemp("counted"))()
    reading, writing = PROCESSES.Pipe(duplex=False)
    process = run.start(tell_through, writing)
    writing.close()
    signs = sum(len(part) for part in iter(lambda: os.read(reading.fileno(), 65536), b""))
    process.join()
    assert process.exitcode == 0
    return signs


@pytest.mark.parametrize("tenth", range(10))
def test_a_run_killed_at_a_random_time_ends_as_if_it_had_not_been(
    make_run: Callable[..., Run], uninterrupted: Run, signs_of_life: int, tenth: int
) -> None:
    draw = random.Random(tenth)
    run = make_run()
    # The last signs are left out: the process could end by itself before the signal arrives.
    events = int((signs_of_life - 20) * (tenth + draw.random()) / 10)
    assert kill_after(run, events, draw.uniform(0.0, 0.005)) == -signal.SIGKILL
    assert_same_outcome(run.complete(), uninterrupted)


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    make_run: Callable[..., Run], uninterrupted: Run, signs_of_life: int
) -> None:
    draw, run = random.Random(100), make_run()
    for _ in range(4):
        kill_after(run, draw.randrange(signs_of_life // 2), draw.uniform(0.0, 0.005))
    assert_same_outcome(run.complete(), uninterrupted)


HALFCHEETAH = merge(
    TINY,
    {
        "suite": {"class_path": "HalfCheetahVelocity"},
        "expert": {"class_path": "TrainedExpert"},
        "data": {"steps_per_round": 5, "evaluation_episodes": 1},
        "active": {"budget": 2, "batch_size": 1},
    },
)


def test_a_killed_run_in_mujoco_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    schedule = {"class_path": "FixedSchedule", "init_args": {"tasks": ["v=-1"]}}
    steps = {"data": {"steps_per_round": 5}, "active": {"budget": 1, "batch_size": 1}}
    start = Run(tmp_path / "start", merge(PRETRAINING, {"selector": schedule, **steps}), base=HALFCHEETAH).complete()
    changes = {"model": {"pretrained": str(start.folder.policy)}, "active": HALFCHEETAH["active"]}
    reference = Run(tmp_path / "reference", merge(FINE_TUNING, changes), base=HALFCHEETAH).complete()
    run = Run(tmp_path / "run", merge(FINE_TUNING, changes), base=HALFCHEETAH)
    assert run.finish(kill_points.with_an_episode_half_collected, 1) == -signal.SIGKILL
    assert state(run) == {"asked": 2, "on the disk": 1, "recorded": 1, "trained on": 1}
    assert_same_outcome(run.complete(), reference)
