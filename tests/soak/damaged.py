"""Damaged files of every kind that the program reads, and every command that reads them.

A command that meets one ends with a line, exit code 2 (or 74) and everything as it was, or with the same result as if
the file were whole.
"""

import json
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from amf_process import tree
from tiny_runs import Run, outcome

from amf_lightning.errors import ExitCode
from soak import killed_studies
from soak.case import Bench
from soak.damage import CHANGES_NUMBERS, DAMAGES, missing
from soak.lost import check
from soak.moments import End, Moment, end_at
from soak.program import Ending, Program, check_refused
from soak.world import World

Results = Mapping[str, bytes]


@dataclass(frozen=True)
class Exhibit:
    """A folder in which files are damaged, one at a time, and the commands that read it."""

    name: str
    make: Callable[[World, Path], None]
    """Lays it into an empty folder."""
    commands: tuple[str, ...]
    """As typed in that folder, without `amf`."""
    results: Callable[[Path], Results]
    """What must not change in silence; of the files that are damaged the damaged ones are left out."""
    damaged: str = "**/*"
    """The files that are damaged."""
    hashed: bool = True
    """Whether the program can know that a number is another one than was written."""


def finished_run(world: World, folder: Path) -> None:
    """A run that has ended, with its configuration beside it."""
    reference = world.reference()
    shutil.copytree(reference.path, folder / "run", symlinks=True)
    _configuration(world, folder)


def unfinished_run(world: World, folder: Path) -> None:
    """A run that was killed in its second round."""

    def make(place: Path) -> Run:
        run = world.run(place)
        end = End(Moment("checkpoint", world.moments["checkpoint"] // 2), signal.SIGKILL)
        ending = Program(run.command, place, run.log, end_at, end).wait()
        if ending.code != -signal.SIGKILL or not run.folder.checkpoint.exists():
            raise RuntimeError(f"it was not killed after its first round: {ending}")
        return run

    run = world.once("unfinished", make)
    shutil.copytree(run.path, folder / "run", symlinks=True)
    _configuration(world, folder)


def recordings(world: World, folder: Path) -> None:
    """The demonstrations of a run, for an expert that gives recorded ones."""
    shutil.copytree(world.reference().folder.demonstrations, folder / "store")
    expert = {"class_path": "RecordedExpert", "init_args": {"folder": "store"}}
    _configuration(world, folder, {"expert": expert, "active": {"budget": 2}})


def policy_file(world: World, folder: Path) -> None:
    """The policy that runs start from."""
    shutil.copy(world.pretrained, folder / "policy.safetensors")
    _configuration(world, folder, {"model": {"pretrained": "policy.safetensors"}, "active": {"budget": 2}})


def study(world: World, folder: Path) -> None:
    """A comparison that has ended."""
    world.study(folder)
    shutil.copytree(killed_studies.reference(world) / "out", folder / "out", symlinks=True)


def _configuration(world: World, folder: Path, changes: Mapping[str, object] | None = None) -> None:
    run = world.run(folder, changes)
    _ = run.command  # writes it
    for path in (folder / "run.yaml",):
        path.write_text(path.read_text().replace(str(folder), "."))


def of_run(folder: Path) -> Results:
    """What a run came to; nothing of one that has not ended."""
    run = Run(folder / "run", {})
    if not run.folder.policy.exists() or not run.folder.report.exists():
        return {}
    return {f"run/{name}": content for name, content in outcome(run).items()}


def of_study(folder: Path) -> Results:
    """The rows and the summary of a comparison."""
    return {f"out/{name}": content for name, content in killed_studies.results(folder).items()}


def of_summary(folder: Path) -> Results:
    """The summary of a comparison, of rows that the command only reads."""
    return {name: content for name, content in of_study(folder).items() if name.endswith("summary.json")}


FIT = "fit --config run.yaml --trainer.default_root_dir run"
VALIDATE = "validate --config run.yaml --trainer.default_root_dir run"
COMPARE = "compare --config study.yaml --seeds 0:2 --output out --share-imports"
EXHIBITS = (
    Exhibit("finished run", finished_run, ("status run", "status run --json", FIT), of_run, "run/**/*"),
    Exhibit("validated run", finished_run, (VALIDATE,), lambda folder: {}, "run/**/*"),
    Exhibit("unfinished run", unfinished_run, ("status run", FIT), of_run, "run/**/*"),
    # A store carries no hashes, so that people can make their own: a number in it that changed is another number.
    Exhibit("recordings", recordings, (FIT,), of_run, "store/*", hashed=False),
    Exhibit("policy", policy_file, (FIT,), of_run, "policy.safetensors"),
    Exhibit("validated policy", policy_file, (f"{VALIDATE} --ckpt_path policy.safetensors",), of_run, "*.safetensors"),
    Exhibit("study", study, (COMPARE,), of_study, "out/**/*"),
    Exhibit("rows of a study", study, (f"{COMPARE} --from-curves",), of_summary, "out/curves/*"),
)
UNREAD = re.compile(r".*(events\.out\.tfevents\..*|\.png|\.gif|\.log|report\.md|summary\.(md|json)|hparams\.yaml)")
"""Files that no command reads; who damages them damages what a person sees until the next report."""


DISPENSABLE = ("curve.csv",)
"""A table that a run that has not ended need not have: it is written anew in the next round."""


def expected(world: World, exhibit: Exhibit, place: int) -> tuple[Ending, Results]:
    """How a command ends, and what it comes to, on an exhibit that is whole."""

    def make(folder: Path) -> tuple[Ending, Results]:
        exhibit.make(world, folder)
        ending = run_command(exhibit.commands[place], folder)
        if ending.code != 0:
            raise RuntimeError(f"amf {exhibit.commands[place]} fails on what is whole: {ending}")
        return ending, exhibit.results(folder)

    return world.once(f"{exhibit.name} {place}", make)


def run_command(command: str, folder: Path) -> Ending:
    """Runs a command in a folder; its log lies beside that folder."""
    return Program(command.split(), folder, folder.with_name(f"{folder.name}.log")).wait()


def damaged(bench: Bench) -> None:
    """One damaged file, and each command that reads what it is part of."""
    draw, world = bench.draw, bench.world
    exhibit = draw.choice(EXHIBITS)
    original = bench.folder / "original"
    original.mkdir()
    exhibit.make(world, original)
    file, how = damage(original, exhibit, draw)
    for place, command in enumerate(exhibit.commands):
        bench.note(f"{exhibit.name}: {file} has {how}: amf {command}")
        bench.inputs += 1
        folder = bench.folder / f"copy-{place}"
        shutil.copytree(original, folder, symlinks=True)
        before = tree(folder)
        ending = run_command(command, folder)
        usual, results = expected(world, exhibit, place)
        if ending.code == 0:
            check("Traceback" not in ending.said, f"a traceback: {ending}")
            reads = command.startswith(("status", "validate"))
            if not reads and not says_what_is_missing(folder):
                there = exhibit.results(folder)
                differing = [name for name in results if there.get(name) != results[name]]
                check(not differing, f"{differing} changed in silence: {ending}")
            if reads:
                shown = said(ending, folder), said(usual, world.folder / f"{exhibit.name} {place}")
                check(shown[0] == shown[1], f"it says another thing in silence: {shown[0]}\ninstead of\n{shown[1]}")
        else:
            check_refused(ending, ExitCode.BAD_INPUT, ExitCode.MACHINE)
            after = tree(folder)
            changed = [name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0)]
            check(not changed, f"it refuses, and changes {changed}: {ending}")


def says_what_is_missing(folder: Path) -> bool:
    """Whether the summary of a comparison names runs that it is without."""
    summary = folder / "out" / "summary.json"
    return summary.exists() and bool(json.loads(summary.read_text())["meta"]["missing"])


def damage(folder: Path, exhibit: Exhibit, draw: random.Random) -> tuple[str, str]:
    """Damages one file below a folder; its name and how."""
    files = sorted(path for path in folder.glob(exhibit.damaged) if path.is_file())
    # Files that nobody reads are left in, but rarely.
    weights = [0.1 if UNREAD.fullmatch(path.name) else 1.0 for path in files]
    [path] = draw.choices(files, weights)
    ways = [way for way in DAMAGES if exhibit.hashed or way not in CHANGES_NUMBERS]
    if path.name in DISPENSABLE or not exhibit.hashed:
        ways.remove(missing)
    way = draw.choice(ways)
    how = way(path, draw)
    return str(path.relative_to(folder)), how


def said(ending: Ending, folder: Path) -> str:
    """What a command printed, whichever folder it works in."""
    return ending.said.replace(str(folder), ".").replace(os.path.realpath(folder), ".")


def prepare(world: World) -> None:
    """What is damaged, and what commands say of it when it is whole."""
    for exhibit in EXHIBITS:
        for place in range(len(exhibit.commands)):
            expected(world, exhibit, place)
