"""Suites that nothing simulates."""

from typing import Any

import pytest
from jsonargparse import ArgumentParser

from amf_lightning.errors import InputError
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.render import render_frames
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.static import StaticSuite, StaticTask
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.task import Episode, TaskSuite, dimensions_of

KITCHEN: dict[str, Any] = {
    "name": "kitchen",
    "observation": {"state": Spec((7,)), "image/front": Spec((96, 96, 3), "uint8")},
    "action_dim": 7,
    "tasks": ["open the drawer", "wipe the table"],
}


def test_a_configuration_says_all_of_it() -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(TaskSuite, "suite")
    observation = {"state": {"shape": [7]}, "image/front": {"shape": [96, 96, 3], "dtype": "uint8"}}
    tasks = ["open the drawer", {"name": "wipe the table"}]
    arguments = KITCHEN | {"observation": observation, "tasks": tasks, "action_bounds": [[-2.0] * 7, [2.0] * 7]}
    content = {"suite": {"class_path": "amf_lightning.suites.static.StaticSuite", "init_args": arguments}}
    made = parser.instantiate(parser.parse_object(content)).suite
    assert made.signature() == StaticSuite(**KITCHEN).signature()
    assert made.action_bounds == ((-2.0,) * 7, (2.0,) * 7)
    assert [task.name for task in made.tasks] == KITCHEN["tasks"] and made.contexts.tolist() == [[1, 0], [0, 1]]


def test_policies_are_made_for_its_dimensions() -> None:
    suite = StaticSuite(**KITCHEN)
    assert dimensions_of(suite.signature()) == suite.dimensions
    assert suite.dimensions.observation == KITCHEN["observation"]


def test_tasks_may_have_contexts() -> None:
    suite = StaticSuite(**KITCHEN | {"tasks": [StaticTask("near", [0.5]), StaticTask("far", [2.0])]})
    assert suite.contexts.tolist() == [[0.5], [2.0]]
    assert "tasks" not in suite.signature(), "the context says which task it is"


def test_nothing_can_be_run_in_it() -> None:
    suite = StaticSuite(**KITCHEN)
    assert suite.simulator is None
    episode = Episode(suite.tasks[0], 0)
    with pytest.raises(InputError, match=r"Suite 'kitchen' has no simulator.*Choose"):
        rollout(UniformActor(7), suite, [episode])
    with pytest.raises(InputError, match="Suite 'kitchen' has no simulator"):
        render_frames(UniformActor(7), suite, episode, every=1, size=8)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"observation": {}}, "at least one entry"),
        ({"action_dim": 0}, "at least 1"),
        ({"horizon": 0}, "at least 1"),
        ({"tasks": []}, "StaticSuite: tasks must be at least one"),
        ({"tasks": ["wipe", "wipe"]}, "different names"),
        ({"tasks": ["wipe", StaticTask("open", [1.0])]}, "'wipe' has none as context"),
        ({"action_bounds": ([0.0] * 7, [1.0] * 6)}, "7 finite numbers each"),
        ({"action_bounds": ([1.0] * 7, [1.0] * 7)}, "every low less than its high"),
        ({"action_bounds": ([0.0] * 7, [float("inf")] * 7)}, "finite"),
        ({"action_bounds": ([0.0] * 7, [1.0] * 7), "discrete": True}, "choices have no bounds"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        StaticSuite(**KITCHEN | changes)
