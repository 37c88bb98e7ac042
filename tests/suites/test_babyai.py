"""BabyAI's levels as tasks, against minigrid's own environments."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from babyai_marks import BABYAI

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import check_scorable
from amf_lightning.experts.babyai import BabyAIExpert
from amf_lightning.experts.measure import measure
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.render import render_frames
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.babyai import LEVELS, VIEWS, BabyAI, View, all_levels
from amf_lightning.suites.babyai_missions import mission_code
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory

pytestmark = BABYAI


def stock(level: str) -> Any:
    return gymnasium.make(f"BabyAI-{level}-v0", disable_env_checker=True).unwrapped


def shown(suite: BabyAI, episodes: list[Episode]) -> list[Trajectory]:
    return BabyAIExpert(successes_only=False).demonstrate(suite, episodes)


def bits(trajectory: Trajectory) -> tuple[Any, ...]:
    assert trajectory.rewards is not None
    arrays = (*trajectory.observations.values(), trajectory.actions, trajectory.rewards)
    return trajectory.task, trajectory.success, *(array.tobytes() for array in arrays)


def test_the_default_has_fourteen_levels_that_can_be_scored() -> None:
    suite = BabyAI()
    assert [task.name for task in suite.tasks] == list(LEVELS) and len(LEVELS) == 14
    assert set(LEVELS) <= set(all_levels()) and len(all_levels()) > 90
    check_scorable(suite)
    assert (suite.discrete, suite.action_dim) == (True, 7)
    assert {task.name: task.horizon for task in suite.tasks if task.horizon != 64} == {"GoToSeqS5R2": 100}
    assert torch.equal(suite.contexts, torch.eye(14))


def test_elsewhere_an_episode_lasts_as_long_as_babyai_allows() -> None:
    levels = ["GoToObjS4", "GoToObjMazeS4", "BossLevel"]
    assert [task.horizon for task in BabyAI(levels, reference=None).tasks] == [16, 144, 512]
    assert BabyAI(["GoToObjS4"], horizon=20, reference=None).tasks[0].horizon == 20


@pytest.mark.parametrize("view", VIEWS)
def test_an_episode_is_babyais_own(view: View) -> None:
    suite = BabyAI(["PutNextLocalS5N3"], view=view, reference=None)
    (ours,) = shown(suite, [Episode(suite.tasks[0], 1000)])
    env = stock("PutNextLocalS5N3")
    observation, _ = env.reset(seed=1000)
    assert ours.rewards is not None
    for step, action in enumerate(ours.actions):
        seen = observation["image"] if view == "symbolic" else env.get_frame(tile_size=8, agent_pov=True)
        assert ours.observations[f"image/{view}"][step].tobytes() == seen.tobytes()
        assert ours.observations["state"][step].tobytes() == mission_code(env.mission).tobytes()
        observation, reward, terminated, _, _ = env.step(int(action.argmax()))
        assert (reward > 0) == terminated == (step == ours.length - 1)
    assert ours.success and ours.rewards.tolist() == [0.0] * (ours.length - 1) + [1.0]


def test_what_is_seen_has_the_shapes_that_the_views_say() -> None:
    symbolic, rgb = (BabyAI(["GoToObj"], view=view, reference=None) for view in VIEWS)
    assert symbolic.observation == {"state": Spec((154,)), "image/symbolic": Spec((7, 7, 3), "uint8")}
    assert rgb.observation == {"state": Spec((154,)), "image/rgb": Spec((56, 56, 3), "uint8")}
    assert symbolic.signature() != rgb.signature()


def test_the_mission_is_another_one_in_another_episode_of_a_level() -> None:
    suite = BabyAI(["GoToLocal"], reference=None)
    found = shown(suite, [Episode(suite.tasks[0], seed) for seed in range(8)])
    assert len({trajectory.observations["state"][0].tobytes() for trajectory in found}) > 4
    assert all((trajectory.observations["state"] == trajectory.observations["state"][0]).all() for trajectory in found)


def test_every_level_has_missions_of_the_grammar() -> None:
    missions = set()
    for level in all_levels():
        env = stock(level)
        missions |= {env.reset(seed=seed)[0]["mission"] for seed in range(2)}
    assert len({mission_code(mission).tobytes() for mission in missions}) == len(missions) > 50


@pytest.mark.parametrize("view", VIEWS)
def test_an_episode_is_a_function_of_task_and_seed_alone(view: View) -> None:
    """First in a new environment, alone; then in one that was used, among others."""
    suite, used = (BabyAI(view=view, reference=None) for _ in range(2))
    alone = [shown(suite, [Episode(task, 1000)])[0] for task in suite.tasks]
    np.random.seed(7)
    shown(used, [Episode(task, 1002) for task in used.tasks])
    among = shown(used, [Episode(task, seed) for task in used.tasks for seed in (1000, 1001)])
    for first, again, other in zip(alone, among[::2], among[1::2], strict=True):
        assert bits(again) == bits(first), first.task
        assert bits(other) != bits(first), first.task


FIRST = """
import hashlib
from amf_lightning.suites.babyai import BabyAI
suite = BabyAI(reference=None)
seen = [suite.make(task).reset(seed=3)[0] for task in suite.tasks]
said = hashlib.sha256(b"".join(entry.tobytes() for one in seen for entry in one.values())).hexdigest()
"""


def test_an_episode_does_not_depend_on_how_strings_are_hashed() -> None:
    here: dict[str, Any] = {}
    exec(FIRST, here)  # in a process whose own hashes are drawn at its start
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    program = [sys.executable, "-c", f"{FIRST}print(said)"]
    there = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
    assert there == f"{here['said']}\n", "and nothing else is printed"


def test_reference_returns_are_what_their_command_measures() -> None:
    """The first level of the suite, whose episodes do not depend on how many others there are."""
    shipped = BabyAI().reference
    assert shipped is not None and min(shipped.expert) == 1.0 and max(shipped.random) < 0.6
    found = measure(BabyAI(["GoToObj"]), BabyAIExpert(successes_only=False), episodes=20)["GoToObj"]
    assert (found.random, found.expert) == (shipped.random[0], shipped.expert[0])


def test_who_never_gets_there_returns_nothing() -> None:
    suite = BabyAI(["PutNextLocal"], reference=None)
    (blind,) = rollout(UniformActor(7), suite, [Episode(suite.tasks[0], 1000)])
    assert (blind.length, blind.success, blind.episode_return) == (64, False, 0.0)


def test_an_episode_can_be_drawn() -> None:
    suite = BabyAI(["GoToObj"], reference=None)
    frames = render_frames(UniformActor(7), suite, Episode(suite.tasks[0], 0), every=8, size=64)
    assert len(frames) > 1 and frames[0].shape[2] == 3 and (frames[0] != frames[-1]).any()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"levels": ["GotoLocl"]}, "no level 'GotoLocl'. Did you mean 'GoToLocal' or"),
        ({"levels": ["juggle"]}, "Its levels: GoToRedBallGrey, GoToRedBall"),
        ({"levels": ["GoToObj", "GoToObj"]}, "different names"),
        ({"levels": []}, "at least one"),
        ({"view": "depth"}, "no view 'depth'; give one of symbolic, rgb"),
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": 50}, "64-step episodes|100-step episodes"),
        ({"levels": ["BossLevel"]}, "no reference returns of task 'BossLevel'"),
    ],
)
def test_an_impatient_person_is_told_what_is_wrong(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason.replace("?", r"\?")) as refused:
        BabyAI(**options)
    assert "\n" not in str(refused.value)
