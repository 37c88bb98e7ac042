"""Two real ddp processes: signals to the launcher, to the other one, or to both; all end within seconds."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from process_groups import alive, commands, end_with_tracebacks
from tiny_runs import Run, assert_same_outcome

from soak.case import Bench
from soak.killed import SIGNALS, Watched
from soak.lost import check
from soak.program import PATIENCE, TESTS, Ending, check_signalled
from soak.world import BUDGET, SHARDS, World

TWO_PROCESSES = ("--trainer.strategy", "ddp", "--trainer.devices", "2")


class Launched:
    """A run started as people start it, in a process group of its own."""

    def __init__(self, run: Run) -> None:
        self.log, self.since = run.log, time.monotonic()
        self._from = run.log.stat().st_size if run.log.exists() else 0
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
            "OMP_NUM_THREADS": "1",
            "PYTHONFAULTHANDLER": "1",
        }
        with run.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "amf_lightning", *run.command],
                cwd=run.path.parent,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def children(self) -> list[int]:
        """The processes beside the launcher."""
        return [each for each in alive(self.process.pid) if each != self.process.pid]

    def end(self, within: float) -> Ending:
        """How the launcher ends; Lost if it, or any other process of the run, is still there after so many seconds."""
        deadline = time.monotonic() + within
        while (self.process.poll() is None or self.children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = alive(self.process.pid)
        names = commands(left)
        if left:
            end_with_tracebacks(self.process.pid)
        self.process.wait()
        with self.log.open("rb") as file:
            file.seek(self._from)
            said = file.read().decode(errors="replace")
        ending = Ending(self.process.returncode, said, time.monotonic() - self.since)
        check(not left, f"still there after {within:.0f} s: {names}: {ending}")
        return ending


def killed_ddp(bench: Bench) -> None:
    """One or two signals at moments of the clock, then the run is left alone."""
    run, draw = bench.world.run(bench.folder, options=TWO_PROCESSES), bench.draw
    reference, usual = bench.world.reference("shards", SHARDS), seconds_of(bench.world)
    watched = Watched(run)
    for _ in range(draw.randint(1, 2)):
        number, target = draw.choice(SIGNALS), draw.choice(["launcher", "child", "both"])
        after = draw.uniform(0.3, 1.0) * usual
        launched = Launched(run)
        deadline = launched.since + after
        while time.monotonic() < deadline and launched.process.poll() is None:
            time.sleep(0.01)
        children = launched.children()
        if target == "child" and not children:
            target = "launcher"
        bench.note(f"{signal.Signals(number).name} to {target} after {after:.2f} s; beside it: {commands(children)}")
        targets = {"launcher": [launched.process.pid], "child": children, "both": alive(launched.process.pid)}[target]
        for process in targets:
            _send(process, number)
        ending = launched.end(PATIENCE.end)
        watched.check()
        if ending.code in (0, -number) and run.folder.finished(BUDGET):
            continue  # also one that died of the signal while Python shut down: the run is whole
        bench.kills += 1
        check(ending.code != 0, f"an unfinished run ends with 0: {ending}")
        # Where only one is killed, the other may have ended because its partner had; that is not a signal to it.
        if target != "child":
            check_signalled(ending, number)
    ending = Launched(run).end(PATIENCE.seconds)
    check(ending.code == 0, f"the run that is left alone: {ending}")
    watched.check()
    assert_same_outcome(run, reference)


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def seconds_of(world: World) -> float:
    """Seconds that a run of two processes takes here and now."""

    def make(folder: Path) -> float:
        ending = Launched(world.run(folder, options=TWO_PROCESSES)).end(2 * PATIENCE.seconds)
        if ending.code:
            raise RuntimeError(f"a run that nobody disturbs fails: {ending}")
        return ending.seconds

    return world.once("ddp", make)


def prepare(world: World) -> None:
    """One process that trains on the same shards, and how long two take."""
    world.reference("shards", SHARDS)
    seconds_of(world)
