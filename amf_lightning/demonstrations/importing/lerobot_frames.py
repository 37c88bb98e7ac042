"""The frames of a LeRobot dataset, episode by episode, from files that each hold many."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from amf_lightning.demonstrations.importing.columns import damage, numbers
from amf_lightning.demonstrations.importing.lerobot_meta import LIBRARY, Dataset, EpisodeRow
from amf_lightning.demonstrations.importing.recorded import AGAIN
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError

_ROWS_AT_ONCE = 64
"""Rows in memory beyond those of the episode; a picture may have a megabyte."""
INDICES = ("episode_index", "frame_index", "timestamp", "task_index")


class Frames:
    """Reads the files in the order of the episodes, each row once.

    Args:
        dataset: whose frames.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._path: Path | None = None
        self._columns: list[str] = []
        self._batches: Iterator[Any] = iter(())
        self._rest: Any = None
        self._file: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def take(self, row: EpisodeRow, columns: Sequence[str]) -> Any:
        """The frames of the next episode, a table with the columns and `task_index`.

        Raises:
            InputError: they are missing, of another episode, or not at the dataset's rate.
        """
        path = self._dataset.file(self._dataset.data_path, row)
        where = f"{path}, episode {row.index}"
        with damage(str(path)):
            if path != self._path:
                self._open(path, [*columns, *INDICES])
            table = self._rows(row.length, where)
        for name, expected in (("episode_index", row.index), ("frame_index", np.arange(row.length))):
            if not (numbers(table.column(name), (), where) == expected).all():
                raise InputError(f"{where}: '{name}' of its {row.length} frames does not count through them. {AGAIN}")
        fps = self._dataset.fps
        times = numbers(table.column("timestamp"), (), where)
        off = np.abs(times - np.arange(row.length) / fps)
        if not (off < 0.5 / fps).all():
            raise InputError(
                f"{where}: frame {int(np.argmax(~(off < 0.5 / fps)))} is not where {fps:g} frames a second put "
                f"it. Correct "
                "'fps' in meta/info.json, or record the episode again."
            )
        return table

    def _open(self, path: Path, columns: list[str]) -> None:
        self._close()
        file = required("pyarrow.parquet", LIBRARY).ParquetFile(path)
        self._file = file
        if missing := [name for name in columns if name not in file.schema_arrow.names]:
            raise InputError(f"{path} has no column '{missing[0]}', which meta/info.json describes. {AGAIN}")
        # `pre_buffer` would read a whole row group ahead, and that of a converted dataset is a whole file.
        self._path, self._batches = path, file.iter_batches(_ROWS_AT_ONCE, columns=columns, use_threads=False)

    def _rows(self, count: int, where: str) -> Any:
        pyarrow = required("pyarrow", LIBRARY)
        parts, held = ([self._rest], self._rest.num_rows) if self._rest is not None else ([], 0)
        while held < count:
            if (batch := next(self._batches, None)) is None:
                raise InputError(f"{where}: {held} of its {count} frames are there. {AGAIN}")
            parts.append(pyarrow.Table.from_batches([batch]))
            held += batch.num_rows
        table = pyarrow.concat_tables(parts)
        self._rest = table.slice(count) if held > count else None
        return table.slice(0, count)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._path, self._batches, self._rest, self._file = None, iter(()), None, None
