"""The lab of the soak, with few kills: every kind of command is killed. All of it: `make lab`."""

import random
from pathlib import Path

from soak import lab
from soak.case import Bench
from soak.world import World

OFTEN = {"fit": 3, "add": 3, "next": 1, "skip": 2, "undo": 2, "score": 3}
"""Kills of each command, those of a second try aside."""


def test_a_lab_whose_commands_are_killed_plays_the_same_campaign(tmp_path: Path) -> None:
    draw, world = random.Random(14), World(tmp_path / "world")
    (tmp_path / "lab").mkdir()
    bench = Bench(world, tmp_path / "lab", draw)
    names = sorted(lab.prepare(world).lengths)
    killed = {
        name
        for command, number in OFTEN.items()
        for name in draw.sample([each for each in names if each.endswith(command)], number)
    }
    kills = lab.play(bench, killed.__contains__).kills
    assert kills.keys() == OFTEN.keys() and bench.kills == sum(kills.values()) >= 10, bench.notes
