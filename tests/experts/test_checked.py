from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from amf_lightning.errors import UserCodeError
from amf_lightning.experts.checked import check_shown, entries_of, in_types_of, objection
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()
EPISODE = Episode(SUITE.tasks[1], 3)


@pytest.fixture(scope="module")
def shown() -> Trajectory:
    return TinyExpert().demonstrate(SUITE, [EPISODE])[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: replace(t, actions=np.repeat(t.actions, 2, axis=1)), "actions are 2 long, those of suite 'tiny' 1"),
        (
            lambda t: replace(t, observations={"state": t.state[:, :1]}),
            r"observations 'state' are \[1\] float32, those of suite 'tiny' \[2\] float32 \(",
        ),
        (
            lambda t: replace(t, observations={"state": t.state.astype(np.int64)}),
            r"'state' are \[2\] int64, those of suite 'tiny' \[2\] float32; convert it by astype\('float32'\)",
        ),
        (
            lambda t: replace(t, observations={"state": t.state, "image": np.zeros((len(t.state), 8, 8), np.uint8)}),
            r"consist of 'state' \[2\] float32, 'image' \[8, 8\] uint8, those of suite 'tiny' of 'state' \[2\] float32",
        ),
        (lambda t: replace(t, actions=np.full_like(t.actions, -3)), r"actions reach 3, but each .* in \[-1, 1\]"),
        (lambda t: replace(t, task="goal=1"), "is one of task 'goal=1'"),
        (lambda t: [t], "is a list, not a Trajectory"),
    ],
)
def test_what_does_not_fit_is_refused_by_expert_and_task(
    shown: Trajectory, change: Callable[[Trajectory], Any], reason: str
) -> None:
    with pytest.raises(UserCodeError, match=rf"TinyExpert: the demonstration of task 'goal=-0.5'.*{reason}"):
        check_shown(TinyExpert(), SUITE, EPISODE, change(shown))


def test_what_a_recording_lacks_is_not_asked_for(shown: Trajectory) -> None:
    bare = replace(shown, observations=shown.acted_on, rewards=None, success=None, seed=None)
    check_shown(TinyExpert(), SUITE, EPISODE, bare)


def test_what_fits_is_taken_and_rounding_is_forgiven(shown: Trajectory) -> None:
    for actions in (shown.actions, np.full_like(shown.actions, 1 + 1e-6)):
        check_shown(TinyExpert(), SUITE, EPISODE, replace(shown, actions=actions))


@pytest.mark.parametrize(("choice", "fits"), [([0, 1], True), ([0.4, 0.6], False), ([1, 1], False), ([0, 0], False)])
def test_choices_are_one_hot(shown: Trajectory, choice: list[float], fits: bool) -> None:
    class Choosing(TinySuite):
        discrete, action_dim = True, 2

    actions = np.tile(np.array(choice, dtype=np.float32), (shown.length, 1))
    chosen = replace(shown, actions=actions)
    with nullcontext() if fits else pytest.raises(UserCodeError, match="must be one-hot"):
        check_shown(TinyExpert(), Choosing(), EPISODE, chosen)


def test_too_few_are_named() -> None:
    with pytest.raises(UserCodeError, match="TinyExpert gave 1 demonstrations when asked for 2"):
        entries_of(TinyExpert(), [None], 2)


def test_observations_of_another_precision_are_taken_in_that_of_the_suite(shown: Trajectory) -> None:
    double = replace(shown, observations={"state": shown.state.astype(np.float64)})
    assert objection(SUITE, EPISODE.task.name, double) is None
    taken = in_types_of(SUITE, double)
    assert taken.state.dtype == np.float32 and np.array_equal(taken.state, shown.state)
    assert in_types_of(SUITE, shown) is shown
