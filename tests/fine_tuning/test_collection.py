"""What an expert has shown is kept and never asked for again, however the rest of the round ends."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import Run, assert_same_outcome
from torch import Tensor

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.collection import Collection, Share
from amf_lightning.campaign.request import Request
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.experts.expert import Expert
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import Steer, TinyExpert, TinySuite

SUITE = TinySuite()
ALONE = Share(0, 1)


class Person(Expert):
    """Shows what is asked, but leaves instead of showing a certain demonstration."""

    def __init__(self, leaves_at: int | None = None, reason: BaseException | None = None) -> None:
        self.leaves_at, self.reason = leaves_at, reason
        self.asked: list[int] = []

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        shown = []
        for episode in episodes:
            self.asked.append(episode.seed)
            if episode.seed == self.leaves_at and self.reason is not None:
                raise self.reason
            shown += TinyExpert().demonstrate(suite, [episode], on_step)
        return shown


class Round:
    """One round of three demonstrations, whose seeds are their numbers."""

    def __init__(self, folder: Path) -> None:
        tasks = [SUITE.tasks[index] for index in (0, 2, 3)]
        requests = [Request(n, 0, task.name, task.index, "None", (), n) for n, task in enumerate(tasks)]
        self.campaign = Campaign(folder, SUITE)
        self.store, self.ledger = DemonstrationStore(folder / "demonstrations"), self.campaign.ledger
        self.ledger.ask(requests, {})

    def collect(self, expert: Expert) -> dict[int, str]:
        pending = self.campaign.pending
        collection = Collection(expert, SUITE, self.campaign.tell, ALONE, quiet=True)
        outcome = collection.run(list(zip(pending, self.campaign.episodes(pending), strict=True)))
        if outcome.failure is not None:
            raise outcome.failure
        return outcome.answers


@pytest.mark.parametrize("reason", [InputError("left"), RuntimeError("left"), KeyboardInterrupt("left")], ids=repr)
@pytest.mark.parametrize("wrapped", [False, True], ids=["asked itself", "limited"])
def test_a_person_who_leaves_is_not_asked_again_for_what_was_shown(
    tmp_path: Path, reason: BaseException, wrapped: bool
) -> None:
    def expert(person: Person) -> Expert:
        return LimitedExpert(person, {}) if wrapped else person

    round = Round(tmp_path)
    with pytest.raises(type(reason), match="left"):
        round.collect(expert(Person(2, reason)))
    assert list(round.ledger.recorded()) == [0, 1]
    again = Person()
    round.collect(expert(again))
    assert again.asked == [2]
    reference = Round(tmp_path / "reference")
    assert round.ledger.recorded() == reference.collect(TinyExpert()), "the bits are those of asking for all at once"


def test_what_cannot_be_used_is_not_written_and_what_came_before_is_kept(tmp_path: Path) -> None:
    class Twisted(Person):
        """Says of the second that it is of another task."""

        def demonstrate(
            self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
        ) -> list[Trajectory]:
            shown = super().demonstrate(suite, episodes, on_step)
            return [replace(each, task="goal=-1") for each in shown]

    round = Round(tmp_path)
    with pytest.raises(UserCodeError, match=r"Twisted: the demonstration of task 'goal=0.5'.*one of task 'goal=-1'"):
        round.collect(Twisted())
    assert list(round.ledger.recorded()) == [0]
    assert [path.name for path in round.store.folder.iterdir()] == ["000000.safetensors"]


def a_goal_is_out_of_reach() -> None:
    act = Steer.act

    def weak(self: Steer, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.where(contexts < -0.75, 0.0, act(self, observations, contexts))

    Steer.act = weak  # type: ignore[method-assign]


def a_robot_breaks() -> None:
    demonstrate = TinyExpert.demonstrate
    calls: list[int] = []

    def breaking(
        self: TinyExpert, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        calls.append(len(episodes))
        if len(calls) == 3:
            raise InputError("The gripper is stuck.")
        return demonstrate(self, suite, episodes, on_step)

    TinyExpert.side_by_side, TinyExpert.demonstrate = False, breaking  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize(
    ("cause", "kept", "reason"),
    [
        (a_goal_is_out_of_reach, ["000001", "000002"], "did not succeed"),
        (a_robot_breaks, ["000000", "000001"], "stuck"),
    ],
    ids=["simulated", "robot"],
)
def test_a_first_round_that_fails_keeps_what_was_shown_and_is_completed(
    make_run: Callable[..., Run], cause: Callable[[], None], kept: list[str], reason: str
) -> None:
    changes = {
        "selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["goal=-1", "goal=0.5", "goal=1"]}},
        "active": {"budget": 3, "batch_size": 3},
    }
    run = make_run("run", changes)
    assert run.finish(cause) == 2
    assert reason in run.log.read_text() and "Traceback" not in run.log.read_text()
    assert sorted(path.stem for path in run.folder.demonstrations.iterdir()) == kept
    written = {path: path.stat().st_mtime_ns for path in run.folder.demonstrations.iterdir()}
    run.complete()
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())
    assert_same_outcome(run, make_run("reference", changes).complete())
