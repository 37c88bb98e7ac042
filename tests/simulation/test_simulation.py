"""Environments are made once and kept, but not without end."""

import pytest

from amf_lightning.simulation import simulation
from amf_lightning.simulation.simulation import environments
from amf_lightning.tasks.task import Episode, Task
from tiny import PointEnv, TinySuite


class OwnEnvironments(TinySuite):
    """Every task has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []
        self.closed: list[str] = []

    def environment_key(self, task: Task) -> str:
        return task.name

    def make(self, task: Task, render_mode: str | None = None) -> PointEnv:
        self.made.append(task.name)
        env = PointEnv(self.horizon)
        env.close = lambda: self.closed.append(task.name)  # type: ignore[method-assign]
        return env


def test_those_used_longest_ago_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "MOST_ENVIRONMENTS", 5)
    suite = OwnEnvironments()
    first, second, third, fourth = ([Episode(task, seed) for seed in (0, 1)] for task in suite.tasks)
    kept = environments(suite, first + second)
    assert environments(suite, second + first) == kept[2:] + kept[:2] and len(suite.made) == 4
    environments(suite, second)
    environments(suite, third)
    assert suite.closed == ["goal=-1", "goal=-1"]
    assert environments(suite, second) == kept[2:]
    everything = environments(suite, first + second + third + fourth)
    assert len(set(map(id, everything))) == 8, "what is in use is not given up"
    assert suite.closed == ["goal=-1", "goal=-1"]
