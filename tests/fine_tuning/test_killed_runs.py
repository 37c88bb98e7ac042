"""Runs that die by SIGKILL, wherever it may be: the identical command again ends as if nothing had happened."""

import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import kill_points
import pytest
from soak.moments import PHASES, READING, End, Moment, count_moments, end_at, write_moments
from tiny_runs import FINE_TUNING, PRETRAINING, TINY, Run, assert_same_outcome, checkpoint

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


@pytest.fixture(scope="module")
def moments(runs_from: Callable[[Path], Callable[..., Run]], tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How many signs of life an uninterrupted run gives in each phase."""
    folder = tmp_path_factory.mktemp("counted")
    runs_from(folder)().complete(write_moments, folder / "moments")
    return count_moments(folder / "moments")


@pytest.mark.slow  # `make soak` kills at such moments, too
@pytest.mark.parametrize("phase", [READING, *PHASES])
def test_a_run_killed_at_a_moment_of_a_phase_ends_as_if_it_had_not_been(
    make_run: Callable[..., Run], uninterrupted: Run, moments: Counter[str], phase: str
) -> None:
    run, moment = make_run(), Moment(phase, random.Random(phase).randrange(moments[phase]))
    assert run.finish(end_at, End(moment, signal.SIGKILL)) == -signal.SIGKILL
    assert_same_outcome(run.complete(), uninterrupted)


@pytest.mark.slow  # so does `make soak`
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    make_run: Callable[..., Run], uninterrupted: Run, moments: Counter[str]
) -> None:
    draw, run = random.Random(100), make_run()
    for phase in draw.sample(sorted(PHASES), 4):
        moment = Moment(phase, draw.randrange(moments[phase] // 2 + 1))
        run.finish(end_at, End(moment, signal.SIGKILL, draw.uniform(0.001, 0.005)))
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
