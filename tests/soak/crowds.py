"""Several processes on one thing at once: a run, a comparison, a campaign. One does it, the others say so or help."""

import random
import time

from forks import PROCESSES

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import ExitCode
from soak import killed_studies
from soak.case import Bench
from soak.killed import Watched, check_whole
from soak.lost import check
from soak.program import PATIENCE, Program, check_refused
from soak.waiting import answer
from soak.world import WAITING, World

WAIT = 0.5
"""Seconds, at most, between the starts."""


def two_fits(bench: Bench) -> None:
    """Two or three of the same fit: one at least ends well, the others are refused or find the run finished."""
    run, draw = bench.world.run(bench.folder), bench.draw
    watched, command = Watched(run), run.command  # asked for once, as it writes the configuration that all read
    programs = []
    for number in range(draw.randint(2, 3)):
        time.sleep(draw.uniform(0.0, WAIT))
        programs.append(Program(command, bench.folder, bench.folder / f"log-{number}"))
    bench.note(f"{len(programs)} fits")
    endings = [program.wait() for program in programs]
    for ending in endings:
        if ending.code != 0:
            check_refused(ending, ExitCode.BAD_INPUT)
            check("Another process" in ending.said, f"refused for another reason: {ending}")
    check(any(ending.code == 0 for ending in endings), f"nobody ended well: {endings[0]}")
    watched.check()
    check_whole(run, bench.world.reference())


def two_studies(bench: Bench) -> None:
    """Two of the same comparison, of all seeds or of one each: both end well, and the results are those of one."""
    draw, arguments = bench.draw, bench.world.study(bench.folder)
    ways = [draw.choice(killed_studies.WAYS) for _ in range(2)]
    seeds = draw.choice([("0:2", "0:2"), ("0:1", "1:2")])
    bench.note(f"two comparisons: {ways}, of seeds {seeds}")
    programs = []
    for number, way in enumerate(ways):
        options = [f"--seeds={seeds[number]}", killed_studies.OUT, *way]
        programs.append(Program([*arguments, *options], bench.folder, bench.folder / f"log-{number}"))
        time.sleep(draw.uniform(0.0, 4 * WAIT))
    endings = [program.wait() for program in programs]
    for ending in endings:
        check("Traceback" not in ending.said, f"a traceback: {ending}")
        check(ending.code == 0, f"one of two comparisons: {ending}")
    killed_studies.check_study(bench.folder, bench.world)


def readers(bench: Bench) -> None:
    """A run that waits for answers, one who gives them, and others who look at it and evaluate it meanwhile."""
    run, draw = bench.world.run(bench.folder, WAITING), bench.draw
    watched = Watched(run)
    deadline = time.monotonic() + PATIENCE.seconds
    while True:
        fit = Program(run.command, bench.folder, run.log)
        while fit.process.exitcode is None and time.monotonic() < deadline:
            look(bench, run.folder, draw)
        ending = fit.wait()
        watched.check()
        if ending.code == 0:
            break
        check(ending.code == ExitCode.WAITING, f"it waits otherwise: {ending}")
        tellers = [PROCESSES.Process(target=answer, args=(run.path, None)) for _ in range(draw.randint(1, 3))]
        for teller in tellers:
            teller.start()
        look(bench, run.folder, draw)
        for teller in tellers:
            teller.join(PATIENCE.seconds)
            check(teller.exitcode == 0, f"one of {len(tellers)} who answer at once ended with {teller.exitcode}")
        watched.check()
    check_whole(run, bench.world.reference())


def look(bench: Bench, folder: RunFolder, draw: random.Random) -> None:
    """Runs a command that reads a run while others write it."""
    if not folder.config.exists():
        time.sleep(0.01)
        return
    command = draw.choice(["status run", "status run --json"])
    ending = Program(command.split(), bench.folder, bench.folder / "looks").wait()
    bench.note(f"amf {command}: {ending.code}")
    if ending.code != 0:
        check_refused(ending, ExitCode.BAD_INPUT)
        check(not folder.ledger.exists(), f"a run under way cannot be read: {ending}")


def crowd(bench: Bench) -> None:
    """One of these."""
    bench.draw.choice([two_fits, two_fits, two_studies, readers])(bench)


def prepare(world: World) -> None:
    """The run and the comparison of one process."""
    world.reference()
    killed_studies.reference(world)
