"""`compare` ended by signals: its runs end with it, and the same command ends as if nothing had happened."""

import json
import os
import signal
from pathlib import Path

from soak.case import Bench
from soak.killed import SIGNALS
from soak.lost import check
from soak.program import PATIENCE, Ending, Program, check_signalled
from soak.world import World

OUT = "--output=out"
WAYS = ((), ("--share-imports",))
OF_THE_CLOCK = ("seconds", "versions")
"""What of a summary depends on when it was made."""


def results(folder: Path) -> dict[str, bytes]:
    """The rows and the summary of a study, by file; without the times and the version of its runs."""
    out = folder / "out"
    found = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("curves/*"))}
    if (out / "summary.json").exists():
        summary = json.loads((out / "summary.json").read_text())
        summary["meta"] = {key: value for key, value in summary["meta"].items() if key not in OF_THE_CLOCK}
        found["summary.json"] = json.dumps(summary).encode()
    return found


def reference(world: World) -> Path:
    """The folder of a comparison that nobody interrupted."""

    def make(folder: Path) -> Path:
        ending = Program([*world.study(folder), OUT, "--share-imports"], folder, folder / "log").wait(
            4 * PATIENCE.seconds
        )
        if ending.code:
            raise RuntimeError(f"a comparison that nobody disturbs fails: {ending}")
        (folder / "seconds").write_text(str(ending.seconds))
        return folder

    return world.once("study", make)


def check_study(folder: Path, world: World) -> None:
    """Raises Lost if the results in a folder are others than those of the comparison that nobody interrupted."""
    there, expected = results(folder), results(reference(world))
    check(there.keys() == expected.keys(), f"files {sorted(there)} instead of {sorted(expected)}")
    differing = [name for name in expected if there[name] != expected[name]]
    check(not differing, f"{differing} differ from those of a comparison that nobody interrupted")


def killed_study(bench: Bench) -> None:
    """One or two signals at moments of the clock, then the comparison is left alone."""
    draw, arguments = bench.draw, bench.world.study(bench.folder)
    seconds = float((reference(bench.world) / "seconds").read_text())
    log = bench.folder / "log"
    for way in draw.choice([WAYS[:1], WAYS[1:], 2 * WAYS[1:]]):  # what imports anew for each run takes its time
        number, after = draw.choice(SIGNALS), draw.uniform(0.1, 1.0) * seconds
        bench.note(f"{signal.Signals(number).name} after {after:.2f} s {way}")
        program = Program([*arguments, OUT, *way], bench.folder, log)
        program.process.join(after)
        ended = program.process.exitcode is not None
        if not ended:
            os.kill(program.process.pid or 0, number)
        ending = program.wait()
        if not ended and ending.code != 0:
            bench.kills += 1
            check_signalled(ending, number)
    _left_alone(Program([*arguments, OUT, "--share-imports"], bench.folder, log).wait())
    check_study(bench.folder, bench.world)


def _left_alone(ending: Ending) -> None:
    check(ending.code == 0 and "Traceback" not in ending.said, f"the comparison that is left alone: {ending}")


def prepare(world: World) -> None:
    """The comparison that nobody interrupted."""
    reference(world)
