import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


def trajectory(seed: int = 0, steps: int = 5, task: str = "v=2", **metrics: float) -> Trajectory:
    rng = np.random.default_rng(seed)
    return Trajectory(
        observations=rng.normal(size=(steps + 1, 4)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps),
        task=task,
        seed=seed,
        success=bool(seed % 2),
        metrics=metrics,
    )


def assert_same(a: Trajectory, b: Trajectory) -> None:
    for name in ("observations", "actions", "rewards"):
        first, second = getattr(a, name), getattr(b, name)
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert first.tobytes() == second.tobytes()
    assert (a.task, a.seed, a.success) == (b.task, b.seed, b.success)
    assert repr(sorted(a.metrics.items())) == repr(sorted(b.metrics.items()))


@pytest.fixture
def store(tmp_path: Path) -> DemonstrationStore:
    return DemonstrationStore(tmp_path / "run" / "demonstrations")


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 7),
    task=st.text(max_size=10),
    metrics=st.dictionaries(st.text(max_size=5), st.floats()),
)
def test_what_is_read_has_the_bits_of_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int, task: str, metrics: dict[str, float]
) -> None:
    store = DemonstrationStore(tmp_path_factory.mktemp("store"))
    written = Trajectory(
        observations=np.full((steps + 1, 3), 0.1, np.float32),
        actions=np.full((steps, 2), -0.0, np.float32),
        rewards=np.full(steps, 0.1),
        task=task,
        seed=seed,
        success=False,
        metrics=metrics,
    )
    assert_same(store.read(12, store.write(12, written)), written)


def test_a_noise_is_kept_and_the_usual_one_is_not_written(store: DemonstrationStore) -> None:
    store.write(0, replace(trajectory(), noise=2.5))
    assert store.read(0).noise == 2.5
    store.write(1, trajectory())  # as files were before there was a noise
    assert b"noise" not in store.path(1).read_bytes()
    assert store.read(1).noise == 1


def test_the_file_is_named_by_its_index_and_its_hash_is_returned(store: DemonstrationStore) -> None:
    sha256 = store.write(12, trajectory())
    assert store.path(12) == store.folder / "000012.safetensors"
    assert sha256 == hashlib.sha256(store.path(12).read_bytes()).hexdigest()
    assert [path.name for path in store.folder.iterdir()] == ["000012.safetensors"]


def test_the_same_trajectory_gives_the_same_bytes_whatever_its_memory_layout(tmp_path: Path) -> None:
    one = trajectory(3, velocity_error=0.1, energy=2.0)
    other = Trajectory(
        observations=np.asfortranarray(one.observations),
        actions=np.repeat(one.actions, 2, axis=0)[::2],
        rewards=one.rewards,
        task=one.task,
        seed=one.seed,
        success=one.success,
        metrics={"energy": 2.0, "velocity_error": 0.1},
    )
    hashes = {DemonstrationStore(tmp_path / str(i)).write(0, t) for i, t in enumerate((one, other) * 5)}
    assert len(hashes) == 1


def test_arrays_can_be_wrapped_by_torch_without_a_warning(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    torch.from_numpy(store.read(0).observations)


def test_a_demonstration_of_the_same_index_is_replaced(store: DemonstrationStore) -> None:
    first = store.write(0, trajectory(0))
    assert store.write(0, trajectory(0)) == first
    second = store.write(0, trajectory(1))
    assert second != first
    assert store.read(0, second).seed == 1


def test_another_hash_than_the_recorded_one_is_refused(store: DemonstrationStore) -> None:
    recorded = store.write(0, trajectory(0))
    store.write(0, trajectory(1))
    with pytest.raises(InputError, match=r"000000\.safetensors was changed or damaged after it was recorded"):
        store.read(0, recorded)


def test_a_missing_demonstration_is_refused(store: DemonstrationStore) -> None:
    with pytest.raises(InputError, match=r"000007\.safetensors cannot be read \(No such file"):
        store.read(7)


def test_another_task_than_expected_is_refused(store: DemonstrationStore) -> None:
    store.write(0, trajectory(task="v=2"))
    assert store.read(0, task="v=2").task == "v=2"
    with pytest.raises(InputError, match="shows task 'v=2', not 'v=3'"):
        store.read(0, task="v=3")


def test_a_file_moved_to_another_index_is_refused(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    store.path(0).rename(store.path(1))
    with pytest.raises(InputError, match=r"000001\.safetensors is demonstration 0 under another name"):
        store.read(1)


def test_a_file_truncated_anywhere_is_refused(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    whole = store.path(0).read_bytes()
    for length in range(len(whole)):
        store.path(0).write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"000000\.safetensors"):
            store.read(0)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused_and_not_overwritten(store: DemonstrationStore, seed: int) -> None:
    store.folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).bytes(seed * 100)  # seed 0: an empty file
    store.path(0).write_bytes(noise)
    with pytest.raises(InputError, match=r"000000\.safetensors"):
        store.read(0)
    with pytest.raises(InputError, match="move it away and run again"):
        store.write(0, trajectory())
    assert store.path(0).read_bytes() == noise


@pytest.mark.parametrize(
    ("metadata", "arrays"),
    [
        (None, {"weight": np.zeros(3)}),
        ({"demonstration": '"text"'}, {"weight": np.zeros(3)}),
        ({"demonstration": '{"format": "another/3", "index": 0}'}, {}),
        ({"demonstration": '{"format": "amf-demonstration/1", "index": 0}'}, {"actions": np.zeros((1, 1))}),
    ],
    ids=["weights of a network", "other metadata", "another format", "other arrays"],
)
def test_foreign_safetensors_files_are_refused(
    store: DemonstrationStore, metadata: dict[str, str] | None, arrays: dict[str, np.ndarray]
) -> None:
    store.folder.mkdir(parents=True)
    save_file(arrays, store.path(0), metadata)
    with pytest.raises(InputError, match=r"000000\.safetensors (is truncated or not|has format|holds)"):
        store.read(0)


def test_a_file_with_a_value_that_is_not_finite_is_refused(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    content = store.path(0).read_bytes()
    [value] = load_file(store.path(0))["rewards"][:1]
    store.path(0).write_bytes(content.replace(value.tobytes(), np.float64(np.nan).tobytes()))
    with pytest.raises(InputError, match=r"000000\.safetensors is not a valid demonstration"):
        store.read(0)
