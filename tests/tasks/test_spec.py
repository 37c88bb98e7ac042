"""What an observation consists of, as suites say it, files keep it and messages print it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import Dimensions, Spec, specs_from_json, specs_to_json, state_size, state_specs
from amf_lightning.tasks.task import Task, TaskSuite, dimensions_of

CAMERA = {"state": Spec((7,)), "image/front": Spec((96, 96, 3), "uint8"), "depth": Spec((96, 96), "float32")}


class Suite(TaskSuite):
    name, action_dim = "seen", 2
    tasks = (Task("one", 0, (1.0,), 5),)

    def __init__(self, **entries: Any) -> None:
        self.__dict__.update(entries)


def test_pictures_and_vectors_are_told_apart() -> None:
    assert [spec.is_image for spec in CAMERA.values()] == [False, True, False]
    assert [spec.is_vector for spec in CAMERA.values()] == [True, False, False]
    assert not Spec((7,), "int64").is_vector and not Spec((7,), "uint8").is_image
    assert [spec.nbytes for spec in CAMERA.values()] == [28, 27648, 36864]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spec((3, 0)), r"shape of an observation is \[3, 0\]; every length must be at least 1"),
        (lambda: Spec((3,), "float33"), "dtype of an observation is 'float33'"),
        (lambda: Spec((3,), "str"), "dtype of an observation is 'str'"),
    ],
)
def test_what_is_no_observation_is_refused(make: Callable[[], Spec], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_files_give_back_what_they_were_given() -> None:
    assert specs_from_json(json.loads(json.dumps(specs_to_json(CAMERA)))) == CAMERA
    assert Spec([96, 96, 3], "uint8") == CAMERA["image/front"]  # type: ignore[arg-type]


def test_readers_of_one_vector_say_what_they_were_given_instead() -> None:
    assert state_size(state_specs(17), "MLPPolicy") == state_size(17, "MLPPolicy") == 17
    with pytest.raises(InputError, match=r"MLPPolicy reads one vector.*'state' \[7\] float32, 'image/front' \[96, 96"):
        state_size(CAMERA, "MLPPolicy")
    with pytest.raises(InputError, match=r"'image' \[8, 8\] uint8"):
        state_size({"image": Spec((8, 8), "uint8")}, "MLPPolicy")
    with pytest.raises(InputError, match=r"'state' \[8, 8\] uint8"):
        state_size({"state": Spec((8, 8), "uint8")}, "MLPPolicy")


@pytest.mark.parametrize("observation", [state_specs(7), CAMERA], ids=["vector", "camera"])
def test_a_policy_file_knows_what_it_was_made_for_by_the_signature_of_the_suite(observation: Any) -> None:
    suite = Suite(observation=observation)
    assert dimensions_of(json.loads(json.dumps(suite.signature()))) == suite.dimensions == Dimensions(observation, 1, 2)


def test_a_suite_of_one_vector_signs_as_in_version_0_1() -> None:
    expected = {"name": "seen", "observation_dim": 7, "action_dim": 2, "context_dim": 1}
    assert Suite(observation=state_specs(7)).signature() == Suite(observation_dim=7).signature() == expected
    assert Suite(observation_dim=7).observation == state_specs(7)
    assert Suite(observation=state_specs(7)).observation_dim == 7


def test_a_suite_says_what_is_observed() -> None:
    with pytest.raises(InputError, match="Suite sets neither `observation` nor `observation_dim`"):
        _ = Suite().observation
    with pytest.raises(InputError, match="reads one vector"):
        _ = Suite(observation=CAMERA).observation_dim
