from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from amf_lightning.errors import InputError
from amf_lightning.simulation.spaces import ObservationEntries, OneHot, Rescaled, actions_of
from amf_lightning.tasks.spec import Spec, state_specs

MANY = spaces.Dict(
    {
        "z": spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
        "b": spaces.Dict({"y": spaces.Discrete(3, start=5), "x": spaces.Box(0, 9, (), np.int64)}),
        "a": spaces.Tuple([spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3])]),
    }
)
ONE: dict[str, Any] = {
    "z": np.array([[1.0, 2.0], [3.0, 4.0]]),
    "b": {"y": 6, "x": np.array(7)},
    "a": (np.array([0, 1]), np.array([1, 2])),
}


def test_a_dictionary_is_read_in_alphabetical_order_each_part_flat() -> None:
    entries = ObservationEntries(MANY)
    a, b, z = [0, 1, 0, 1, 0, 0, 1], [7, 0, 1, 0], [1, 2, 3, 4]
    assert entries.specs == state_specs(15)
    assert list(entries(ONE)) == ["state"]
    assert entries(ONE)["state"].tolist() == [*a, *b, *z] and entries(ONE)["state"].dtype == np.float32


def test_keys_choose_and_order() -> None:
    entries = ObservationEntries(MANY, ["z", "b"])
    assert entries(ONE)["state"].tolist() == [1, 2, 3, 4, 7, 0, 1, 0] and entries.specs == state_specs(8)


@pytest.mark.parametrize(
    ("space", "keys", "reason"),
    [
        (MANY, ["z", "b", "z"], "z more than once"),
        (spaces.Dict({"a": spaces.Text(3)}), None, "The observation a is a Text"),
        (spaces.Sequence(spaces.Discrete(2)), None, "a Sequence, which has no fixed length"),
        (MANY, ["z", "w"], r"\['z', 'w'\].*a dictionary of a, b, z"),
        (spaces.Discrete(3), ["z"], "no dictionary"),
    ],
)
def test_what_has_no_fixed_length_or_is_not_there_is_refused(
    space: spaces.Space[Any], keys: list[str] | None, reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        ObservationEntries(space, keys)


@pytest.mark.parametrize("value", [-1, 3])
def test_a_choice_that_there_is_not_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=f"the observation is {value}, which is not in Discrete"):
        ObservationEntries(spaces.Discrete(3))(value)


@pytest.mark.parametrize(
    ("space", "specs"),
    [
        (spaces.Box(0, 255, (96, 96, 3), np.uint8), {"image": Spec((96, 96, 3), "uint8")}),
        (spaces.Box(0, 1, (8, 9, 3)), {"image": Spec((8, 9, 3), "float32")}),
        (spaces.Box(0, 1, (1, 8, 8), np.float64), {"image": Spec((1, 8, 8), "float64")}),
        (spaces.Box(0, 255, (128,), np.uint8), state_specs(128)),
        (spaces.Box(0, 1, (5, 2)), state_specs(10)),
        (
            spaces.Dict({"views": spaces.Tuple([spaces.Box(0, 255, (8, 8), np.uint8), spaces.Discrete(2)])}),
            {"state": Spec((2,)), "image/views/0": Spec((8, 8), "uint8")},
        ),
    ],
)
def test_pictures_are_entries_of_their_own(space: spaces.Space[Any], specs: dict[str, Spec]) -> None:
    entries = ObservationEntries(space)
    assert entries.specs == specs
    space.seed(0)
    found = entries(space.sample())
    assert {name: Spec(entry.shape, entry.dtype.name) for name, entry in found.items()} == specs


def test_a_picture_keeps_its_bytes_and_the_vector_beside_it_is_what_it_would_be_alone() -> None:
    camera, others = np.arange(64, dtype=np.uint8).reshape(8, 8), spaces.Dict(MANY.spaces)
    both = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8), np.uint8), **MANY.spaces})
    found = ObservationEntries(both)(ONE | {"camera": camera})
    assert found["image/camera"].dtype == np.uint8 and (found["image/camera"] == camera).all()
    assert found["state"].tobytes() == ObservationEntries(others)(ONE)["state"].tobytes()
    assert ObservationEntries(both, ["camera"]).specs == {"image/camera": Spec((8, 8), "uint8")}


def test_actions_are_rescaled_to_the_bounds_of_each_entry() -> None:
    actions = actions_of(spaces.Box(np.array([[-2.0], [0.0]]), np.array([[2.0], [10.0]]), dtype=np.float64))
    assert isinstance(actions, Rescaled) and not actions.discrete and actions.size == 2
    assert actions(np.array([-1, -1], np.float32)).tolist() == [[-2], [0]]
    assert actions(np.array([0, 0.5], np.float32)).tolist() == [[0], [7.5]]
    assert actions(np.array([1, 1], np.float32)).tolist() == [[2], [10]]


def test_rescaled_actions_never_leave_the_bounds() -> None:
    space = spaces.Box(-0.4, 0.4, (1,), np.float32)
    for end in (-1.0, 1.0):
        assert space.contains(actions_of(space)(np.array([end], np.float32)))


def test_bounds_of_one_change_no_bit() -> None:
    drawn = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    assert actions_of(spaces.Box(-1, 1, (100,)))(drawn).tobytes() == drawn.tobytes()


def test_choices_are_the_largest_entry_from_where_the_space_starts() -> None:
    actions = actions_of(spaces.Discrete(3, start=-1))
    assert isinstance(actions, OneHot) and actions.discrete and actions.size == 3
    assert [actions(row) for row in np.eye(3, dtype=np.float32)] == [-1, 0, 1]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Box(-np.inf, np.inf, (2,)), "have no bounds"),
        (spaces.MultiDiscrete([2, 2]), "must be a Box of floating-point numbers or Discrete"),
        (spaces.Box(0, 3, (2,), np.int64), "must be a Box of floating-point numbers"),
    ],
)
def test_other_actions_are_refused(space: spaces.Space[Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        actions_of(space)
