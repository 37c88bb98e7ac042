import math
from typing import Any

import numpy as np
import pytest

from amf_lightning.errors import InputError
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.trajectory import Trajectory


def make(**changes: Any) -> Trajectory:
    fields: dict[str, Any] = {
        "observations": np.zeros((6, 3), np.float32),
        "actions": np.zeros((5, 2), np.float32),
        "rewards": np.arange(5.0),
        "task": "v=1",
        "seed": 7,
        "success": True,
    }
    return Trajectory(**fields | changes)


def test_length_and_return() -> None:
    assert (make().length, make().episode_return) == (5, 10.0)


def test_one_array_is_the_state() -> None:
    array = np.ones((6, 3), np.float32)
    assert list(make(observations=array).observations) == ["state"]
    assert make(observations=array).state is array


def test_entries_keep_their_ranks_and_types() -> None:
    entries: dict[str, Any] = {
        "state": np.zeros((6, 3), np.float32),
        "image/front": np.full((6, 4, 5, 3), 255, np.uint8),
        "gripper closed": np.zeros(6, np.bool_),
        "depth": np.zeros((6, 4, 5), np.uint16),
    }
    one = make(observations=entries)
    assert one.specs == {
        "state": Spec((3,)),
        "image/front": Spec((4, 5, 3), "uint8"),
        "gripper closed": Spec((), "bool"),
        "depth": Spec((4, 5), "uint16"),
    }
    assert {name: entry.shape for name, entry in one.acted_on.items()} == {
        "state": (5, 3),
        "image/front": (5, 4, 5, 3),
        "gripper closed": (5,),
        "depth": (5, 4, 5),
    }
    with pytest.raises(InputError, match="Task 'v=1': the observation consists of state, image/front"):
        _ = one.state


def test_rewards_success_seed_and_the_last_observation_may_be_missing() -> None:
    one = make(observations=np.zeros((5, 3), np.float32), rewards=None, success=None, seed=None)
    assert (one.length, len(one.acted_on["state"])) == (5, 5)
    assert math.isnan(one.episode_return)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((4, 3), np.float32)}, "task 'v=1', seed 7: 4 observations for 5 actions"),
        ({"observations": np.zeros((7, 3), np.float32), "seed": None}, "task 'v=1': 7 observations for 5 actions"),
        ({"observations": {}}, "it has no observations"),
        ({"observations": {"a": np.zeros((6, 3)), "b": np.zeros((5, 3))}}, "6 of 'a', 5 of 'b'"),
        ({"observations": {"a": np.array(1.0)}}, "observations 'a' must have some dimensions"),
        ({"observations": {"a": np.full((6, 2, 2), np.nan)}}, "observations 'a' hold a value .* at step 0"),
        ({"rewards": np.zeros(4)}, "4 rewards for 5 actions"),
        ({"actions": np.zeros(5, np.float32)}, "actions must have 2 dimensions"),
        (
            {"actions": np.zeros((0, 2), np.float32), "observations": np.zeros((1, 3), np.float32)},
            "no step was taken",
        ),
        ({"rewards": np.array([0, 1, np.nan, 3, 4])}, "rewards hold a value that is not finite .* at step 2"),
        ({"noise": 0.0}, "noise is 0"),
        ({"noise": np.nan}, "noise is nan"),
        ({"observations": np.full((6, 3), np.inf, np.float32)}, "observations hold a value that is not finite"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**changes)
