import math

import pytest
from selection_world import demonstrate

from amf_lightning.errors import InputError
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.tasks.task import Episode
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()


def test_an_expert_without_an_end_has_no_limit() -> None:
    assert TinyExpert().remaining(SUITE, [5, 0, 0, 0]) == [math.inf] * 4


def test_limits_are_of_the_whole_run_and_never_below_zero() -> None:
    expert = LimitedExpert(TinyExpert(), {"goal=-0.5": 3, "goal=1": 0})
    assert expert.remaining(SUITE, [9, 1, 0, 0]) == [math.inf, 2, math.inf, 0]
    assert expert.remaining(SUITE, [9, 4, 0, 2]) == [math.inf, 0, math.inf, 0]


def test_the_lower_of_two_limits_counts() -> None:
    expert = LimitedExpert(LimitedExpert(TinyExpert(), {"goal=1": 2, "goal=-1": 5}), {"goal=1": 3, "goal=-1": 4})
    assert expert.remaining(SUITE, [0, 0, 0, 0]) == [4, math.inf, math.inf, 2]


def test_it_demonstrates_what_the_other_would() -> None:
    episode = Episode(SUITE.tasks[2], 100)
    [found] = LimitedExpert(TinyExpert(), {}).demonstrate(SUITE, [episode])
    assert found is not None
    [expected] = demonstrate(SUITE, [2], seed=100)
    assert (found.state == expected.state).all()


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="'goal=1' is -1"):
        LimitedExpert(TinyExpert(), {"goal=1": -1})
    with pytest.raises(InputError, match=r"no task 'goal=7'"):
        LimitedExpert(TinyExpert(), {"goal=7": 1}).remaining(SUITE, [0] * 4)
