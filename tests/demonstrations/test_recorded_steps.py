"""Rows and windows drawn by number are the same whether they are copied once or gathered from the episodes."""

import tracemalloc

import numpy as np
import pytest
import torch
from equal_steps import assert_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.demonstrations.recorded_steps import RecordedSteps, UnreadSteps
from amf_lightning.errors import InputError
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.steps import Window, steps_of
from amf_lightning.tasks.trajectory import Trajectory

SUITE = Integrator()
DTYPES = ("float32", "float64", "float16", "uint8", "uint16", "int64", "bool")

shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
entries = st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(shapes, st.sampled_from(DTYPES)), min_size=1)


def trajectory(
    number: int, length: int, after: bool = True, specs: dict[str, tuple[tuple[int, ...], str]] | None = None
) -> Trajectory:
    rng = np.random.default_rng(number)
    specs = specs or {"state": ((2,), "float32")}
    return Trajectory(
        {name: rng.integers(0, 200, (length + after, *shape)).astype(dtype) for name, (shape, dtype) in specs.items()},
        rng.uniform(-1, 1, (length, 1)).astype(np.float32),
        None,
        SUITE.tasks[number % 12].name,
    )


@settings(deadline=None, max_examples=60)
@given(
    st.data(),
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=5),
    entries,
    st.builds(Window, st.integers(1, 4), st.integers(1, 4)),
)
def test_what_is_drawn_does_not_depend_on_where_it_is_held(
    data: st.DataObject,
    lengths: list[tuple[int, bool]],
    specs: dict[str, tuple[tuple[int, ...], str]],
    window: Window,
) -> None:
    trajectories = [trajectory(number, *length, specs) for number, length in enumerate(lengths)]
    held = RecordedSteps(trajectories, SUITE, window)
    gathered = RecordedSteps(trajectories, SUITE, window, in_memory=0)
    count = sum(length for length, _ in lengths)
    assert len(held) == len(gathered) == count
    index = torch.tensor(data.draw(st.lists(st.integers(0, count - 1), max_size=9)), dtype=torch.int64)
    assert_equal(held[index], gathered[index])
    assert_equal(held[1:], gathered[1:])
    if window == Window():
        assert_equal(gathered[index], steps_of(trajectories, SUITE)[index])
    for steps in (held, gathered):
        for wrong in (-1, count):
            with pytest.raises(IndexError):
                steps[torch.tensor([wrong])]


@pytest.mark.parametrize("in_memory", [0, 2**20])
def test_windows_stay_within_their_episode(in_memory: int) -> None:
    first, second = trajectory(0, 3), trajectory(1, 2)
    steps = RecordedSteps([first, second], SUITE, Window(history=3, horizon=2), in_memory)[torch.tensor([1, 2, 3])]
    assert steps.shape == (3,)
    state, actions = steps.state.numpy(), steps.shown_actions.numpy()
    assert np.array_equal(state[0], first.state[[0, 0, 1]])  # the first one stands for what was before it
    assert np.array_equal(state[1], first.state[[0, 1, 2]])
    assert np.array_equal(state[2], second.state[[0, 0, 0]])
    assert np.array_equal(actions[0], first.actions[[1, 2]])
    assert np.array_equal(actions[1], first.actions[[2, 2]])  # the last one stands for what is after it, masked
    assert np.array_equal(actions[2], second.actions[[0, 1]])
    assert steps.mask is not None
    assert steps.mask.tolist() == [[True, True], [True, False], [True, True]]
    assert steps.tasks.tolist() == [0, 0, 1]
    assert torch.equal(steps.contexts, SUITE.contexts[[0, 0, 1]])


def test_a_history_alone_leaves_actions_single_and_a_horizon_alone_observations() -> None:
    steps = RecordedSteps([trajectory(0, 3)], SUITE, Window(history=2))[:]
    assert (steps.state.shape, steps.shown_actions.shape, steps.mask) == ((3, 2, 2), (3, 1), None)
    steps = RecordedSteps([trajectory(0, 3)], SUITE, Window(horizon=2))[:]
    assert (steps.state.shape, steps.shown_actions.shape) == ((3, 2), (3, 2, 1))
    assert steps.mask is not None and steps.mask.tolist() == [[True, True], [True, True], [True, False]]


def test_many_pictures_are_not_copied_to_draw_a_few() -> None:
    trajectories = [trajectory(number, 20, specs={"image": ((96, 96, 3), "uint8")}) for number in range(130)]  # 69 MiB
    tracemalloc.start()  # sees what numpy allocates
    steps = RecordedSteps(trajectories, SUITE, Window(history=2, horizon=4))[torch.arange(0, 2600, 50)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert steps.observations["image"].shape == (52, 2, 96, 96, 3)
    assert most < 2 * steps.observations["image"].nbytes


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (trajectory(1, 3, specs={"state": ((3,), "float32")}), r"observations 'state' \[3\] float32"),
        (trajectory(1, 3, specs={"state": ((2,), "float64")}), r"observations 'state' \[2\] float64"),
        (trajectory(1, 3, specs={"image": ((2,), "float32")}), r"observations 'image'"),
        (
            Trajectory({"state": np.zeros((3, 2), np.float32)}, np.zeros((3, 4), np.float32), None, "angle=30"),
            "4 action dimensions",
        ),
    ],
)
def test_demonstrations_of_different_robots_are_refused(other: Trajectory, message: str) -> None:
    with pytest.raises(InputError, match=rf"task 'angle=30' has .*{message}"):
        RecordedSteps([trajectory(0, 3), other], SUITE)


def test_a_slice_that_is_too_large_is_read_entry_by_entry_and_piece_by_piece() -> None:
    specs = {"image/front": ((16, 16, 3), "uint8"), "state": ((2,), "float32")}
    trajectories = [trajectory(number, 40, specs=specs) for number in range(20)]
    window = Window(history=2, horizon=3)
    held, source = (RecordedSteps(trajectories, SUITE, window, size) for size in (2**30, 2**16))
    whole, unread = held[:], source[:]
    assert isinstance(unread, UnreadSteps) and not isinstance(source[:5], UnreadSteps)
    for same in (unread, unread.flatten(), unread.to("cpu"), unread.take(torch.arange(800)), unread[:]):
        assert_equal(same, whole)
    assert_equal(unread[100:130], whole[100:130])
    assert_equal(unread.to("cpu").take(torch.tensor([7, 3])), whole[torch.tensor([7, 3])])
    without, other = unread.without_actions(), unread.with_actions(whole.shown_actions + 1)
    assert without[5:9].actions is None
    assert_equal(other[5:9], whole.with_actions(whole.shown_actions + 1)[5:9])
    assert unread[3].observations["state"].shape == (2, 2)
    with pytest.raises(KeyError):
        unread.observations["image/wrist"]
    tracemalloc.start()
    for start in range(0, 800, 50):
        source[:][start : start + 50].observations["image/front"].sum()
    assert unread.observations["state"].shape == (800, 2, 2)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < whole.observations["image/front"].nbytes / 4
