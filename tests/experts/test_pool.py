"""A pool of recordings: what is held out is never given, and the order of the rest is drawn by the seed."""

from pathlib import Path

import pytest
from selection_world import demonstrate

from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.errors import InputError
from amf_lightning.experts.limited import LimitedExpert
from amf_lightning.experts.pool import RecordedPool
from amf_lightning.tasks.task import Episode
from tiny import TinySuite

SUITE = TinySuite()
TASKS = [0, 1, 2, 3] * 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of each of four tasks."""
    folder = tmp_path_factory.mktemp("pool")
    for number, trajectory in enumerate(demonstrate(SUITE, TASKS, seed=700)):
        DemonstrationStore(folder).write(number, trajectory)
    return folder


def given(pool: RecordedPool, task: int, count: int = 4) -> list[int | None]:
    episodes = [Episode(SUITE.tasks[task], 0, number=number) for number in range(count)]
    return [trajectory.seed for trajectory in pool.demonstrate(SUITE, episodes)]


def test_what_is_held_out_is_never_given(folder: Path) -> None:
    pool = RecordedPool(str(folder))
    assert pool.remaining(SUITE, [0, 0, 0, 1]) == [4, 4, 4, 3]
    for task in SUITE.tasks:
        held = [trajectory.seed for trajectory in pool.held_out(SUITE)[task.name]]
        assert held == [700 + task.index + 4 * 4, 700 + task.index + 4 * 5], "the latest two, by number"
        assert not {*held} & {*given(pool, task.index)}
    with pytest.raises(InputError, match="holds 4"):
        given(pool, 0, 5)


def test_the_seed_draws_the_order_and_nothing_else(folder: Path) -> None:
    pool = RecordedPool(str(folder))
    orders = []
    for seed in (0, 1, 2, 0):
        pool.begin(seed)
        orders.append([given(pool, task) for task in range(4)])
    assert orders[0] == orders[3] and len({str(order) for order in orders}) == 3
    assert all(sorted(order[0]) == sorted(orders[0][0]) for order in orders)  # type: ignore[type-var]


def test_an_expert_around_it_passes_everything_on(folder: Path) -> None:
    pool = RecordedPool(str(folder))
    limited = LimitedExpert(pool, {SUITE.tasks[0].name: 1})
    limited.begin(2)
    order = given(pool, 0)
    pool.begin(2)
    assert given(pool, 0) == order and limited.held_out(SUITE) == pool.held_out(SUITE)


def test_a_policy_that_knows_what_is_held_out_cannot_be_judged_by_it(folder: Path) -> None:
    pool = RecordedPool(str(folder))
    held = pool.held_out(SUITE)[SUITE.tasks[0].name][0]
    with pytest.raises(InputError, match="trained on 1 of the 8 recordings that are held out"):
        pool.leave_out(SUITE, {fingerprint(held)})
    first = pool.recordings[SUITE.tasks[0].name][0]
    with pytest.warns(UserWarning, match="include_known"):
        pool.leave_out(SUITE, {fingerprint(first)})
    assert pool.remaining(SUITE, [0] * 4) == [3, 4, 4, 4]


@pytest.mark.parametrize(
    ("held_out", "message"), [(0, "must be at least 1"), (6, "6 recordings of task .* 6 are held out")]
)
def test_a_pool_that_leaves_nothing_is_refused(folder: Path, held_out: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RecordedPool(str(folder), held_out=held_out)


def test_a_task_without_recordings_cannot_be_judged(tmp_path: Path) -> None:
    for number, trajectory in enumerate(demonstrate(SUITE, [0, 0, 0, 1, 1, 1], seed=700)):
        DemonstrationStore(tmp_path).write(number, trajectory)
    with pytest.raises(InputError, match=f"no recording of {SUITE.tasks[2].name}, {SUITE.tasks[3].name}"):
        RecordedPool(str(tmp_path)).held_out(SUITE)
