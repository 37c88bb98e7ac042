"""`fit` ended by signals again and again, on disks fast and slow: it goes on as if nothing had happened."""

import random
import signal
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from tiny_runs import Run, assert_same_outcome

from amf_lightning.campaign.ledger import Ledger
from soak.case import Bench
from soak.lost import check
from soak.moments import End, Moment, end_at
from soak.program import Ending, Program, check_signalled
from soak.world import BUDGET, World

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SLOW = 0.03
"""Seconds, at most, that a slow disk takes longer."""


def drawn_end(draw: random.Random, moments: Mapping[str, int]) -> End:
    """Some signal at some moment of some phase; half of them a few milliseconds after a moment."""
    phase = draw.choice(sorted(moments))
    delay = draw.choice([0.0, draw.uniform(0.0002, 0.006)])
    return End(Moment(phase, draw.randrange(moments[phase])), draw.choice(SIGNALS), delay)


def asked(run: Run) -> list[tuple[int, int, str, int]]:
    """The requests in the ledger of a run: number, round, task, seed."""
    if not run.folder.ledger.exists():
        return []
    with closing(Ledger(run.folder.ledger, read_only=True)) as ledger:
        return [(job.demonstration, job.round, job.task, job.seed) for job in ledger.jobs()]


def answered(run: Run) -> dict[int, str]:
    """The answers in the ledger of a run."""
    if not run.folder.ledger.exists():
        return {}
    with closing(Ledger(run.folder.ledger, read_only=True)) as ledger:
        return ledger.recorded()


def journal(folder: Path) -> list[str]:
    """What the expert was asked for so far, a line `task seed` each."""
    file = folder / "asked.txt"
    return file.read_text().splitlines() if file.exists() else []


class Watched:
    """A run of which nothing may be lost or asked for twice, however often it is started."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._asked, self._answered, self._lines = asked(run), answered(run), len(journal(run.path.parent))

    def check(self) -> None:
        """Raises Lost if a request changed, an answer is gone, or one that was there was asked for again."""
        before, there = self._asked, asked(self.run)
        check(there[: len(before)] == before, f"requests changed from {before} to {there}")
        gone = self._answered.items() - answered(self.run).items()
        check(not gone, f"answers are gone: {gone}")
        lines = journal(self.run.path.parent)
        had = {f"{task} {seed}" for number, _, task, seed in before if number in self._answered}
        check(not had & set(lines[self._lines :]), f"asked again: {had & set(lines[self._lines :])}")
        self._asked, self._answered, self._lines = there, answered(self.run), len(lines)


def check_whole(run: Run, reference: Run) -> None:
    """Raises if a run that has ended differs from one that nobody interrupted, or has left anything behind."""
    assert_same_outcome(run, reference)
    left = [str(path.relative_to(run.path)) for path in run.path.rglob("*.partial")]
    check(not left, f"left behind: {left}")


def check_ended(ending: Ending, run: Run, number: int) -> bool:
    """Whether a run that was to be ended by a signal had ended by itself; Lost if it ended otherwise."""
    # While Python shuts down nothing hears a signal any more: the process dies of it, and the run is whole.
    if ending.code in (0, -number) and run.folder.finished(BUDGET):
        check("Traceback" not in ending.said, f"a traceback: {ending}")
        return True
    check_signalled(ending, number)
    return False


def killed_fit(bench: Bench) -> None:
    """One to six signals, then the run is left alone."""
    run, draw = bench.world.run(bench.folder), bench.draw
    watched = Watched(run)
    slow = draw.choice([0.0, 0.0, draw.uniform(0.0, SLOW)])
    for _ in range(draw.randint(1, 6)):
        end = drawn_end(draw, bench.world.moments)
        bench.note(f"{end}; each wait for the disk takes {1000 * slow:.0f} ms longer")
        ending = Program(run.command, bench.folder, run.log, end_at, end, slow).wait()
        watched.check()
        if not check_ended(ending, run, end.number):
            bench.kills += 1
    ending = Program(run.command, bench.folder, run.log).wait()
    check(ending.code == 0, f"the run that is left alone: {ending}")
    watched.check()
    check_whole(run, bench.world.reference())


def prepare(world: World) -> None:
    """The uninterrupted run, and how many signs of life it gives."""
    world.reference()
    _ = world.moments
