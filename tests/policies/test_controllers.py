"""How policies act in episodes: by chunks, from what they remember, by keyed samples; each row on its own."""

from collections.abc import Sequence

import pytest
import torch
from field_policies import FlowPolicy
from selection_world import mlp
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.controllers import Chunked, EveryStep, PolicyController
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.steps import Steps, Window
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()


class Counting(Policy):
    """Predicts 0.1, 0.2, 0.3, …, each plus a hundredth of what it saw first in its window; keeps what it was asked."""

    window = Window(history=3, horizon=3)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unused", torch.zeros(1))
        self.asked: list[Tensor] = []

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        self.asked.append(steps.state.clone())
        return torch.tensor([0.1, 0.2, 0.3])[:, None] + steps.state[:, :1, :1] / 100


def acted(controller: PolicyController, count: int, width: int = 2) -> list[Tensor]:
    """Actions at `count` steps of episodes whose row i observes 10·i + step."""
    controller.begin([Episode(SUITE.tasks[0], seed) for seed in range(width)], width)
    shared, actions = torch.empty(width, 1), []
    for step in range(count):
        shared.copy_((10 * torch.arange(width) + step)[:, None])  # into the same tensor, as rollouts do
        actions.append(controller.act(Steps.of_state(shared, torch.zeros(width, 1))))
    return actions


@pytest.mark.parametrize(("execute", "asked_at"), [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (3, [0, 3, 6])])
def test_a_chunk_is_carried_out_for_k_steps_and_the_next_one_is_asked_for(execute: int, asked_at: list[int]) -> None:
    policy = Counting()
    actions = acted(Chunked(policy, execute), 7)
    assert [int(rows[0, -1]) for rows in policy.asked] == asked_at
    for step, rows in enumerate(actions):
        place = step % execute
        first_seen = max(0, step - place - 2)  # three observations, the last of them when the chunk was asked for
        expected = [0.1 * (place + 1) + first_seen / 100, 0.1 * (place + 1) + (10 + first_seen) / 100]
        assert rows.flatten().tolist() == pytest.approx(expected)


def test_by_default_a_whole_chunk_is_carried_out() -> None:
    assert [round(float(rows[0]), 3) for rows in acted(Chunked(Counting()), 4)] == [0.1, 0.2, 0.3, 0.11]


def test_the_first_observation_stands_where_there_was_none_before_it_and_begin_forgets() -> None:
    policy = Counting()
    controller = EveryStep(policy)
    for _ in range(2):
        policy.asked.clear()
        acted(controller, 4)
        assert [rows[1, :, 0].tolist() for rows in policy.asked] == [
            [10, 10, 10], [10, 10, 11], [10, 11, 12], [11, 12, 13],
        ]  # fmt: skip


def test_every_entry_of_an_observation_gets_its_history() -> None:
    seen: list[Steps] = []

    class Watched(Counting):
        def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
            seen.append(steps)
            return torch.zeros(1, 3, 1)

    controller = EveryStep(Watched())
    controller.begin([Episode(SUITE.tasks[0], 0)], 1)
    for step in range(2):
        entries = {"state": torch.full((1, 2), float(step)), "image": torch.full((1, 4, 4, 3), step, dtype=torch.uint8)}
        controller.act(Steps(entries, torch.tensor([2]), torch.ones(1, 1)))
    assert seen[1].observations["image"].shape == (1, 3, 4, 4, 3) and seen[1].observations["state"].shape == (1, 3, 2)
    assert seen[1].observations["image"].dtype == torch.uint8
    assert seen[1].observations["image"][0, :, 0, 0, 0].tolist() == [0, 0, 1]
    assert seen[1].tasks.tolist() == [2] and seen[1].contexts.shape == (1, 1)


def test_the_default_controller_follows_from_what_a_policy_predicts() -> None:
    assert type(mlp(SUITE).controller()) is EveryStep and type(Counting().controller()) is Chunked

    class Replanning(Counting):
        make_controller = staticmethod(lambda policy: Chunked(policy, execute=1))

    controller = Replanning().controller()
    assert isinstance(controller, Chunked) and controller.execute == 1


@pytest.mark.parametrize("execute", [0, 4])
def test_a_chunk_that_was_not_predicted_cannot_be_carried_out(execute: int) -> None:
    with pytest.raises(InputError, match=rf"execute is {execute}, but Counting predicts 3 actions.*from 1 to 3"):
        Chunked(Counting(), execute)


def sampling(kind: str) -> PolicyController:
    if kind == "mlp":
        return EveryStep(mlp(SUITE), sample=True)
    torch.manual_seed(0)
    return Chunked(FlowPolicy(SUITE.observation, 1, 1).eval(), execute=3)


def episodes_of(lengths: Sequence[int]) -> list[Episode]:
    """Episodes of unlike length, side by side."""
    tasks = [TinySuite(horizon=length).tasks[number % 4] for number, length in enumerate(lengths)]
    return [Episode(task, 100 + number) for number, task in enumerate(tasks)]


def same(one: Trajectory, other: Trajectory) -> bool:
    return bool((one.state == other.state).all() and (one.actions == other.actions).all())


@pytest.mark.parametrize("kind", ["mlp", "flow"])
def test_an_episode_has_the_same_bits_alone_and_beside_thirty_others_of_other_lengths(kind: str) -> None:
    controller, episodes = sampling(kind), episodes_of([5 + number % 7 for number in range(31)])
    together = rollout(controller, SUITE, episodes)
    assert [trajectory.length for trajectory in together] == [episode.task.horizon for episode in episodes]
    for number in (0, 3, 17, 30):
        (alone,) = rollout(controller, SUITE, [episodes[number]])
        assert same(alone, together[number])
    backwards = rollout(controller, SUITE, episodes[::-1])[::-1]
    assert all(same(one, other) for one, other in zip(together, backwards, strict=True))


@pytest.mark.parametrize("kind", ["mlp", "flow"])
def test_samples_are_keyed_by_the_episodes_seed_and_the_step(kind: str) -> None:
    controller, task = sampling(kind), SUITE.tasks[0]
    one, again, other = rollout(controller, SUITE, [Episode(task, seed) for seed in (1, 1, 2)])
    assert same(one, again) and (one.actions != other.actions).mean() > 0.5
    steps = Steps.of_state(torch.zeros(1, 2), torch.zeros(1, 1))
    controller.begin([Episode(task, 1)], 1)
    drawn = [controller.predicted(steps)]
    controller.act(steps)
    drawn.append(controller.predicted(steps))
    assert not torch.equal(*drawn)


def test_without_sampling_a_policy_that_samples_acts_the_same_whatever_the_seed() -> None:
    policy = FlowPolicy(SUITE.observation, 1, 1).eval()
    steps = Steps.of_state(torch.zeros(2, 2), torch.zeros(2, 1))
    for sample, alike in ((False, True), (None, False)):
        controller, actions = Chunked(policy, sample=sample), []
        for seed in (1, 2):
            controller.begin([Episode(SUITE.tasks[0], seed)] * 2, 2)
            actions.append(controller.act(steps))
        assert torch.equal(*actions) is alike and torch.equal(actions[0], policy.act(steps)) is alike


def test_a_policy_that_acts_without_chunks_acts_by_its_mean_at_every_step() -> None:
    policy: MLPPolicy = mlp(SUITE)
    steps = Steps.of_state(torch.randn(3, 2), torch.randn(3, 1))
    controller = policy.controller()
    controller.begin([], 3)
    assert torch.equal(controller.act(steps), policy.act(steps)) and controller.device == policy.device
