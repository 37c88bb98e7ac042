"""TensorBoard's event files that earlier processes of a run have left: what will come again is taken out of them."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from amf_lightning.durable import write_durably

RESULTS_TAG = "_hparams_/session_end_info"
"""The last thing that a finished run logs."""
_HEADER = struct.Struct("<QI")
"""Before the data of a record: their length, and a checksum of it. Four bytes after them are theirs."""


@dataclass(frozen=True)
class Position:
    """How far a run is, by its last checkpoint: what was logged after it will be logged again."""

    rounds: int
    demonstrations: int
    steps: int
    """Of the optimiser."""

    def has(self, tag: str, step: int) -> bool:
        """Whether a point was logged up to here. Each group of tags has an axis of its own; unknown tags stay."""
        group = tag.partition("/")[0]
        if group == "_hparams_" or tag.startswith("selection/uses"):  # every process says them anew
            return False
        if group in ("loss", "epoch"):
            return step < self.steps
        if group == "by_round":
            return self.rounds > 0 and step <= self.rounds
        if group == "selection" and not tag.startswith("selection/count/"):  # what the next demonstration was chosen by
            return step < self.demonstrations
        if group in ("all_tasks", "by_demonstrations", "final", "report", "selection"):
            return self.demonstrations > 0 and step <= self.demonstrations
        return True


class _Record(NamedTuple):
    """A record of an event file."""

    content: bytes
    """As it stands in the file."""
    step: int
    tags: tuple[str, ...]
    """Those of its values; the first record of a file has none."""


def drop_events(folder: Path, keeps: Callable[[str, int], bool]) -> None:
    """Rewrites, one by one, the event files of a folder that hold a point which is not to be kept.

    A point that a process logged between its last checkpoint and its death is logged again by the next one; a chart
    would have it twice, and a line back to it.

    Args:
        folder: without it nothing happens.
        keeps: whether to keep the point of a tag at a step.
    """
    for path in _event_files(folder):
        records = list(_records(path))
        kept = [each for each in records if not each.tags or any(keeps(tag, each.step) for tag in each.tags)]
        if len(kept) < len(records):
            write_durably(path, b"".join(each.content for each in kept))


def has_event(folder: Path, tag: str, step: int) -> bool:
    """Whether there is a point of that tag at that step."""
    return any(each.step == step and tag in each.tags for path in _event_files(folder) for each in _records(path))


def _event_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def _records(path: Path) -> Iterator[_Record]:
    """The records of a file. What cannot be read, e.g. half a record of a process that was killed, is the last one."""
    # TensorBoard's own reader would import TensorFlow, if that is installed, and check sums in Python.
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

    content, start = path.read_bytes(), 0
    while start < len(content):
        begin = start + _HEADER.size
        length = _HEADER.unpack(content[start:begin])[0] if begin <= len(content) else len(content)
        end = begin + length + 4
        try:
            event = Event.FromString(content[begin : end - 4]) if end <= len(content) else None
        except DecodeError:
            event = None
        if event is None:
            yield _Record(content[start:], 0, ())
            return
        yield _Record(content[start:end], event.step, tuple(value.tag for value in event.summary.value))
        start = end
