"""Real environments of gymnasium, chosen by id and by class, against gymnasium's own loop."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import AmfError, InputError
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.tasks.task import Episode

TASKS = [GymnasiumTask("one", [1.0]), GymnasiumTask("two", [2.0])]


class Scripted(gymnasium.Env[Any, Any]):
    """Says in each step what it is told to say.

    Args:
        infos: of the steps, in turn.
        entries: of the observation.
    """

    action_space = spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, infos: list[dict[str, Any]], entries: int = 1) -> None:
        self.infos, self.entries = infos, entries
        self.observation_space = spaces.Dict({"goal": spaces.Box(-9, 9, (entries,), np.float64)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.goal = 0, float((options or {}).get("goal", 0))
        return self._seen(), {}

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._seen(), 1.0, False, False, self.infos[self.steps - 1]

    def _seen(self) -> dict[str, Any]:
        return {"goal": np.full(self.entries, self.goal)}


def scripted(infos: list[dict[str, Any]], tasks: list[GymnasiumTask] | None = None, **options: Any) -> GymnasiumSuite:
    arguments = {"infos": infos}
    return GymnasiumSuite(f"{__name__}.Scripted", tasks or TASKS, len(infos), arguments, **options)


def succeeded(suite: GymnasiumSuite) -> bool:
    (trajectory,) = rollout(UniformActor(suite.action_dim), suite, [Episode(suite.tasks[0], 0)])
    assert trajectory.success is not None
    return trajectory.success


def test_episodes_are_those_of_gymnasium_bit_for_bit() -> None:
    suite = GymnasiumSuite("HalfCheetah-v5", TASKS, horizon=40, return_threshold=0.0)
    (ours,) = rollout(UniformActor(6), suite, [Episode(suite.tasks[0], 7)])
    env = gymnasium.make("HalfCheetah-v5", max_episode_steps=40)
    observation, _ = env.reset(seed=7)
    assert ours.rewards is not None
    truncated, steps = False, 0
    while not truncated:
        assert ours.state[steps].tobytes() == observation.astype(np.float32).tobytes()
        observation, reward, _, truncated, _ = env.step(ours.actions[steps])
        assert ours.rewards[steps] == reward
        steps += 1
    assert ours.length == steps == 40


def test_actions_reach_the_environment_in_its_own_units() -> None:
    suite = GymnasiumSuite("Pendulum-v1", TASKS, horizon=10, return_threshold=0.0)
    assert suite.action_bounds == ((-2.0,), (2.0,))
    (ours,) = rollout(UniformActor(1), suite, [Episode(suite.tasks[0], 3)])
    env = gymnasium.make("Pendulum-v1", max_episode_steps=10)
    env.reset(seed=3)
    theirs = [float(env.step(2 * action)[1]) for action in ours.actions]
    assert ours.rewards is not None
    np.testing.assert_allclose(ours.rewards, theirs, rtol=1e-6)


class Walk:
    """Right, or down where the context says so, as a choice of four."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        choice = torch.where(contexts[:, 0] > 0, 1, 2)
        return torch.nn.functional.one_hot(choice, 4).float()


def test_choices_and_constructor_arguments_of_each_task() -> None:
    tasks = [
        GymnasiumTask("right", [0.0], arguments={"desc": ["SFFG"]}),
        GymnasiumTask("hole", [0.5], arguments={"desc": ["SFFG", "HFFF"]}, horizon=9),
        GymnasiumTask("slow", [-1.0], arguments={"desc": ["SFFG"]}, horizon=2),
    ]
    with pytest.raises(
        InputError,
        match=r"Task 'hole'.* has observations 'state' \[8\] float32 and 4 actions, the first task 'state' \[4\]",
    ):
        suite = GymnasiumSuite("FrozenLake-v1", tasks, 5, {"is_slippery": False}, return_threshold=1.0)
        rollout(Walk(), suite, [Episode(task, 0) for task in suite.tasks])
    suite = GymnasiumSuite("FrozenLake-v1", [tasks[0], tasks[2]], 5, {"is_slippery": False}, return_threshold=1.0)
    assert suite.discrete and suite.signature()["discrete"] is True
    right, slow = rollout(Walk(), suite, [Episode(task, 0) for task in suite.tasks])
    assert right.state.tolist() == np.eye(4).tolist()
    assert (right.success, right.length, slow.success, slow.length) == (True, 3, False, 2)
    assert suite.environment_key(suite.tasks[0]) != suite.environment_key(suite.tasks[1])


def test_options_set_the_task_and_the_key_that_says_success_is_found() -> None:
    tasks = [GymnasiumTask("near", [1.0], {"goal": 1}), GymnasiumTask("far", [2.0], {"goal": 5})]
    suite = scripted([{"is_success": False}, {"is_success": np.True_}], tasks)
    near, far = rollout(UniformActor(1), suite, [Episode(task, 0) for task in suite.tasks])
    assert (near.state[0, 0], far.state[0, 0], far.success) == (1, 5, True)
    assert suite.environment_key(suite.tasks[0]) == suite.environment_key(suite.tasks[1])


UP, DOWN = {"success": True}, {"success": False}


@pytest.mark.parametrize(
    ("infos", "options", "wanted"),
    [
        ([UP, DOWN], {}, False),
        ([UP, DOWN], {"success_at_any_step": True}, True),
        ([DOWN, UP], {}, True),
        ([{}, UP], {}, True),  # said at the end only
        ([{"success": 0.0, "solved": 1.0}], {"success": "solved"}, True),
        ([{"episode_task_completions": []}], {}, False),
        ([{"episode_task_completions": ["kettle"]}], {}, True),
        ([{}, {}], {"return_threshold": 2.0}, True),
        ([{}, {}], {"return_threshold": 2.5}, False),
    ],
)
def test_success_is_what_the_configuration_says(
    infos: list[dict[str, Any]], options: dict[str, Any], wanted: bool
) -> None:
    assert succeeded(scripted(infos, **options)) is wanted


@pytest.mark.parametrize(("done", "wanted"), [(["kettle"], False), (["kettle", "microwave", "light"], True)])
def test_all_that_a_task_names_must_be_completed(done: list[str], wanted: bool) -> None:
    tasks = [GymnasiumTask("two things", [1.0], completes=["microwave", "kettle"])]
    assert succeeded(scripted([{"episode_task_completions": set(done)}], tasks)) is wanted


@pytest.mark.parametrize("options", [{}, {"success": "solved"}])
def test_a_missing_flag_names_what_there_is(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"Task 'one'.*'(success|solved)'.*only distance, height.*return_threshold"):
        succeeded(scripted([{}, {"height": 1, "distance": 2}], **options))


def test_tasks_without_contexts_are_told_apart_by_number() -> None:
    suite = scripted([UP], [GymnasiumTask("a"), GymnasiumTask("b")])
    assert suite.contexts.tolist() == [[1, 0], [0, 1]]
    assert suite.signature() != scripted([UP], [GymnasiumTask("b"), GymnasiumTask("a")]).signature()


@pytest.mark.parametrize(
    ("environment", "options", "reason"),
    [
        ("Reacherr-v5", {}, "there is no environment 'Reacherr-v5'.*Did you mean: `Reacher`"),
        ("nobody:Reacher-v5", {}, "No module named 'nobody'"),
        ("nobody.Env", {}, "no module 'nobody'"),
        (f"{__name__}.Nothing", {}, "has no 'Nothing'"),
        ("math.hypot", {}, "no class: it is a function that is built in"),
        ("tiny.Steer", {}, "is no gymnasium.Env"),
        ("Reacher-v5", {"arguments": {"colour": "red"}}, "cannot be made with arguments {'colour': 'red'}"),
        ("Reacher-v5", {"horizon": 0}, "horizon"),
        ("Reacher-v5", {"tasks": [GymnasiumTask("a", [1.0], horizon=0)]}, "horizon must be at least 1"),
        ("Reacher-v5", {"success": "x", "return_threshold": 1.0}, "not both"),
        ("Reacher-v5", {"observation_keys": ["x"]}, "no dictionary"),
        ("Reacher-v5", {"tasks": []}, "at least one"),
        ("Reacher-v5", {"tasks": [TASKS[0], TASKS[0]]}, "different names"),
        ("Reacher-v5", {"tasks": [TASKS[0], GymnasiumTask("b", [1.0, 2.0])]}, "'b' has one of 2 numbers"),
        ("Reacher-v5", {"tasks": [TASKS[0], GymnasiumTask("b")]}, "'b' has none as context"),
        ("Reacher-v5", {"tasks": [TASKS[0], GymnasiumTask("b", [1 + 1e-9])]}, "have the same context"),
        ("Reacher-v5", {"tasks": [GymnasiumTask("a", [float("nan")])]}, "numbers are needed"),
        ("Reacher-v5", {"reference": {"one": {"random": 0, "expert": 1}}}, "'two' are {}"),
        ("Reacher-v5", {"reference": "nothing.json"}, "nothing.json"),
        ("Reacher-v5", {"reference": {name: {"random": 0, "expert": 1} for name in ("one", "two", "tow")}}, "of tow"),
    ],
)
def test_an_impatient_person_is_told_what_is_wrong(environment: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        GymnasiumSuite(environment, **{"tasks": TASKS, **options})


def test_reference_returns_are_given_or_read(tmp_path: Path) -> None:
    given = scripted([UP], reference={task.name: {"random": -1.0, "expert": 2.0} for task in TASKS}).reference
    assert given is not None and (given.expert, given.spread) == ((2.0, 2.0), (0.0, 0.0))
    row = {"random": -1.0, "expert": 2.0, "spread": 0.5}
    file = tmp_path / "returns.json"
    content = {"suite": "mine", "horizon": {"one": 1, "two": 3}, "command": "c", "tasks": {"one": row, "two": row}}
    file.write_text(json.dumps(content))
    tasks = [TASKS[0], GymnasiumTask("two", [2.0], horizon=3)]
    read = scripted([UP], tasks, reference=str(file), name="mine").reference
    assert read is not None and read.spread == (0.5, 0.5)
    with pytest.raises(InputError, match="3-step episodes, task 'two' has 1"):
        scripted([UP], reference=str(file), name="mine")
    for value in ({"expert": 1.0}, row | {"random": None}):
        file.write_text(json.dumps(content | {"tasks": {"one": row, "two": value}}))
        with pytest.raises(InputError, match="`random` of task 'two' is None, no number"):
            scripted([UP], tasks, reference=str(file), name="mine")


class Varied(Scripted):
    """Spaces of the same size that differ all the same."""

    def __init__(self, bound: float = 1.0, choices: bool = False, entry: str = "goal") -> None:
        super().__init__([UP])
        self.action_space = spaces.Discrete(1) if choices else spaces.Box(-bound, bound, (1,))  # type: ignore[assignment]
        self.observation_space = spaces.Dict({entry: spaces.Box(-9, 9, (1,))})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"bound": 5.0}, r"differs in its actions: from \[-5.0\] to \[5.0\], in the first task from \[-1.0\]"),
        ({"choices": True}, "differs in its actions: 1 choices"),
        ({"entry": "aim"}, "differs in its observation aim: Box.*there are none"),
    ],
)
def test_spaces_of_the_same_size_must_be_of_one_kind(arguments: dict[str, Any], reason: str) -> None:
    tasks = [TASKS[0], GymnasiumTask("two", [2.0], arguments=arguments)]
    suite = GymnasiumSuite(f"{__name__}.Varied", tasks, 1)
    with pytest.raises(InputError, match=f"Task 'two'.*{reason}"):
        suite.make(suite.tasks[1])


@pytest.mark.parametrize(
    ("infos", "tasks", "reason"),
    [
        ([{"success": "False"}], TASKS, "'success' in info is 'False'; it must be true or false"),
        ([{"success": float("nan")}], TASKS, "'success' in info is nan"),
        ([{"success": None}], TASKS, "'success' in info is None; it must be true or false"),
        ([UP], [GymnasiumTask("one", [1.0], completes=["kettle"])], "completes kettle, but 'success' in info is True"),
        ([None], TASKS, "Task 'one', seed 0, step 0: the environment failed with TypeError"),
    ],
)
def test_what_says_nothing_of_success_is_refused(infos: list[Any], tasks: list[GymnasiumTask], reason: str) -> None:
    suite = scripted(infos, tasks)
    with pytest.raises(AmfError, match=reason):
        succeeded(suite)
