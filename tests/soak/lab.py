"""A lab plays five rounds: two operators at once, recordings with a camera in LeRobot's format, each step a process.

Every step may be killed between any two lines of the package, or at any sign of life of `amf fit`. Whoever had typed
the command types it again, as a person does: not if it had said that it was done. The campaign must then be, after
every step, the one that nobody interrupted.
"""

import itertools
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tiny_runs import CONFIGS, Run, outcome

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.demonstrations.exporting import lerobot
from amf_lightning.errors import ExitCode
from amf_lightning.evaluation.trial_reports import REPORTED, read_trial_reports
from amf_lightning.tasks.trajectory import Trajectory
from soak.case import Bench
from soak.lab_policy import CAMERA
from soak.lost import check
from soak.moments import End, Moment, count_moments, end_at, write_moments
from soak.program import PATIENCE, Program
from soak.waiting import facts, traced
from soak.world import World

TASKS = ("push", "pull", "lift")
STEPS, BUDGET = 6, 10
CONFIG: dict[str, Any] = {
    "config": str(CONFIGS / "base.yaml"),
    "suite": {
        "class_path": "StaticSuite",
        "init_args": {
            "name": "lab",
            "observation": {"state": {"shape": [3]}, CAMERA: {"shape": [96, 96, 3], "dtype": "uint8"}},
            "action_dim": 2,
            "tasks": list(TASKS),
            "horizon": STEPS,
        },
    },
    "expert": "AwaitedExpert",
    "model": {"policy": {"class_path": "soak.lab_policy.CameraPolicy"}},
    "selector": {
        "class_path": "InformationGain",
        "init_args": {"embedding": "LossGradient", "occupancy": "Demonstrated"},
    },
    "retention": "L2ToPretrained",
    "evaluation": "ReportedEpisodes",
    "data": {"batch_size": 8, "steps_per_round": 6},
    "active": {"budget": BUDGET, "batch_size": 2},
    "reports": {"animation": False},
    "trainer": {"log_every_n_steps": 4, "enable_progress_bar": False},
}
AGAIN = 0.4
"""How likely the next try of a command that was killed is killed, too; at most, as it is shorter."""
UNREAD = 255
"""What multiprocessing gives where its server could not say how a process ended; `amf` has no such code. It was seen
twice in some 1,300 kills: the command is typed again, as after a kill."""
TOLD = ("Thank you. This is report", "is taken back")
"""What is heard of a command that would do more if it were typed again."""


@dataclass(frozen=True)
class Typed:
    """A command that an operator types."""

    who: str
    arguments: tuple[str, ...]
    code: int = 0
    """With which it ends."""

    @property
    def command(self) -> str:
        return self.arguments[0]

    @property
    def done_again(self) -> bool:
        """Whether it would do more if it were typed again on purpose."""
        return self.command == "score" or (self.command == "undo" and not self.arguments[2].isdigit())


Before = tuple[Any, ...]
"""What is called in the process of a command first, with its arguments; empty for nothing."""


@dataclass
class Lab:
    """A run, its operators, and what there was after each step.

    Args:
        folder: of the lab.
        disturb: what happens to a try of a command, by its name in the script and the number of the try.
        note: is told what is typed.
    """

    folder: Path
    disturb: Callable[[str, Typed, int], Before]
    note: Callable[[str], None]
    kills: dict[str, int] = field(default_factory=dict)
    """By command."""
    history: list[Any] = field(default_factory=list)
    heard: int = 0
    """Commands that were killed after they had said that they were done, and so were not typed again: their notes may
    stay."""
    answered: list[str] = field(default_factory=list)
    """What `amf next` said in each round, without the folder."""

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def do(self, *commands: Typed) -> list[str]:
        """Types commands, all at once, each until it is done; what each said at last."""
        before = self.state()
        if any(each.command == "undo" for each in commands):
            before["recorded"] = {}  # what may be taken back meanwhile
        names = [f"{len(self.history)} {each.who} {each.command}" for each in commands]
        first = [self._start(each, self.disturb(name, each, 0)) for name, each in zip(names, commands, strict=True)]
        said = [self._until_done(*each, before) for each in zip(names, commands, first, strict=True)]
        self.history.append(self.state())
        return said

    def state(self) -> dict[str, Any]:
        """All that was asked and answered."""
        reports = read_trial_reports(self.run / REPORTED, str)
        trials = sorted((each.demonstrations, each.task, each.success, each.episodes, each.by) for each in reports)
        there = facts(self.run) if (self.run / "ledger.sqlite").exists() else {}
        return {**there, "trials": trials}

    def _start(self, typed: Typed, before: Before) -> Program:
        log = self.folder / f"{typed.who}.log"
        return Program(typed.arguments, self.folder, log, *(before or (do_nothing,)))

    def _until_done(self, name: str, typed: Typed, program: Program, before: dict[str, Any]) -> str:
        for tries in itertools.count(1):
            ending = program.wait(2 * PATIENCE.seconds)
            self._check_nothing_lost(typed, before)
            if ending.code not in (-signal.SIGKILL, UNREAD):
                check(ending.code == typed.code and "Traceback" not in ending.said, f"{typed}: {ending}")
                return ending.said
            self.kills[typed.command] = self.kills.get(typed.command, 0) + 1
            heard = typed.done_again and any(words in ending.said for words in TOLD)
            self.note(f"{' '.join(typed.arguments)} was killed{', but had said that it was done' if heard else ''}")
            if heard:
                self.heard += 1
                return ending.said
            program = self._start(typed, self.disturb(name, typed, tries))
        raise AssertionError

    def _check_nothing_lost(self, typed: Typed, before: dict[str, Any]) -> None:
        there = self.state()
        asked = before.get("asked", [])
        check(there.get("asked", [])[: len(asked)] == asked, f"after {typed} requests changed: {there}")
        gone = set(before["trials"]) - set(there["trials"])
        gone |= before.get("recorded", {}).items() - there.get("recorded", {}).items()
        check(not gone, f"after {typed} these are gone: {gone}")

    # -- what is typed ------------------------------------------------------------------------------------------------

    def fit(self, code: int) -> None:
        config = self.folder / "lab.yaml"
        config.write_text(yaml.safe_dump(CONFIG))
        arguments = ("fit", "--config", str(config), "--trainer.default_root_dir", str(self.run))
        self.do(Typed("cron", arguments, code))

    def asked(self) -> list[dict[str, Any]]:
        """The open requests, which both operators look up at once."""
        show = ("next", str(self.run), "--json")
        said = [
            json.loads(each[each.index("{") :].replace(str(self.folder), ""))
            for each in self.do(Typed("ann", show), Typed("bo", show))
        ]
        check(said[0] == said[1], f"two who ask are told {said}")
        self.answered.append(json.dumps(said[0]))
        requests: list[dict[str, Any]] = said[0]["requests"]
        return requests

    def dataset(self, name: str, *tasks: str) -> str:
        """A dataset with an episode of each task; which ones, its name says."""
        path = self.folder / name
        if not path.exists():
            lerobot.write(path, [recorded(task, f"{name} {number}") for number, task in enumerate(tasks)])
        return str(path)

    def add(self, who: str, request: dict[str, Any], name: str) -> Typed:
        dataset = self.dataset(f"{name}-{request['number']}", request["task"])
        return Typed(who, ("add", str(self.run), dataset, "--request", str(request["number"]), "--by", who))

    def tries(self, who: str, task: str, *said: str) -> Typed:
        return Typed(who, ("score", str(self.run), "--task", task, "--success", *said, "--by", who))


def do_nothing() -> None:
    """Leaves a process as it is."""


def recorded(task: str, key: str) -> Trajectory:
    """A recording of a task: a bright square that moves over a dark table, and where the arm is."""
    draw = np.random.default_rng(list(key.encode()))
    goal = np.array([1.0, 0.0]) if task == "push" else np.array([-1.0, 0.0]) if task == "pull" else np.array([0.0, 1.0])
    place, pictures, states, actions = draw.uniform(-0.3, 0.3, 2), [], [], []
    for step in range(STEPS):
        picture = np.full((96, 96, 3), 20, np.uint8)
        row, column = (48 + 30 * place).clip(0, 80).astype(int)
        picture[row : row + 16, column : column + 16] = draw.integers(180, 255)
        pictures.append(picture)
        states.append([*place, step / STEPS])
        actions.append(np.clip(goal - place, -1, 1))
        place = place + 0.2 * actions[-1]
    observations: dict[str, NDArray[Any]] = {"state": np.array(states, np.float32), CAMERA: np.stack(pictures)}
    return Trajectory(observations, np.array(actions, np.float32), None, task)


def five_rounds(lab: Lab) -> None:
    """Everything that is typed, from the empty folder to the report."""
    run = str(lab.run)
    lab.fit(ExitCode.WAITING)
    for number in range(5):
        first, second = lab.asked()
        ann, bo = lab.add("ann", first, "ann"), lab.add("bo", second, "bo")
        if number == 1:  # bo thinks that it will not come, and finds that it will
            lab.do(ann, Typed("bo", ("skip", run, str(second["number"]), "--reason", "no time", "--by", "bo")))
            lab.do(Typed("bo", ("undo", run, str(second["number"]), "--by", "bo")))
            lab.do(bo)
        elif number == 2:  # ann hands over a bad one and takes it back, while bo tries the policy
            lab.do(lab.add("ann", first, "bad"))
            lab.do(Typed("ann", ("undo", run, "--by", "ann")), lab.tries("bo", "push", "3/5", "--reason", "slipped"))
            lab.do(ann, bo)
        elif number == 3:  # one will never come: the round has one recording, and the choice after it makes up for that
            broken = ("skip", run, str(second["number"]), "--reason", "the gripper is broken", "--by", "bo")
            lab.do(ann, Typed("bo", broken))
        elif number == 4:  # ann's dataset has one more than was asked for
            lab.do(bo)
            both = lab.dataset("both", first["task"], "lift")
            lab.do(Typed("ann", ("add", run, both, "--by", "ann")))
        else:
            lab.do(ann, bo)
        lab.fit(0 if number == 4 else ExitCode.WAITING)
    lab.do(lab.tries("ann", "push", "7/10"), lab.tries("bo", "pull", "8/10", "--id", "friday"))
    for _ in range(2):  # twice the same, on purpose
        lab.do(lab.tries("ann", "lift", "yes"))
    lab.do(lab.tries("ann", "lift", "no", "--reason", "it fell"), lab.tries("bo", "lift", "yes"))
    lab.fit(0)


# -- the campaign that nobody interrupts, and those that are killed ----------------------------------------------------


@dataclass(frozen=True)
class Whole:
    """What came of the campaign that nobody interrupts, and how long its steps are."""

    lab: Lab
    lengths: dict[str, dict[str, int]]
    """Of each command by its name: lines of the package, or signs of life by phase."""


def whole(folder: Path) -> Whole:
    """Plays the campaign without a kill, and measures its steps."""

    def measured(name: str, typed: Typed, _: int) -> Before:
        return (write_moments if typed.command == "fit" else count_lines), folder / f"{name}.length"

    lab = Lab(folder, measured, lambda _: None)
    five_rounds(lab)
    lengths = {path.stem: dict(count_moments(path)) for path in folder.glob("* fit.length")}
    lengths |= {path.stem: {"": int(path.read_text())} for path in folder.glob("*.length") if path.stem not in lengths}
    return Whole(lab, lengths)


def count_lines(file: Path) -> None:
    """Keeps in a file how many lines of the package a process has run."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    traced(lambda line: os.pwrite(descriptor, str(line + 1).encode(), 0))


def die_before(line: int) -> None:
    """Makes a process die before a line of the package."""
    traced(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == line else None)


def killed_at(draw: random.Random, length: dict[str, int], is_fit: bool) -> Before:
    """A kill at some instant of a command."""
    if not is_fit:
        return die_before, draw.randrange(length[""])
    phase = draw.choice(sorted(length))
    delay = draw.choice([0.0, draw.uniform(0.0002, 0.006)])
    return end_at, End(Moment(phase, draw.randrange(length[phase])), signal.SIGKILL, delay)


def play(bench: Bench, wanted: Callable[[str], bool]) -> Lab:
    """Plays the campaign with a kill in each wanted step, a second one in some, and holds it against the other."""
    reference, key = prepare(bench.world), bench.draw.random()

    def disturb(name: str, typed: Typed, tries: int) -> Before:
        draw = random.Random(f"{key} {name} {tries}")
        if not wanted(name) or draw.random() > AGAIN**tries:
            return ()
        before = killed_at(draw, reference.lengths[name], typed.command == "fit")
        bench.note(f"{name}, try {tries}: {before[0].__name__} {before[1]}")
        return before

    lab = Lab(bench.folder, disturb, bench.note)
    try:
        five_rounds(lab)
    finally:
        bench.kills += sum(lab.kills.values())
    check(len(lab.history) == len(reference.lab.history), "another number of steps")
    for step, (there, expected) in enumerate(zip(lab.history, reference.lab.history, strict=True)):
        differing = [key for key in expected if there[key] != expected[key]]
        check(not differing, f"after step {step} {differing} differ: {there} instead of {expected}")
    check(lab.answered == reference.lab.answered, "`amf next` said something else")
    mine, theirs = outcome(Run(lab.run, {})), outcome(Run(reference.lab.run, {}))
    check(mine.keys() == theirs.keys(), f"other files: {sorted(mine.keys() ^ theirs.keys())}")
    check(mine == theirs, f"other bytes in {[name for name in theirs if mine[name] != theirs[name]]}")
    left = [str(path) for path in lab.run.rglob("*.partial")]
    check(not left, f"left behind: {left}")
    notes = [str(path) for path in lab.run.glob(".unconfirmed/*")]
    check(len(notes) <= lab.heard, f"notes of commands that were confirmed: {notes}")
    check(RunFolder(lab.run).finished(BUDGET), "the run is not finished")
    return lab


def killed_lab(bench: Bench) -> None:
    """A kill in every step."""
    play(bench, lambda name: True)


def prepare(world: World) -> Whole:
    """The campaign that nobody interrupts."""
    return world.once("lab", whole)
