from typing import Any

import numpy as np
import pytest

from amf_lightning.errors import InputError
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((5, 3), np.float32)}, "task 'v=1', seed 7: 5 observations for 5 actions"),
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
