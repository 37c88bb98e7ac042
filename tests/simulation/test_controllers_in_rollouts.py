"""An episode is a function of (weights, task, seed) alone: also with a memory, and where pictures are observed."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.rollout import rollout
from amf_lightning.simulation.simulation import simulator_of
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, Task, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import PointEnv, TinySuite


class Seen(gymnasium.Env[Any, Any]):
    """A point on a line that is observed as a position and as a bright column in a picture of 8 x 8 bytes.

    Args:
        horizon: steps; an episode ends sooner where the point leaves the picture.
        shade: type of the numbers of the picture; the space says bytes.
    """

    observation_space = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8), np.uint8), "x": spaces.Box(-9, 9, (1,))})
    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, horizon: int = 10, shade: str = "uint8") -> None:
        self.horizon, self.picture = horizon, np.zeros((8, 8), shade)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.steps = float(self.np_random.uniform(2, 5)), 0
        return self._observed(), {}

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        self.steps += 1
        outside = not 0 <= self.x < 8
        return self._observed(), -abs(self.x - 4), outside, self.steps >= self.horizon, {"success": not outside}

    def _observed(self) -> dict[str, Any]:
        self.picture[:] = 0  # the same buffer every time, as renderers do it
        self.picture[:, int(np.clip(self.x, 0, 7))] = 200
        return {"camera": self.picture, "x": np.array([self.x], dtype=np.float32)}


def seen(**arguments: Any) -> GymnasiumSuite:
    tasks = [GymnasiumTask("left", [-1.0]), GymnasiumTask("right", [1.0])]
    return GymnasiumSuite(f"{__name__}.Seen", tasks, 10, arguments)


class Swinging(Controller):
    """Its action depends on the task, the episode's seed, the steps taken, and the first observation of the episode."""

    def begin(self, episodes: Sequence[Episode], width: int) -> None:
        self.seeds = torch.tensor([episode.seed for episode in episodes] + [0] * (width - len(episodes)))
        self.taken = 0

    def act(self, steps: Steps) -> Tensor:
        position = steps.observations["state"][:, 0]
        if self.taken == 0:
            self.first = position
        self.taken += 1
        phase = self.taken + self.seeds + steps.tasks + self.first
        return (torch.sin(phase) + 0.3 * (self.first - position))[:, None]


class Looking(Controller):
    """Goes to the brighter half of the picture, or away from it, as the task says."""

    def act(self, steps: Steps) -> Tensor:
        picture = steps.observations["image/camera"]
        assert picture.dtype == torch.uint8
        half = picture.float().mean(dim=1).reshape(-1, 2, 4).sum(dim=2)
        return steps.contexts * torch.tanh((half[:, :1] - half[:, 1:]) / 100 + 0.1)


def bits(trajectory: Trajectory) -> tuple[object, ...]:
    arrays = {**trajectory.observations, "actions": trajectory.actions, "rewards": trajectory.rewards}
    named = {name: (array.dtype, array.tobytes()) for name, array in arrays.items() if array is not None}
    return trajectory.task, trajectory.seed, trajectory.success, named


@pytest.mark.parametrize("make", [Swinging, Looking])
def test_an_episode_does_not_depend_on_width_order_or_history(make: type[Controller]) -> None:
    suite, controller = seen(), make()
    episodes = [Episode(task, seed) for seed in range(5) for task in suite.tasks]
    expected = [bits(trajectory) for trajectory in rollout(controller, suite, episodes)]
    assert len({str(each) for each in expected}) == len(episodes)
    assert [bits(trajectory) for trajectory in rollout(controller, suite, episodes, width=3)] == expected
    assert [bits(trajectory) for trajectory in rollout(controller, suite, episodes[::-1])] == expected[::-1]
    assert bits(rollout(controller, suite, [episodes[7]])[0]) == expected[7]


def test_a_picture_stays_a_picture_of_bytes() -> None:
    suite = seen()
    assert dict(suite.observation) == {"state": Spec((1,)), "image/camera": Spec((8, 8), "uint8")}
    for trajectory in rollout(Looking(), suite, [Episode(task, seed) for task in suite.tasks for seed in (0, 1)]):
        position, picture = trajectory.observations["state"], trajectory.observations["image/camera"]
        assert picture.shape == (trajectory.length + 1, 8, 8) and picture.dtype == np.uint8
        columns = picture[:, 0].argmax(axis=1)
        assert columns.tolist() == np.clip(position[:, 0], 0, 7).astype(int).tolist()


def test_what_a_controller_remembers_is_not_written_over() -> None:
    class Remembers(Controller):
        def __init__(self) -> None:
            self.seen: list[Tensor] = []

        def act(self, steps: Steps) -> Tensor:
            self.seen.append(steps.observations["state"])
            return torch.ones(len(steps), 1)

    controller, suite = Remembers(), seen()
    (trajectory,) = rollout(controller, suite, [Episode(suite.tasks[0], 0)])
    assert [float(each[0, 0]) for each in controller.seen] == trajectory.observations["state"][:-1, 0].tolist()


def test_an_expert_may_be_a_controller() -> None:
    class Swings(ActingExpert):
        def actor(self, suite: TaskSuite) -> Controller:
            return Swinging()

    suite = seen()
    episodes = [Episode(task, 3) for task in suite.tasks]
    shown = Swings(successes_only=False).demonstrate(suite, episodes)
    assert [bits(trajectory) for trajectory in shown] == [bits(t) for t in rollout(Swinging(), suite, episodes)]


@pytest.mark.parametrize("shade", ["float32", "int64"])
def test_a_picture_of_another_type_is_refused(shade: str) -> None:
    suite = seen(shade=shade)
    with pytest.raises(
        InputError, match=rf"'left', seed 0, step 0: the observation 'image/camera' is of {shade}, .*uint8"
    ):
        rollout(Looking(), suite, [Episode(suite.tasks[0], 0)])


def test_a_controller_that_gives_no_tensor_is_named() -> None:
    class Silent(Controller):
        def act(self, steps: Steps) -> Any:
            return None

    suite = seen()
    with pytest.raises(UserCodeError, match=r"Silent\.act gave a NoneType.*tensor \[32, 1\]"):
        rollout(Silent(), suite, [Episode(suite.tasks[0], 0)])


class Dictionaries(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observations as a dictionary with a key that the suite does not know."""

    def observation(self, observation: Any) -> dict[str, Any]:
        return {"state": observation, "time": 0.0}


class Apart:
    """A simulator that is an object of its own."""

    def __init__(self, wrapper: type[Any] | None = None) -> None:
        self.wrapper = wrapper

    def make(self, task: Task, render_mode: str | None = None) -> Any:
        return PointEnv(task.horizon) if self.wrapper is None else self.wrapper(PointEnv(task.horizon))

    def environment_key(self, task: Task) -> str:
        return "point"

    def episode_success(self, flags: Sequence[bool]) -> bool:
        return any(flags)


class Described(TaskSuite):
    """The tasks of the tiny suite, without anything that runs them, unless a simulator is given."""

    name = "described"
    observation = {"state": Spec((2,))}  # noqa: RUF012
    action_dim = 1

    def __init__(self, simulator: Apart | None) -> None:
        self.tasks, self._simulator = TinySuite().tasks, simulator

    @property
    def simulator(self) -> Apart | None:
        return self._simulator


@pytest.mark.parametrize("wrapper", [None, Dictionaries])
def test_a_simulator_may_be_an_object_of_its_own(wrapper: type[Any] | None) -> None:
    simulator = Apart(wrapper)
    suite, tiny = Described(simulator), TinySuite()
    assert simulator_of(suite) is simulator
    episodes = [Episode(task, 1) for task in tiny.tasks]
    for ours, theirs in zip(
        rollout(UniformActor(1), suite, episodes), rollout(UniformActor(1), tiny, episodes), strict=True
    ):
        assert ours.state.tobytes() == theirs.state.tobytes()


def test_an_entry_that_is_missing_is_named() -> None:
    class Blind(Described):
        observation = {"state": Spec((2,)), "image/front": Spec((8, 8), "uint8")}  # noqa: RUF012

    episode = Episode(TinySuite().tasks[0], 0)
    with pytest.raises(InputError, match="no entry 'image/front', which the suite says it has"):
        rollout(UniformActor(1), Blind(Apart(Dictionaries)), [episode])
    with pytest.raises(InputError, match="is a ndarray, the suite says a dictionary of state, image/front"):
        rollout(UniformActor(1), Blind(Apart()), [episode])
