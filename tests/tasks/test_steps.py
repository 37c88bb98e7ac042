"""Steps are sliced, joined and moved as one, whatever an observation consists of."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from equal_steps import assert_equal
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.tasks.steps import Steps, Window, cat, read_for, steps_of
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()


def steps(*shape: int, window: bool = True) -> Steps:
    """With a picture of bytes, a history of 2 and chunks of 3 of which some are masked."""
    generator = torch.Generator().manual_seed(0)
    history, horizon = ((2,), (3,)) if window else ((), ())
    picture = torch.randint(256, (*shape, *history, 4, 5, 3), generator=generator, dtype=torch.uint8)
    state = torch.randn(*shape, *history, 2, generator=generator)
    tasks = torch.randint(4, shape, generator=generator)
    actions = torch.randn(*shape, *horizon, 1, generator=generator)
    mask = torch.rand(*shape, *horizon, generator=generator) > 0.5 if window else None
    return Steps({"state": state, "image/front": picture}, tasks, SUITE.contexts[tasks], actions, mask)


def tensors_of(of: Steps) -> list[Tensor]:
    optional = [tensor for tensor in (of.actions, of.mask) if tensor is not None]
    return [*of.observations.values(), of.tasks, of.contexts, *optional]


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([4, 0, 4]), torch.arange(7) % 2 == 0, 3])
def test_an_index_is_applied_to_every_tensor(index: Tensor | slice | int) -> None:
    whole = steps(7)
    for part, tensor in zip(tensors_of(whole[index]), tensors_of(whole), strict=True):
        assert torch.equal(part, tensor[index]) and part.dtype == tensor.dtype


def test_joined_pieces_are_the_whole() -> None:
    whole = steps(7)
    assert_equal(cat([whole[:2], whole[2:6], whole[6:]]), whole)
    assert cat([whole]) is whole
    joined = cat([whole.without_actions()[:3], whole.without_actions()[3:]])
    assert joined.actions is None and joined.mask is None


def test_a_leading_shape_comes_and_goes_and_what_belongs_to_a_step_stays() -> None:
    whole = steps(2, 3)
    flat = whole.flatten()
    assert (whole.shape, flat.shape, len(whole), len(flat)) == ((2, 3), (6,), 2, 6)
    assert flat.observations["image/front"].shape == (6, 2, 4, 5, 3)
    assert flat.shown_actions.shape == (6, 3, 1) and flat.mask is not None and flat.mask.shape == (6, 3)
    assert_equal(flat.reshape(2, 3), whole)
    assert_equal(flat[4], whole[1, 1])


def test_tensors_are_a_nest_of_dictionaries_and_steps_again() -> None:
    for whole in (steps(5), steps(5, window=False).without_actions()):
        assert_equal(Steps.from_tensors(whole.tensors()), whole)
    assert set(steps(5, window=False).without_actions().tensors()) == {"observations", "tasks", "contexts"}

    def first_entries(row: dict[str, dict[str, Tensor]]) -> Tensor:
        step = Steps.from_tensors(row).map(lambda tensor: tensor[None])
        return step.observations["state"][0, -1, 0] + step.contexts[0, 0]

    whole = steps(5)
    mapped = torch.func.vmap(first_entries)(whole.tensors())
    assert torch.equal(mapped, whole.observations["state"][:, -1, 0] + whole.contexts[:, 0])


def test_the_one_vector_can_be_asked_for_where_there_is_nothing_else() -> None:
    plain = Steps.of_state(torch.ones(3, 2), torch.zeros(3, 1))
    assert torch.equal(plain.state, torch.ones(3, 2)) and plain.plain_observations is plain.state
    assert plain.tasks.tolist() == [0, 0, 0]
    many = steps(3)
    assert many.plain_observations is many.observations
    with pytest.raises(InputError, match="'state', is read here, but the observation consists of 'state', 'image/fr"):
        _ = many.state
    with pytest.raises(InputError, match="actions at these steps are needed, but they are not known"):
        _ = plain.shown_actions


def test_actions_are_exchanged_and_taken_away() -> None:
    whole = steps(4)
    assert whole.without_actions().actions is None
    other = whole.with_actions(torch.zeros(4, 3, 1))
    assert torch.equal(other.shown_actions, torch.zeros(4, 3, 1)) and other.mask is whole.mask


def trajectory(task: int, length: int, last_observation: bool = True) -> Trajectory:
    count = length + last_observation
    generator = np.random.default_rng(length)
    return Trajectory(
        {
            "state": generator.standard_normal((count, 2)).astype(np.float32),
            "image/front": generator.integers(0, 256, (count, 4, 5, 3), dtype=np.uint8),
        },
        generator.uniform(-1, 1, (length, 1)).astype(np.float32),
        None,
        SUITE.tasks[task].name,
    )


def test_steps_of_trajectories_are_the_states_in_which_an_action_was_taken() -> None:
    given = [trajectory(3, 4), trajectory(1, 2, last_observation=False)]
    whole = steps_of(given, SUITE)
    assert whole.tasks.tolist() == [3, 3, 3, 3, 1, 1]
    assert torch.equal(whole.contexts, SUITE.contexts[whole.tasks])
    assert whole.observations["image/front"].dtype == torch.uint8
    for name, entry in whole.observations.items():
        expected = np.concatenate([given[0].observations[name][:4], given[1].observations[name]])
        np.testing.assert_array_equal(entry.numpy(), expected)
    np.testing.assert_array_equal(whole.shown_actions.numpy(), np.concatenate([each.actions for each in given]))


def test_steps_can_be_read_for_another_task() -> None:
    whole = steps_of([trajectory(3, 4)], SUITE)
    other = read_for(whole, 1, SUITE)
    assert other.tasks.tolist() == [1] * 4 and torch.equal(other.contexts, SUITE.contexts[other.tasks])
    assert other.observations is whole.observations and other.actions is whole.actions


@pytest.mark.parametrize(
    "make", [lambda: Window(history=0), lambda: Window(horizon=0), lambda: Window(history=-1, horizon=2)]
)
def test_a_window_without_a_step_is_refused(make: Callable[[], Window]) -> None:
    with pytest.raises(InputError, match="both must be at least 1"):
        make()
