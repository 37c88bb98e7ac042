import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        observations={"state": rng.normal(size=(steps + 1, 4)).astype(np.float32)},
        actions=rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
        rewards=rng.normal(size=steps),
        task=task,
        seed=seed,
        success=bool(seed % 2),
        metrics=metrics,
    )


def assert_same(a: Trajectory, b: Trajectory) -> None:
    assert bits(a) == bits(b)
    assert (a.task, a.seed, a.success, a.noise) == (b.task, b.seed, b.success, b.noise)
    assert repr(sorted(a.metrics.items())) == repr(sorted(b.metrics.items()))


def bits(of: Trajectory) -> dict[str, tuple[object, ...] | None]:
    arrays = {**{f"observation {name}": entry for name, entry in of.observations.items()}, "actions": of.actions}
    rewards = None if of.rewards is None else (of.rewards.dtype, of.rewards.tobytes())
    return {"rewards": rewards} | {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


@pytest.fixture
def store(tmp_path: Path) -> DemonstrationStore:
    return DemonstrationStore(tmp_path / "run" / "demonstrations")


shapes = st.lists(st.integers(1, 3), max_size=3).map(tuple)
dtypes = st.sampled_from(
    ["float16", "float32", "float64", "bool"] + [f"{sign}int{8 * size}" for sign in ("", "u") for size in (1, 2, 4, 8)]
)


@settings(deadline=None, max_examples=40)
@given(
    specs=st.dictionaries(st.text(max_size=8), st.tuples(shapes, dtypes), min_size=1, max_size=4),
    steps=st.integers(1, 7),
    after=st.booleans(),
    rewarded=st.booleans(),
    task=st.text(max_size=10),
    seed=st.none() | st.integers(0, 2**63 - 1),
    success=st.none() | st.booleans(),
    metrics=st.dictionaries(st.text(max_size=5), st.floats()),
    noise=st.floats(0.1, 10.0),
)
def test_what_is_read_has_the_bits_of_what_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    specs: dict[str, tuple[tuple[int, ...], str]],
    steps: int,
    after: bool,
    rewarded: bool,
    **facts: Any,
) -> None:
    store, rng = DemonstrationStore(tmp_path_factory.mktemp("store")), np.random.default_rng(steps)
    written = Trajectory(
        {name: rng.integers(0, 99, (steps + after, *shape)).astype(dtype) for name, (shape, dtype) in specs.items()},
        np.full((steps, 2), -0.0, np.float32),
        np.full(steps, 0.1) if rewarded else None,
        **facts,
    )
    sha256 = store.write(12, written)
    assert_same(store.read(12, sha256), written)
    assert store.write(12, store.read(12)) == sha256


def test_a_file_has_one_tensor_a_key(store: DemonstrationStore) -> None:
    one = trajectory()
    picture = np.zeros((6, 4, 4, 3), np.uint8)
    store.write(0, replace(one, observations={"state": one.state, "image/front": picture}))
    tensors = load_file(store.path(0))  # any reader of safetensors
    assert tensors.keys() == {"observation/state", "observation/image/front", "action", "reward"}
    assert tensors["observation/image/front"].dtype == np.uint8
    assert np.array_equal(tensors["observation/state"], one.state)


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
    one = replace(one, observations={"a": one.state, "b": one.state.copy()})
    other = Trajectory(
        observations={"b": np.asfortranarray(one.observations["b"]), "a": one.observations["a"].astype(">f4")},
        actions=np.repeat(one.actions, 2, axis=0)[::2],
        rewards=one.rewards,
        task=one.task,
        seed=one.seed,
        success=one.success,
        metrics={"energy": 2.0, "velocity_error": 0.1},
    )
    hashes = {DemonstrationStore(tmp_path / str(i)).write(0, t) for i, t in enumerate((one, other) * 5)}
    assert len(hashes) == 1


@pytest.mark.filterwarnings("error")
def test_arrays_belong_to_their_reader(store: DemonstrationStore) -> None:
    sha256 = store.write(0, trajectory())
    one, other = store.read(0), store.read(0)
    torch.from_numpy(one.state).zero_()  # without the warning of torch about arrays that cannot be written to
    assert not one.state.any()
    assert_same(store.read(0, sha256), other)


def test_what_was_read_stays_when_the_file_is_replaced_or_deleted(store: DemonstrationStore) -> None:
    store.write(0, trajectory(0, steps=5000))
    read = store.read(0)  # not looked at yet
    store.write(0, trajectory(1, steps=5000))
    store.path(0).unlink()
    assert_same(read, trajectory(0, steps=5000))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc/self/status")
def test_many_demonstrations_with_pictures_are_held_without_their_bytes_or_open_files(
    store: DemonstrationStore,
) -> None:
    count, picture = 24, np.full((40, 256, 256, 3), 7, np.uint8)  # 7.5 MiB each
    made = replace(trajectory(steps=40), observations={"image": picture})
    hashes = [store.write(number, made) for number in range(count)]
    size, files = allocated(), len(list(Path("/proc/self/fd").iterdir()))
    held = [store.read(number, sha256) for number, sha256 in enumerate(hashes)]
    assert allocated() - size < count * picture.nbytes / 20
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert all(one.observations["image"][-1].max() == 7 for one in held)


def allocated() -> int:
    """Bytes of this process in memory without the pages of files, which the system drops when it needs the space."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return 1024 * int(line.split()[1])


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
        ({"demonstration": '{"format": "amf-demonstration/2", "index": 0}'}, {"action": np.zeros((1, 1), np.float32)}),
    ],
    ids=["weights of a network", "other metadata", "another format", "other arrays", "no observation"],
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
    [value] = load_file(store.path(0))["reward"][:1]
    store.path(0).write_bytes(content.replace(value.tobytes(), np.float64(np.nan).tobytes()))
    with pytest.raises(InputError, match=r"000000\.safetensors is not a valid demonstration"):
        store.read(0)


def header_of(store: DemonstrationStore) -> tuple[dict[str, Any], bytes]:
    """The header of demonstration 0, and the bytes of its tensors."""
    content = store.path(0).read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def replace_header(store: DemonstrationStore, header: Any, tensors: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    store.path(0).write_bytes(len(text).to_bytes(8, "little") + text + tensors)


LIES: dict[str, dict[str, Any]] = {
    "beyond the end": {"data_offsets": [0, 2**40]},
    "before the start": {"data_offsets": [-8, 32]},
    "backwards": {"data_offsets": [40, 0]},
    "of another tensor": {"data_offsets": [40, 80]},
    "no offsets": {"data_offsets": [0, 40, 80]},
    "no whole number": {"data_offsets": [0, 40.0]},
    "a larger shape": {"shape": [6]},
    "a huge shape": {"shape": [2**40, 2**40]},
    "a huge empty shape": {"shape": [0, 2**70], "data_offsets": [0, 0]},
    "too many dimensions": {"shape": [5] + [1] * 200},
    "no shape": {"shape": None},
    "text for a shape": {"shape": "5"},
    "an unknown type": {"dtype": "BF16"},
    "a type that is none": {"dtype": ["F64"]},
    "another type": {"dtype": "I64"},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_header_that_lies_about_a_tensor_is_refused(store: DemonstrationStore, lie: dict[str, Any]) -> None:
    store.write(0, trajectory())
    header, tensors = header_of(store)
    assert header["reward"] == {"dtype": "F64", "shape": [5], "data_offsets": [0, 40]}
    replace_header(store, header | {"reward": header["reward"] | lie}, tensors)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"000000\.safetensors (is truncated or not|holds)"):
        store.read(0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a": 1}', b"\xff\xfe", b'{"__metadata__": 3}', b"9" * 5000],
    ids=lambda header: header[:20].decode(errors="replace"),
)
def test_a_header_that_is_none_is_refused(store: DemonstrationStore, header: bytes) -> None:
    store.write(0, trajectory())
    replace_header(store, header, header_of(store)[1])
    with pytest.raises(InputError, match=r"000000\.safetensors is truncated or not a demonstration"):
        store.read(0)


def test_a_header_of_gigabytes_is_refused_unread(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    with store.path(0).open("wb") as file:
        file.write((2**32).to_bytes(8, "little"))
        file.truncate(8 + 2**32)  # a file with a hole, which takes no space on the disk
    tracemalloc.start()
    with pytest.raises(InputError, match=r"000000\.safetensors is truncated or not .* header has 4294967296 bytes"):
        store.read(0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_bytes_after_the_last_tensor_are_refused(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    header, tensors = header_of(store)
    replace_header(store, header, tensors + bytes(8))
    with pytest.raises(InputError, match=r"000000\.safetensors is truncated or not a demonstration"):
        store.read(0)


def test_tensors_at_odd_places_are_read(store: DemonstrationStore) -> None:
    store.write(0, trajectory())
    header, tensors = header_of(store)
    text = json.dumps(header).encode()
    replace_header(store, text + b" " * (3 - len(text) % 8), tensors)
    read = store.read(0)
    assert_same(read, trajectory())
    torch.from_numpy(read.state).sum()


def test_what_no_file_holds_is_not_written(store: DemonstrationStore) -> None:
    with pytest.raises(InputError, match=r"000000\.safetensors cannot be written: .*longer than 1048576 bytes"):
        store.write(0, replace(trajectory(), metrics={"a" * 2**20: 1.0}))
    with pytest.raises(InputError, match=r"000000\.safetensors cannot be written: observation/state has type"):
        store.write(0, replace(trajectory(), observations={"state": np.zeros((6, 4), np.longdouble)}))
    assert not store.path(0).exists()
