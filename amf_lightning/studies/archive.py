"""What a comparison keeps of its runs in two files that are committed, so that another machine goes on with them.

`curves.csv` has the rows, `runs.jsonl` a line a run with the rest: facts, and the settings that make it that run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.configuration import first_difference
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.studies.plan import Run
from amf_lightning.studies.rows import RunFacts, RunRows, read_rows, read_run, write_rows

_Key = tuple[str, int]


@dataclass(frozen=True)
class Entry:
    """A run as the two files keep it."""

    curve: RunRows
    facts: RunFacts | None = None
    """None if `runs.jsonl` has no line that fits the rows, e.g. because it did not exist yet."""
    settings: Mapping[str, Any] | None = None
    """`Run.identity`; None as above."""


class Record:
    """The two files of one comparison.

    Rows of strategies that the comparison does not name (any more) stay in the files, after the others; nothing is
    said about them.

    Args:
        folder: where the files are, or will be.
        strategies: labels of the comparison, in the order in which they are written.

    Raises:
        InputError: a line of a file is not one of ours; names it.
    """

    def __init__(self, folder: Path, strategies: Sequence[str]) -> None:
        self._curves, self._runs = folder / "curves.csv", folder / "runs.jsonl"
        self._strategies = tuple(strategies)
        self._entries = self._read() if self._curves.is_file() else {}

    @property
    def entries(self) -> list[Entry]:
        """The runs of the comparison's strategies, strategy by strategy, each in the order of seeds."""
        return [entry for entry in self._ordered() if entry.curve.strategy in self._strategies]

    @property
    def seeds(self) -> list[int]:
        """The seeds of `entries`, in order."""
        return sorted({entry.curve.seed for entry in self.entries})

    def of(self, runs: Sequence[Run]) -> list[Entry]:
        """Those of `runs` that are finished, in the same order as `entries`."""
        finished = {_key(run) for run in runs if self.has(run)}
        return [entry for entry in self.entries if (entry.curve.strategy, entry.curve.seed) in finished]

    def has(self, run: Run) -> bool:
        """Whether the run is here, and was evaluated after its whole budget."""
        entry = self._entries.get(_key(run))
        return (
            entry is not None
            and entry.settings is not None
            and any(row.demonstrations == run.budget for row in entry.curve.rows)
        )

    def conflict(self, run: Run) -> str | None:
        """Why the rows that are here under the name of the run are not to be taken for it; None if they may be."""
        entry = self._entries.get(_key(run))
        if entry is None:
            return None
        if entry.settings is None:
            if run.finished() and _read_folder(run).curve == entry.curve:
                return None  # its folder says the rest
            return f"{self._curves} has rows of {run.name} for which {self._runs.name} has no line that fits"
        if found := first_difference(entry.settings, run.identity):
            key, before, now = found
            return f"{self._runs} has {run.name} made with {key} = {before!r}, now it is {now!r}"
        return None

    def drop(self, run: Run) -> None:
        """Leaves out the rows under the name of the run, in the files with the next `write`."""
        del self._entries[_key(run)]

    def add(self, run: Run) -> None:
        """Takes in a run from its finished folder. Raises InputError if that was begun with other settings."""
        run.check_settings()
        self._entries[_key(run)] = _read_folder(run)

    def write(self) -> None:
        """Writes both files.

        The rows are first: if it ends there, the run folder vouches for them the next time (see `conflict`).
        """
        ordered = self._ordered()
        if not ordered and not self._curves.exists():
            return
        write_rows(self._curves, [entry.curve for entry in ordered])
        write_durably(self._runs, "".join(_line(entry) for entry in ordered if entry.facts))

    def _ordered(self) -> list[Entry]:
        labels = dict.fromkeys([*self._strategies, *(label for label, _ in self._entries)])
        place = {label: i for i, label in enumerate(labels)}
        return [self._entries[key] for key in sorted(self._entries, key=lambda key: (place[key[0]], key[1]))]

    def _read(self) -> dict[_Key, Entry]:
        entries = {(curve.strategy, curve.seed): Entry(curve) for curve in read_rows(self._curves)}
        lines = self._runs.read_text().split("\n")[:-1] if self._runs.is_file() else []
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
                key = str(content["strategy"]), int(content["seed"])
                facts = RunFacts(**{field.name: _tupled(content[field.name]) for field in fields(RunFacts)})
                settings, rows = dict(content["settings"]), content["rows"]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{self._runs}, line {number} is not a run ({error!r}). Remove it.") from error
            if key in entries and entries[key].facts:
                raise InputError(f"{self._runs}, line {number} has {key[0]} seed {key[1]} again. Remove one of them.")
            if key in entries and len(entries[key].curve.rows) == rows:
                entries[key] = Entry(entries[key].curve, facts, settings)
        return entries


def _key(run: Run) -> _Key:
    return run.label, run.seed


def _read_folder(run: Run) -> Entry:
    return Entry(*read_run(run.label, run.seed, RunFolder(run.folder), **run.making()), run.identity)


def _line(entry: Entry) -> str:
    assert entry.facts is not None
    name = {"strategy": entry.curve.strategy, "seed": entry.curve.seed, "rows": len(entry.curve.rows)}
    return json.dumps({**name, **asdict(entry.facts), "settings": entry.settings}, ensure_ascii=False) + "\n"


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
