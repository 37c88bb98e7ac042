"""The options of the soak, the cases side by side, and the table."""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path

from soak.case import Bench, Kind
from soak.kinds import KINDS
from soak.lost import Lost
from soak.program import PATIENCE
from soak.world import World

SHOWN = 3000
"""Characters that are shown of why a case is lost."""


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    kind: str
    case: str
    seconds: float
    kills: int
    inputs: int
    lost: str | None = None
    """Why it is lost; None if it survived."""
    notes: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=2.0, help="no case is begun after so many (default: 2)")
    parser.add_argument("--kills", type=int, default=0, help="go on until so many signals were sent, however long")
    parser.add_argument("--inputs", type=int, default=0, help="go on until so many bad inputs were given")
    parser.add_argument("--seed", type=int, default=0, help="what the cases draw from, with their names (default: 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at once (default: the cores)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a case may take (default: 60)")
    parser.add_argument("--patience", type=float, default=50.0, help="seconds until a process hangs (default: 50)")
    parser.add_argument("--only", action="append", help="a kind, or one case as a lost one is named; repeatable")
    parser.add_argument("--folder", type=Path, help="where it works; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file that the results are written to")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the soak; exits with 1 if a case is lost."""
    options = parse(arguments)
    PATIENCE.seconds = options.patience
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="soak-", dir=options.folder))
    results = soak(options, root)
    print(table(results), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    if any(result.lost for result in results):
        print(*(f"Lost {each.case}: {each.lost.splitlines()[0]}" for each in results if each.lost), sep="\n")
        print(f"The folders of lost cases are kept in {root}")
        sys.exit(1)
    shutil.rmtree(root)


def soak(options: argparse.Namespace, root: Path) -> list[Result]:
    """Runs cases, `jobs` at once, until the time is over or enough was tried."""
    world, results = World(root / "world"), list[Result]()
    cases = chosen(options.only)
    begin = time.monotonic()
    running: set[Future[Result]] = set()
    with ThreadPoolExecutor(options.jobs) as pool:
        while True:
            while len(running) < options.jobs and (case := next_case(cases, options, results, begin)):
                running.add(pool.submit(run_case, *case, world, root, options))
            if not running:
                return results
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                results.append(result := future.result())
                if result.lost:
                    print(f"LOST {result.case}: {result.lost}\n  again: {again(result, options)}\n", flush=True)


def chosen(only: Sequence[str] | None) -> Iterator[tuple[Kind, str]]:
    """The cases in the order in which they are begun: turn by turn, or those that were named."""
    names = {kind.name for kind in KINDS}
    if only and not all(name in names for name in only):
        for name in only:
            kind_name, _, number = name.partition("/")
            kind = next((kind for kind in KINDS if kind.name == kind_name), None)
            if kind is None or not number.isdigit():
                raise SystemExit(f"There is no case '{name}'. Give KIND or KIND/NUMBER of {', '.join(sorted(names))}.")
            yield kind, name
        return
    turn = 0
    while True:
        for kind in KINDS:
            for place in range(kind.share):
                if not only or kind.name in only:
                    yield kind, f"{kind.name}/{turn * kind.share + place}"
        turn += 1


def next_case(
    cases: Iterator[tuple[Kind, str]], options: argparse.Namespace, results: Sequence[Result], begin: float
) -> tuple[Kind, str] | None:
    """The next case that is still wanted; None if nothing is."""
    for kind, name in cases:
        if options.only and "/" in options.only[0]:
            return kind, name
        if not (options.kills or options.inputs):
            return (kind, name) if time.monotonic() - begin < 60 * options.minutes else None
        of_kinds = Counter[str]()
        for result in results:
            of_kinds[result.kind] += result.kills
        # No kind counts for more than a third: one lab sends as many signals as forty runs.
        kills = sum(min(sent, options.kills / 3) for sent in of_kinds.values()) < options.kills
        inputs = sum(result.inputs for result in results) < options.inputs
        if not kills and not inputs:
            return None
        if (kills and kind.kills) or (inputs and kind.inputs):
            return kind, name
    return None


def run_case(kind: Kind, name: str, world: World, root: Path, options: argparse.Namespace) -> Result:
    """Runs one case in a folder of its own, which is removed unless it is lost."""
    folder = root / name.replace("/", "-")
    folder.mkdir()
    bench = Bench(world, folder, random.Random(f"{options.seed} {name}"))
    lost: str | None = None
    begin = time.monotonic()
    try:
        if kind.prepare is not None:
            kind.prepare(world)
        begin = time.monotonic()
        kind.run(bench)
    except Lost as error:
        lost = str(error)[:SHOWN]
    except Exception:
        lost = traceback.format_exc()[-SHOWN:]
    seconds = time.monotonic() - begin
    if lost is None and seconds > options.limit:
        lost = f"it took {seconds:.0f} s"
    if lost is None:
        shutil.rmtree(folder)
    return Result(kind.name, name, round(seconds, 2), bench.kills, bench.inputs, lost, bench.notes)


def again(result: Result, options: argparse.Namespace) -> str:
    """The command that repeats a case."""
    return f"PYTHONPATH=tests python -m soak --seed {options.seed} --only {result.case}"


def table(results: Sequence[Result]) -> str:
    """A row a kind: what was tried, what survived, what is lost, and the longest case."""
    columns = ("kind", "tried", "survived", "lost", "signals", "bad inputs", "longest")
    rows: list[tuple[str, ...]] = [columns]
    for name in [*dict.fromkeys(result.kind for result in results), "all"]:
        of_it = [result for result in results if name in (result.kind, "all")]
        lost = sum(result.lost is not None for result in of_it)
        kills, inputs = sum(result.kills for result in of_it), sum(result.inputs for result in of_it)
        longest = max((result.seconds for result in of_it), default=0.0)
        numbers = (len(of_it), len(of_it) - lost, lost, kills, inputs)
        rows.append((name, *map(str, numbers), f"{longest:.1f} s"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
