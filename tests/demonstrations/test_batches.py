import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from equal_steps import assert_equal
from torch import Tensor

from amf_lightning.demonstrations.batches import (
    BLOCK,
    Block,
    RoundBatches,
    Rows,
    Shards,
    demonstration_rows,
    taken_ahead,
)
from amf_lightning.demonstrations.recorded_steps import RecordedSteps
from amf_lightning.errors import InputError
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.steps import Steps, cat
from amf_lightning.tasks.trajectory import Trajectory

SUITE = Integrator()


def demonstrations(*tasks: int) -> list[Trajectory]:
    """One of 12 steps for each task."""
    rng = np.random.default_rng(0)
    return [
        Trajectory(
            {"state": rng.normal(size=(13, 2)).astype(np.float32)},
            rng.uniform(-1, 1, size=(12, 2)).astype(np.float32),
            None,
            SUITE.tasks[task].name,
        )
        for task in tasks
    ]


def batches(rows: Rows, shards: Shards, steps: int = 3, seed: int = 0, current: int = 0) -> RoundBatches:
    return RoundBatches(lambda: {"demonstrations": rows}, lambda: current, 8, steps, shards, seed)


def first_step(loader: RoundBatches) -> Tensor:
    """Observations of the first micro-batch."""
    return next(iter(next(iter(loader))))[0]["demonstrations"].state


ROWS = demonstration_rows(demonstrations(0, 3, 3), SUITE)


def test_rows_are_state_action_pairs_with_the_context_of_their_task() -> None:
    trajectories = demonstrations(0, 3)
    rows = demonstration_rows(trajectories, SUITE)
    steps = rows.everything()
    assert (len(rows), steps.state.shape) == (24, (24, 2))
    assert np.array_equal(steps.state[12:].numpy(), trajectories[1].state[:-1])
    assert np.array_equal(steps.shown_actions[:12].numpy(), trajectories[0].actions)
    assert steps.tasks.tolist() == [0] * 12 + [3] * 12
    assert torch.equal(steps.contexts, SUITE.contexts[[0] * 12 + [3] * 12])


def test_two_ranks_take_the_pieces_that_one_process_accumulates() -> None:
    [alone] = batches(ROWS, Shards.of(rank=0, world_size=1, accumulate=2))
    ranks = [next(iter(batches(ROWS, Shards.of(rank, world_size=2, accumulate=1)))) for rank in range(2)]
    for accumulated, *single in zip(alone, *ranks, strict=True):
        assert len(accumulated) == 2 and [len(of_rank) for of_rank in single] == [1, 1]
        for piece, [same] in zip(accumulated, single, strict=True):
            assert_equal(piece["demonstrations"], same["demonstrations"])


def test_pieces_make_up_the_global_minibatch() -> None:
    whole = first_step(batches(ROWS, Shards.of(0, 1, 1)))
    pieces = [first_step(batches(ROWS, Shards.of(rank, 4, 1))) for rank in range(4)]
    assert torch.equal(torch.stack(pieces, dim=1).flatten(0, 1), whole)


@pytest.mark.parametrize("steps", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_blocks_make_up_the_round_and_only_the_last_may_be_shorter(steps: int) -> None:
    loader = batches(ROWS, Shards.of(0, 1, 1), steps)
    lengths = [len(list(block)) for block in loader]
    assert len(lengths) == len(loader)
    assert sum(lengths) == steps and set(lengths[:-1]) <= {BLOCK} and 1 <= lengths[-1] <= BLOCK


def test_draws_are_keyed_by_seed_and_round() -> None:
    def first(seed: int, current: int) -> Tensor:
        torch.rand(1)  # the global generator must not matter
        return first_step(batches(ROWS, Shards.of(0, 1, 1), seed=seed, current=current))

    assert torch.equal(first(0, 0), first(0, 0))
    assert not torch.equal(first(0, 0), first(0, 1))
    assert not torch.equal(first(0, 0), first(1, 0))


def test_a_round_sees_what_the_source_holds_at_its_first_batch() -> None:
    held = {"demonstrations": demonstration_rows(demonstrations(0), SUITE)}
    loader = RoundBatches(lambda: held, lambda: 0, 8, 2, Shards.of(0, 1, 1), 0)
    iterator = iter(loader)
    held = {"demonstrations": demonstration_rows(demonstrations(3), SUITE)}
    assert set(next(iter(next(iterator)))[0]["demonstrations"].tasks.tolist()) == {3}


def test_balanced_tasks_are_drawn_equally_often_whatever_their_length() -> None:
    rows = demonstration_rows(demonstrations(0, 3, 3, 3), SUITE, balance_tasks=True)
    index = rows.draw((100, 200), torch.Generator().manual_seed(0)).flatten()
    share = (rows.take(index).tasks == 0).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.02)
    plain = demonstration_rows(demonstrations(0, 3, 3, 3), SUITE)
    index = plain.draw((100, 200), torch.Generator().manual_seed(0)).flatten()
    assert (plain.take(index).tasks == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)


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
    [[[micro_batch]]] = batches(Rows(Squares()), Shards.of(0, 1, 1), steps=1)
    batch = micro_batch["demonstrations"]
    assert torch.equal(batch.state, batch.shown_actions**2)
    assert Rows(Squares()).everything().state.flatten().tolist() == [float(number**2) for number in range(100)]


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_large_minibatches_are_taken_ahead_in_another_thread_and_are_the_same(in_memory: int) -> None:
    rng = np.random.default_rng(0)
    shown = [
        Trajectory(
            {"image": rng.integers(0, 256, (30, 64, 64, 3), np.uint8)},
            np.zeros((30, 1), np.float32),
            None,
            SUITE.tasks[number].name,
        )
        for number in range(2)
    ]
    takers: list[str] = []

    class Watched(RecordedSteps):
        def __getitem__(self, index: Tensor | slice) -> Steps:
            takers.append(threading.current_thread().name)
            return super().__getitem__(index)

    sources = {"new": Rows(Watched(shown, SUITE, in_memory=in_memory))}
    drawn = {"new": torch.randint(60, (6, 100), generator=torch.Generator().manual_seed(0))}
    block = Block(sources, drawn, Shards(2, (1,)), [[0]] * 6)
    for index, [microbatch] in zip(drawn["new"], block, strict=True):
        assert_equal(microbatch["new"], sources["new"].take(index[1::2]))
    assert sum(name.startswith("batches") for name in takers) == 6
    takers.clear()
    small = Block(sources, {"new": drawn["new"][:, :8]}, Shards(1, (0,)), [[0]] * 6)
    assert len(list(small)) == 6 and set(takers) == {threading.current_thread().name}


def test_what_is_taken_ahead_keeps_its_order_its_errors_and_stops_with_its_reader() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            if number == 7:
                raise ValueError("the seventh")
            taken.append(number)
            yield number

    before = threading.active_count()
    read: list[int] = []
    with pytest.raises(ValueError, match="the seventh"):
        for number in taken_ahead(numbers(), 2):
            read.append(number)
    assert read == taken == list(range(7))
    taken.clear()
    ahead = taken_ahead(numbers(), 2)
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()  # type: ignore[attr-defined]
    assert len(taken) <= 5 and threading.active_count() == before
