"""Campaigns that somebody drives by hand, and runs that wait for them: each process ended between any two lines."""

import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any

from forks import PROCESSES

import amf_lightning
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.errors import ExitCode
from amf_lightning.experts.scripted import IntegratorExpert
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.suites.integrator import Integrator
from soak.case import Bench
from soak.killed import Watched, check_whole, drawn_end
from soak.lost import check
from soak.moments import end_at
from soak.program import PATIENCE, SIGNALLED, Program, check_signalled
from soak.world import WAITING, World

PACKAGE = str(Path(amf_lightning.__file__).parent)
GOALS, HORIZON = (0, 90, 180, 270), 12
BY_HAND, OPEN = 6, 2
"""Answers that a campaign is driven to, and requests that are open at once."""


def suite() -> Integrator:
    return Integrator(GOALS, horizon=HORIZON)


def drive(folder: Path, seed: int) -> None:
    """Asks, answers, skips, and takes back until there are enough answers; what it does depends on the ledger alone."""
    campaign = Campaign(folder, suite(), RoundRobin())
    while (answers := campaign.status().total.answered) < BY_HAND:
        if answers >= BY_HAND // 2 and campaign.open_round == 0:
            campaign.close_round()
        request = campaign.ask(OPEN)[0]
        way = random.Random(f"{seed} {request.demonstration}").choice(["tell", "tell", "undo", "skip", "late"])
        [shown] = IntegratorExpert().demonstrate(campaign.suite, campaign.episodes([request]))
        if way == "skip":
            campaign.skip(request, "the robot is broken")
            continue
        if way == "late":
            campaign.skip(request, "not now")
            campaign.undo(request)
        campaign.tell(request, shown)
        if way == "undo":
            campaign.undo(request)
            campaign.tell(request, shown)
        campaign.tell(request, shown)


def count_lines(file: Path, folder: Path, seed: int) -> None:
    """Drives a campaign to its end and writes how many lines of the package that took."""
    lines = traced(lambda line: None)
    drive(folder, seed)
    sys.settrace(None)
    file.write_text(str(lines()))


def drive_until(last: int, folder: Path, seed: int) -> None:
    """Drives a campaign and dies before a line of the package."""
    traced(lambda line: os.kill(os.getpid(), signal.SIGKILL) if line == last else None)
    drive(folder, seed)


def answer(folder: Path, last: int | None) -> None:
    """Answers whatever is open in a run, in an odd order; dies before a line if one is given."""
    if last is not None:
        traced(lambda line: os.kill(os.getpid(), signal.SIGKILL) if line == last else None)
    campaign = Campaign(folder, suite())
    for request in reversed(campaign.pending):
        campaign.tell(request, IntegratorExpert().demonstrate(suite(), campaign.episodes([request]))[0])


def facts(folder: Path) -> dict[str, Any]:
    """All that a campaign holds but the times of skips."""
    with closing(Ledger(folder / "ledger.sqlite", read_only=True)) as ledger:
        return {
            "asked": [repr(job) for job in ledger.jobs()],
            "recorded": ledger.recorded(),
            "arrived": ledger.arrivals(),
            "skipped": {number: skip.reason for number, skip in ledger.skipped().items()},
            "files": {path.name: sha256_of(path) for path in (folder / "demonstrations").glob("[!.]*")},
        }


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def by_hand(bench: Bench) -> None:
    """A campaign whose driver dies at lines of the package, between any two instructions of ask, tell, skip, undo."""
    seed = bench.draw.randrange(1 << 30)
    reference, run = bench.folder / "reference", bench.folder / "run"
    _finished(count_lines, bench.folder / "lines", reference, seed)
    lines = int((bench.folder / "lines").read_text())
    for _ in range(bench.draw.randint(1, 6)):
        last = bench.draw.randrange(lines)
        bench.note(f"dies before line {last} of {lines}")
        code = _ended(PROCESSES.Process(target=drive_until, args=(last, run, seed)))
        check(code in (0, -signal.SIGKILL), f"the driver ended with {code}")
        bench.kills += code != 0
    _finished(drive, run, seed)
    there, expected = facts(run), facts(reference)
    differing = [key for key in expected if there[key] != expected[key]]
    check(not differing, f"{differing} differ: {there} instead of {expected}")


def waiting_run(bench: Bench) -> None:
    """A run that waits for answers; it and whoever answers are ended now and then."""
    run, draw = bench.world.run(bench.folder, WAITING), bench.draw
    watched = Watched(run)
    for _ in range(30):
        end = drawn_end(draw, bench.world.moments) if draw.random() < 0.4 else None
        bench.note(f"fit: {end}")
        before = (end_at, end) if end else ()
        ending = Program(run.command, bench.folder, run.log, *before).wait()
        watched.check()
        if ending.code == 0:
            break
        if end and ending.code == SIGNALLED[signal.Signals(end.number)]:
            check_signalled(ending, end.number)
            bench.kills += 1
            continue
        check(ending.code == ExitCode.WAITING and "Traceback" not in ending.said, f"it waits otherwise: {ending}")
        last = draw.randrange(4000) if draw.random() < 0.5 else None
        bench.note(f"answers: dies before line {last}")
        code = _ended(PROCESSES.Process(target=answer, args=(run.path, last)))
        check(code in (0, -signal.SIGKILL), f"whoever answers ended with {code}")
        bench.kills += code != 0
        watched.check()
    check_whole(run, bench.world.reference())


def traced(act: Callable[[int], object]) -> Callable[[], int]:
    """Calls `act` with the number of each line of the package before it is run; what is returned says how many."""
    count = 0

    def local(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if event == "line":
            act(count)
            count += 1
        return local

    def trace(frame: FrameType, event: str, _: object) -> Any:
        return local if frame.f_code.co_filename.startswith(PACKAGE) else None

    sys.settrace(trace)
    return lambda: count


def _ended(process: ForkServerProcess) -> int:
    process.start()
    process.join(PATIENCE.seconds)
    hangs = process.exitcode is None
    if hangs:
        process.kill()
        process.join()
    check(not hangs, f"hangs for over {PATIENCE.seconds:.0f} s")
    return process.exitcode or 0


def _finished(target: Callable[..., object], *values: Any) -> None:
    code = _ended(PROCESSES.Process(target=target, args=values))
    check(code == 0, f"{target.__name__} ended with {code}")


def prepare(world: World) -> None:
    """The uninterrupted run that a waiting one must equal."""
    world.reference()
    _ = world.moments
