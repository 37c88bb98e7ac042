"""The archive of a study keeps its runs in files that are committed, so that another machine goes on with them.

`curves/` has the rows, a table a seed; `runs.jsonl` has a line a run with the rest: facts, and the settings that make
it that run.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.configuration import first_difference
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.hashed_json import hashed, unhashed
from amf_lightning.reading import read_text
from amf_lightning.studies.plan import Run
from amf_lightning.studies.rows import (
    SINGLE_TABLE,
    RunFacts,
    RunRows,
    facts_from,
    read_rows,
    read_run,
    tables,
    write_rows,
)

_SHARED, _FAILED = "shared_settings", "failed"
_ADVICE = "Restore it from its last commit, or remove it: run folders that are still there say the rest."
_Key = tuple[str, int]


@dataclass(frozen=True)
class Entry:
    """A run as the archive keeps it."""

    curve: RunRows
    facts: RunFacts | None = None
    """None if `runs.jsonl` has no line that fits the rows, e.g. because it did not exist yet."""
    settings: Mapping[str, Any] | None = None
    """`Run.identity`; None as above."""


class Archive:
    """The rows and facts of one study's runs, in files.

    Rows of strategies that the specification does not name (any more) stay in the files, after the others; nothing is
    said about them.

    Args:
        folder: where the files are, or will be.
        strategies: labels of the specification, in the order in which they are written.

    Raises:
        InputError: a line of a file is not one of ours; names it.
    """

    def __init__(self, folder: Path, strategies: Sequence[str]) -> None:
        self._curves, self._runs = folder / "curves", folder / "runs.jsonl"
        self._single_table = folder / SINGLE_TABLE
        self._strategies = tuple(strategies)
        self._dropped: dict[_Key, Entry] = {}
        self._failed: dict[_Key, str] = {}
        self._rowless: set[_Key] = set()
        self._entries = self._read()

    def reload(self) -> None:
        """Takes in what other processes have written meanwhile."""
        self._failed, self._rowless = {}, set()
        self._entries = {key: entry for key, entry in self._read().items() if entry != self._dropped.get(key)}

    @property
    def failed(self) -> dict[str, list[int]]:
        """Of each strategy of the specification the seeds whose last try failed, if there are any."""
        seeds = {label: sorted(seed for of, seed in self._failed if of == label) for label in self._strategies}
        return {label: of_label for label, of_label in seeds.items() if of_label}

    @property
    def entries(self) -> list[Entry]:
        """The runs of the specification's strategies, strategy by strategy, each in the order of seeds."""
        return [entry for entry in self._ordered() if entry.curve.strategy in self._strategies]

    @property
    def seeds(self) -> list[int]:
        """The seeds of `entries`, in order."""
        return sorted({entry.curve.seed for entry in self.entries})

    @property
    def rowless(self) -> list[_Key]:
        """The runs of the specification's strategies whose line is there and whose rows are not, e.g. a lost table."""
        return sorted(key for key in self._rowless if key[0] in self._strategies)

    def entries_of(self, runs: Sequence[Run]) -> list[Entry]:
        """The entries of those of `runs` that are finished, in the same order as `entries`."""
        finished = {_key(run) for run in runs if self.has(run)}
        return [entry for entry in self.entries if (entry.curve.strategy, entry.curve.seed) in finished]

    def has(self, run: Run) -> bool:
        """Whether the archive has the run, evaluated after its whole budget."""
        entry = self._entries.get(_key(run))
        return (
            entry is not None
            and entry.settings is not None
            and any(row.demonstrations == run.budget for row in entry.curve.rows)
        )

    def conflict(self, run: Run) -> str | None:
        """Why the rows under the name of the run must not be taken for it; None if they may be, or there are none."""
        entry = self._entries.get(_key(run))
        if entry is None:
            return None
        if entry.settings is None:
            if run.finished() and _read_folder(run).curve == entry.curve:
                return None  # its folder says the rest
            return f"{self._curves} has rows of {run.name} for which {self._runs.name} has no line that fits"
        if difference := first_difference(entry.settings, run.identity):
            key, before, now = difference
            return f"{self._runs} has {run.name} made with {key} = {before!r}, now it is {now!r}"
        return None

    def drop(self, run: Run) -> None:
        """Leaves out the rows under the name of the run, in the files with the next `write`."""
        self._dropped[_key(run)] = self._entries.pop(_key(run))

    def add(self, run: Run) -> None:
        """Takes in a run from its finished folder. Raises InputError if that was begun with other settings."""
        run.check_settings()
        self._entries[_key(run)] = _read_folder(run)
        self._failed.pop(_key(run), None)

    def note_failure(self, run: Run, reason: str) -> None:
        """Keeps in the files that a run failed, so that no mean over the others is taken for one over all."""
        if not self.has(run):
            self._failed[_key(run)] = reason

    def write(self) -> None:
        """Writes all files, and replaces the single table of version 0.1 if there is one.

        The rows are first: if it ends there, the run folder vouches for them the next time (see `conflict`).
        """
        ordered = self._ordered()
        there = any(path.exists() for path in (self._runs, self._curves, self._single_table))
        if not (ordered or self._failed or there):
            return
        write_rows(self._curves, [entry.curve for entry in ordered])
        write_durably(self._runs, "".join([*_lines(ordered), *map(_failed_line, self._failed.items())]))
        self._single_table.unlink(missing_ok=True)

    def _ordered(self) -> list[Entry]:
        labels = dict.fromkeys([*self._strategies, *(label for label, _ in self._entries)])
        place = {label: i for i, label in enumerate(labels)}
        return [self._entries[key] for key in sorted(self._entries, key=lambda key: (place[key[0]], key[1]))]

    def _read(self) -> dict[_Key, Entry]:
        single = [self._single_table] if self._single_table.is_file() else []
        entries = {(curve.strategy, curve.seed): Entry(curve) for curve in read_rows([*tables(self._curves), *single])}
        lines = read_text(self._runs, _ADVICE).split("\n") if self._runs.is_file() else [""]
        if lines.pop():
            raise InputError(f"{self._runs} ends in the middle of a line. {_ADVICE}")
        shared: dict[str, Any] = {}
        described: dict[_Key, dict[str, Any]] = {}
        for number, line in enumerate(lines, start=1):
            try:
                content = unhashed(json.loads(line))
                if _SHARED in content:
                    shared = dict(content[_SHARED])
                    continue
                key = str(content["strategy"]), int(content["seed"])
                if _FAILED in content:
                    self._failed[key] = str(content[_FAILED])
                    continue
                facts = facts_from(content)
                content["settings"] = settings = {**shared, **content["settings"]}
                rows = content["rows"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{self._runs}, line {number} is not a run ({error!r}). Remove it.") from error
            if described.setdefault(key, content) != content:
                raise InputError(f"{self._runs}, line {number} has {key[0]} seed {key[1]} again. Remove one of them.")
            if key not in entries:
                self._rowless.add(key)
            elif len(entries[key].curve.rows) == rows:
                entries[key] = Entry(entries[key].curve, facts, settings)
        return entries


def _key(run: Run) -> _Key:
    return run.label, run.seed


def _read_folder(run: Run) -> Entry:
    return Entry(*read_run(run.label, run.seed, RunFolder(run.folder), **run.process_facts()), run.identity)


def _lines(entries: Iterable[Entry]) -> list[str]:
    """The lines of `runs.jsonl`: first the settings that all runs share, then a line a run with its other settings."""
    described = [entry for entry in entries if entry.facts]
    if not described:
        return []
    shared = dict(described[0].settings or {})
    for entry in described[1:]:
        settings = entry.settings or {}
        shared = {key: value for key, value in shared.items() if key in settings and settings[key] == value}
    return [_json({_SHARED: shared}), *(_json(_line(entry, shared)) for entry in described)]


def _failed_line(failed: tuple[_Key, str]) -> str:
    (label, seed), reason = failed
    return _json({"strategy": label, "seed": seed, _FAILED: reason})


def _line(entry: Entry, shared: Mapping[str, Any]) -> dict[str, Any]:
    assert entry.facts is not None and entry.settings is not None
    own = {key: value for key, value in entry.settings.items() if key not in shared}
    name = {"strategy": entry.curve.strategy, "seed": entry.curve.seed, "rows": len(entry.curve.rows)}
    facts = {key: value for key, value in asdict(entry.facts).items() if key != "scored_by" or value is not None}
    return {**name, **facts, "settings": own}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(hashed(content), ensure_ascii=False) + "\n"
