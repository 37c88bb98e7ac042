"""Episodes that Minari wrote as parquet or arrow: a folder with one file, one row for each observation."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from amf_lightning.demonstrations.importing.columns import blobs, damage, numbers
from amf_lightning.demonstrations.importing.recorded import AGAIN, check_size
from amf_lightning.demonstrations.optional import required
from amf_lightning.errors import InputError

KINDS = ("parquet", "arrow")
"""Of files."""


class Table:
    """One episode; entries are found by their path, `observations/image/front`."""

    def __init__(self, table: Any, where: str) -> None:
        self._table, self.where = table, where

    def has(self, path: str) -> bool:
        """Whether there is such an entry."""
        return self._find(path) is not None

    def rows(self, path: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Numbers, [T + 1, *shape]."""
        return numbers(self._column(path), shape, f"{self.where}: '{path}'")

    def blobs(self, path: str) -> list[bytes]:
        """Encoded pictures, T + 1."""
        return blobs(self._column(path), f"{self.where}: '{path}'")

    def _column(self, path: str) -> Any:
        if (column := self._find(path)) is None:
            raise InputError(f"{self.where} has no '{path}', but {', '.join(self._table.column_names[:12])}. {AGAIN}")
        return column

    def _find(self, path: str) -> Any:
        first, *rest = [part for part in path.split("/") if part]
        if first not in self._table.column_names:
            return None
        column = self._table.column(first).combine_chunks()
        for part in rest:
            fields = {column.type.field(i).name for i in range(column.type.num_fields)}
            if not hasattr(column, "field") or part not in fields:
                return None
            column = column.field(part)
        return column


def read(folder: Path, kind: str, where: str) -> Table:
    """The episode in a folder, in a file of one of `KINDS`.

    Raises:
        InputError: there is none, or it is damaged.
    """
    pyarrow = required("pyarrow", "Minari's format of tables")
    files = sorted(folder.glob(f"part-*.{kind}"))
    if len(files) != 1:
        raise InputError(f"{where} has {len(files)} files part-*.{kind} instead of one. {AGAIN}")
    with damage(str(files[0])):
        if kind == "parquet":
            file = required("pyarrow.parquet", "Minari's format of tables").ParquetFile(files[0])
            check_size((sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)),), 1, where)
            return Table(file.read(), where)
        with pyarrow.memory_map(str(files[0])) as source:
            return Table(pyarrow.ipc.open_file(source).read_all(), where)
