"""Disks that are full or cannot be written to: a line says so, and nothing is lost when that is mended."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from amf_process import tree
from tiny_runs import Run

from amf_lightning.errors import ExitCode
from soak.case import Bench
from soak.killed import Watched, check_whole, drawn_end
from soak.lost import check
from soak.moments import end_at
from soak.program import Program, check_refused
from soak.world import BUDGET, World

LARGE = "64m"
NEEDED = 330
"""Kilobytes that a finished run takes, roughly; a smaller disk is full at some time."""


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own at a folder; gone with all that is on it at the end."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={LARGE}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


def remount(folder: Path, option: str) -> None:
    """Changes an option of a mounted disk."""
    _mount("-o", f"remount,{option}", str(folder))


@cache
def may_mount() -> bool:
    """Whether this process may mount disks: it is root, and not in a container that forbids it."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def full_disk(bench: Bench) -> None:
    """A disk fills up once to three times before it is made larger; what is there goes on."""
    draw, run = bench.draw, bench.world.run(bench.folder)
    with small_disk(run.path) if may_mount() else nullcontext():
        watched = Watched(run)
        for _ in range(draw.randint(1, 3)):
            before: tuple[Any, ...] = ()
            if may_mount():
                size = max(draw.randrange(8, NEEDED), used(run.path) // 1024 + 4) // 4 * 4
                bench.note(f"a disk of {size} KB")
                remount(run.path, f"size={size}k")
            else:
                size = draw.randrange(NEEDED // 4)
                bench.note(f"files of {size} KB at most")
                before = (limit_files, size * 1024)
            ending = Program(run.command, bench.folder, run.log, *before).wait()
            bench.inputs += 1
            if ending.code != 0:
                check_refused(ending, ExitCode.MACHINE)
            watched.check()
        if may_mount():
            remount(run.path, f"size={LARGE}")
        check_goes_on(bench, run, watched)


def read_only_disk(bench: Bench) -> None:
    """A run that was killed lies on a disk that cannot be written to, and later can."""
    draw, run = bench.draw, bench.world.run(bench.folder)
    with small_disk(run.path) if may_mount() else nullcontext():
        watched = Watched(run)
        if draw.random() < 0.8:
            end = replace(drawn_end(draw, bench.world.moments), number=signal.SIGKILL)
            bench.note(f"{end}; then the disk is read-only")
            bench.kills += Program(run.command, bench.folder, run.log, end_at, end).wait().code != 0
            watched.check()
        set_writable(run.path, False)
        before, finished = tree(run.path), run.folder.finished(BUDGET)
        ending = Program(run.command, bench.folder, run.log).wait()
        bench.inputs += 1
        if ending.code != 0 or not finished:
            check_refused(ending, ExitCode.MACHINE)
        check(tree(run.path) == before, "a disk that cannot be written to changed")
        set_writable(run.path, True)
        check_goes_on(bench, run, watched)


def set_writable(folder: Path, writable: bool) -> None:
    """Makes a disk read-only or not; where nothing can be mounted, the folders on it."""
    if may_mount():
        return remount(folder, "rw" if writable else "ro")
    folder.mkdir(exist_ok=True)
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        place.chmod(0o700 if writable else 0o500)
    return None


def limit_files(size: int) -> None:
    """Lets no file of this process grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def check_goes_on(bench: Bench, run: Run, watched: Watched) -> None:
    """Raises unless the run ends as if nothing had happened, now that it can."""
    ending = Program(run.command, bench.folder, run.log).wait()
    check(ending.code == 0, f"once the disk is as it should be: {ending}")
    watched.check()
    check_whole(run, bench.world.reference())


def used(disk: Path) -> int:
    """Bytes that are taken."""
    facts = os.statvfs(disk)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def prepare(world: World) -> None:
    """The uninterrupted run, and its moments."""
    world.reference()
    _ = world.moments
