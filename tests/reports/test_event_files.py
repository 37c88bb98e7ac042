from pathlib import Path

import numpy as np
import pytest
from event_reader import Events
from torch.utils.tensorboard import SummaryWriter

from amf_lightning.reports.animation import _gif
from amf_lightning.reports.board import Board
from amf_lightning.reports.event_files import Position, drop_events, has_event
from amf_lightning.reports.run_logger import RunLogger


def write(folder: Path, *points: tuple[str, int]) -> Path:
    """An event file with a point of the value 1 for each tag and step."""
    writer = SummaryWriter(str(folder))
    for tag, step in points:
        writer.add_scalar(tag, 1.0, step)
    writer.close()
    (path,) = folder.glob("events.out.tfevents.*")
    return path


POINTS = [("loss/replay", 3), ("loss/replay", 7), ("mine/own", 9), ("by_demonstrations/score/a", 2)]


@pytest.mark.parametrize(
    ("tag", "last"),
    [
        ("loss/demonstrations", 99),
        ("by_round/score/mean", 2),
        ("by_demonstrations/score/a", 6),
        ("all_tasks/score", 6),
        ("selection/count/a", 6),
        ("selection/score/a", 5),
        ("selection/choice/text_summary", 5),
        ("final/score", 6),
        ("report/curve", 6),
    ],
)
def test_each_group_is_kept_up_to_the_checkpoint_on_its_own_axis(tag: str, last: int) -> None:
    position = Position(rounds=2, demonstrations=6, steps=100)
    assert position.has(tag, last) and not position.has(tag, last + 1)
    assert not Position(rounds=0, demonstrations=0, steps=0).has(tag, 0), "a run without a checkpoint begins anew"


def test_a_callback_of_the_users_own_keeps_its_points() -> None:
    assert Position(0, 0, 0).has("mine/own", 9)


def test_points_are_dropped_and_the_others_stay(tmp_path: Path) -> None:
    path = write(tmp_path, *POINTS)
    drop_events(tmp_path, Position(rounds=1, demonstrations=2, steps=4).has)
    assert list(tmp_path.iterdir()) == [path]
    events = Events(tmp_path)
    assert {tag: events.points(tag) for tag in events.tags()} == {
        "loss/replay": [(3, 1.0)],
        "mine/own": [(9, 1.0)],
        "by_demonstrations/score/a": [(2, 1.0)],
    }
    assert has_event(tmp_path, "loss/replay", 3) and not has_event(tmp_path, "loss/replay", 7)


def test_a_file_with_nothing_to_drop_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, *POINTS)
    inode = path.stat().st_ino
    drop_events(tmp_path, lambda tag, step: True)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("cut", [1, 5, 17])
def test_half_a_record_at_the_end_costs_nothing_else(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, *POINTS)
    path.write_bytes(path.read_bytes()[:-cut])
    drop_events(tmp_path, lambda tag, step: step != 3)
    events = Events(tmp_path)
    assert {tag: events.points(tag) for tag in events.tags()} == {"loss/replay": [(7, 1.0)], "mine/own": [(9, 1.0)]}


def test_a_damaged_file_is_neither_fatal_nor_emptied(tmp_path: Path) -> None:
    path = write(tmp_path, *POINTS)
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF
    path.write_bytes(content)
    drop_events(tmp_path, lambda tag, step: True)
    assert path.read_bytes() == content


def test_there_is_no_file_before_there_is_something_to_log(tmp_path: Path) -> None:
    logger = RunLogger(str(tmp_path / "run"))
    logger.log_hyperparams({"lr": 1.0})
    assert logger.experiment is logger.experiment
    logger.save()
    logger.finalize("failed")
    assert not list(tmp_path.rglob("*events*")) and not list(tmp_path.rglob("hparams.yaml"))
    Board([logger], [logger]).numbers("final", {"score": 0.5}, 3)
    logger.save()
    assert Events(tmp_path / "run").scalars("final/score") == {3: 0.5}


def test_a_moving_picture_moves(tmp_path: Path) -> None:
    gif = _gif([np.full((8, 12, 3), 50 * i, dtype=np.uint8) for i in range(4)], 16, 100)
    logger = RunLogger(str(tmp_path))
    Board([logger], [logger]).picture("report/animation", gif, 5)
    logger.save()
    assert Events(tmp_path).pictures() == {"report/animation": {5: gif}}
