import numpy as np
import pytest
import torch

from amf_lightning.demonstrations.batches import RoundBatches, Rows, Shards, demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.tasks.steps import Steps, cat
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from equal_steps import assert_equal
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()


def demonstrations(*tasks: int) -> list[Trajectory]:
    return TinyExpert().demonstrate(SUITE, [Episode(SUITE.tasks[task], seed) for seed, task in enumerate(tasks)])


def batches(rows: Rows, shards: Shards, steps: int = 3, seed: int = 0, current: int = 0) -> RoundBatches:
    return RoundBatches(lambda: {"demonstrations": rows}, lambda: current, 8, steps, shards, seed)


ROWS = demonstration_rows(demonstrations(0, 3, 3), SUITE)


def test_rows_are_state_action_pairs_with_the_context_of_their_task() -> None:
    trajectories = demonstrations(0, 3)
    rows = demonstration_rows(trajectories, SUITE)
    steps = rows.everything()
    assert (len(rows), steps.state.shape) == (24, (24, 2))
    assert np.array_equal(steps.state[12:].numpy(), trajectories[1].state[:-1])
    assert np.array_equal(steps.shown_actions[:12].numpy(), trajectories[0].actions)
    assert steps.tasks.tolist() == [0] * 12 + [3] * 12
    assert steps.contexts.flatten().tolist() == [-1.0] * 12 + [1.0] * 12


def test_two_ranks_take_the_pieces_that_one_process_accumulates() -> None:
    alone = list(batches(ROWS, Shards.of(rank=0, world_size=1, accumulate=2)))
    ranks = [list(batches(ROWS, Shards.of(rank, world_size=2, accumulate=1))) for rank in range(2)]
    assert len(alone) == 6
    for step in range(3):
        for rank in range(2):
            assert_equal(alone[2 * step + rank]["demonstrations"], ranks[rank][step]["demonstrations"])


def test_pieces_make_up_the_global_minibatch() -> None:
    whole = next(iter(batches(ROWS, Shards.of(0, 1, 1))))["demonstrations"].state
    pieces = [next(iter(batches(ROWS, Shards.of(rank, 4, 1))))["demonstrations"].state for rank in range(4)]
    assert torch.equal(torch.stack(pieces, dim=1).flatten(0, 1), whole)


def test_draws_are_keyed_by_seed_and_round() -> None:
    def first(seed: int, current: int) -> torch.Tensor:
        torch.rand(1)  # the global generator must not matter
        return next(iter(batches(ROWS, Shards.of(0, 1, 1), seed=seed, current=current)))["demonstrations"].state

    assert torch.equal(first(0, 0), first(0, 0))
    assert not torch.equal(first(0, 0), first(0, 1))
    assert not torch.equal(first(0, 0), first(1, 0))


def test_a_round_sees_what_the_source_holds_at_its_first_batch() -> None:
    held = {"demonstrations": demonstration_rows(demonstrations(0), SUITE)}
    loader = RoundBatches(lambda: held, lambda: 0, 8, 2, Shards.of(0, 1, 1), 0)
    iterator = iter(loader)
    held = {"demonstrations": demonstration_rows(demonstrations(3), SUITE)}
    assert set(next(iterator)["demonstrations"].contexts.flatten().tolist()) == {1.0}


def test_balanced_tasks_are_drawn_equally_often_whatever_their_length() -> None:
    rows = demonstration_rows(demonstrations(0, 3, 3, 3), SUITE, balance_tasks=True)
    index = rows.draw((100, 200), torch.Generator().manual_seed(0)).flatten()
    share = (rows.take(index).contexts == -1.0).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.02)
    plain = demonstration_rows(demonstrations(0, 3, 3, 3), SUITE)
    index = plain.draw((100, 200), torch.Generator().manual_seed(0)).flatten()
    assert (plain.take(index).contexts == -1.0).double().mean().item() == pytest.approx(0.25, abs=0.02)


def test_a_batch_that_cannot_be_cut_and_an_empty_store_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be cut into 3 equal shards"):
        batches(ROWS, Shards.of(0, 3, 1))
    with pytest.raises(InputError, match="no demonstration to train on"):
        demonstration_rows([], SUITE)


def test_rows_are_looked_through_in_chunks_in_order() -> None:
    chunks = list(ROWS.chunks(size=7))
    assert [len(chunk) for chunk in chunks] == [7] * 5 + [1]
    assert_equal(cat(chunks), ROWS.everything())


class Squares:
    """Steps that are computed when they are drawn."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: torch.Tensor | slice) -> Steps:
        numbers = torch.arange(100.0)[index][:, None]
        return Steps.of_state(numbers**2, torch.zeros(len(numbers), 1), -numbers)


def test_rows_can_be_of_a_source_of_ones_own() -> None:
    batch = next(iter(batches(Rows(Squares()), Shards.of(0, 1, 1))))["demonstrations"]
    assert torch.equal(batch.state, batch.shown_actions**2)
    assert Rows(Squares()).everything().state.flatten().tolist() == [float(number**2) for number in range(100)]
