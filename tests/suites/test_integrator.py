import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import check_scorable, normalised_scores
from amf_lightning.experts.scripted import IntegratorExpert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.gymnasium_simulation import GymnasiumSimulation, simulate
from amf_lightning.simulation.render import render_frames
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.designed import PreciseGoals
from amf_lightning.suites.integrator import Integrator, IntegratorSimulation
from amf_lightning.tasks.task import Episode, Task
from tiny import TinySuite


def test_twelve_goals_lie_on_a_circle_one_every_thirty_degrees() -> None:
    suite = Integrator(radius=2.0)
    assert [task.name for task in suite.tasks] == [f"angle={angle}" for angle in range(0, 360, 30)]
    corners = torch.fft.fft(torch.complex(suite.contexts[:, 0], suite.contexts[:, 1]))
    assert corners.abs().round(decimals=4).tolist() == [0, 24] + [0] * 10  # one turn, evenly, of radius 2


def test_any_angles_are_tasks_and_can_be_scored() -> None:
    suite = Integrator([12.5, -90])
    assert [task.name for task in suite.tasks] == ["angle=12.5", "angle=-90"]
    assert suite.contexts[1].tolist() == pytest.approx([0, -1], abs=1e-7)
    check_scorable(suite)


class Push:
    """The same action always."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.tensor([[1.0, -0.5]]).repeat(len(observations), 1)


def test_an_action_is_a_velocity_and_the_distance_to_the_goal_costs() -> None:
    suite = Integrator([0], horizon=5)
    (trajectory,) = rollout(Push(), suite, [Episode(suite.tasks[0], 3)])
    assert np.abs(trajectory.state[0]).max() <= 0.1
    np.testing.assert_allclose(np.diff(trajectory.state, axis=0), [[0.1, -0.05]] * 5, atol=1e-6)
    distances = [math.dist(position, (1, 0)) for position in trajectory.state[1:]]
    assert trajectory.rewards is not None
    assert trajectory.rewards.tolist() == pytest.approx([-distance for distance in distances], abs=1e-6)
    assert trajectory.metrics["distance"] == pytest.approx(distances[-1], abs=1e-6)
    assert not trajectory.success


def test_the_expert_goes_straight_to_the_goal_and_stays() -> None:
    suite = Integrator()
    for trajectory in IntegratorExpert().demonstrate(suite, [Episode(task, task.index) for task in suite.tasks]):
        goal = np.array(suite.task(trajectory.task).context)
        assert trajectory.success
        assert np.linalg.norm(trajectory.actions, axis=1).max() < 1 + 1e-6
        np.testing.assert_allclose(trajectory.state[-5:], np.tile(goal, (5, 1)), atol=1e-6)
        path = trajectory.state - trajectory.state[0]
        assert np.linalg.matrix_rank(path, tol=1e-5) == 1


def test_reference_returns_are_those_of_rollouts() -> None:
    suite = Integrator([20, 200])
    episodes = [Episode(suite.tasks[1], seed) for seed in range(100)]
    blind = torch.tensor([t.episode_return for t in rollout(UniformActor(2), suite, episodes)])
    shown = torch.tensor([t.episode_return for t in IntegratorExpert().demonstrate(suite, episodes)])
    assert suite.reference is not None
    for returns, expected in ((blind, suite.reference.random[1]), (shown, suite.reference.expert[1])):
        assert abs(float(returns.mean()) - expected) < 4 * float(returns.std()) / 10
    assert float(shown.std()) == pytest.approx(suite.reference.spread[1], rel=0.25)
    bounds = torch.tensor([suite.reference.random[0], suite.reference.expert[1]])
    assert normalised_scores(bounds, suite.reference).tolist() == pytest.approx([0, 1])


class Stepped(Integrator):
    """Makes its environments by itself, so gymnasium steps them."""

    def make(self, task: Task, render_mode: str | None = None) -> Any:
        return super().make(task, render_mode)


class SteppedPreciseGoals(PreciseGoals):
    def make(self, task: Task, render_mode: str | None = None) -> Any:
        return super().make(task, render_mode)


class Straight:
    """To the goal."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return 10 * (contexts - observations)


class Wavering:
    """Actions that depend on all that is seen, some of them out of bounds."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return 1.5 * torch.sin(7 * observations + contexts) + 0.1 * contexts


@pytest.mark.parametrize(("suite", "stepped"), [(Integrator(), Stepped()), (PreciseGoals(), SteppedPreciseGoals())])
def test_episodes_side_by_side_are_those_of_the_environments_bit_for_bit(
    suite: Integrator, stepped: Integrator
) -> None:
    assert isinstance(simulate(suite, [Episode(suite.tasks[0], 0)]), IntegratorSimulation)
    assert isinstance(simulate(stepped, [Episode(stepped.tasks[0], 0)]), GymnasiumSimulation)
    episodes = [Episode(task, 100 + seed) for seed in range(3) for task in suite.tasks]
    for actor in (Wavering(), Straight()):
        ours, theirs = (rollout(actor, each, episodes, noise=0.1) for each in (suite, stepped))
        assert any(trajectory.success for trajectory in ours) == isinstance(actor, Straight)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.success == other.success and mine.metrics == other.metrics
            assert mine.rewards is not None and other.rewards is not None
            assert mine.rewards.tobytes() == other.rewards.tobytes()
            assert mine.state.tobytes() == other.state.tobytes() and mine.actions.tobytes() == other.actions.tobytes()


def test_an_episode_can_be_drawn() -> None:
    suite = Integrator([0])
    frames = render_frames(Push(), suite, Episode(suite.tasks[0], 0), every=10, size=128)
    assert [frame.shape for frame in frames] == [(128, 128, 3)] * 3
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angles": []}, "at least one and all different"),
        ({"angles": [0, 360]}, "all different"),
        ({"radius": 0.0}, "must be positive"),
        ({"horizon": 0}, "must be positive"),
        ({"tolerance": -1.0}, "must be positive"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Integrator(**options)


def test_an_episode_without_a_goal_is_refused() -> None:
    suite = Integrator()
    with pytest.raises(InputError, match="no default goal"):
        suite.make(suite.tasks[0]).reset(seed=0)


def test_experts_do_not_demonstrate_other_suites() -> None:
    suite = TinySuite()
    with pytest.raises(InputError, match="knows the suite Integrator, not 'tiny'"):
        IntegratorExpert().demonstrate(suite, [Episode(suite.tasks[0], 0)])
