from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import evaluations_from
from amf_lightning.fine_tuning.checkpoint_io import DurableCheckpointIO, check_checkpoint, read_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "new folder" / "last.ckpt"
    content = {"suite": {"name": "tiny"}, "state_dict": {"weight": torch.arange(6.0).view(2, 3)}, "epoch": 3}
    DurableCheckpointIO().save_checkpoint(content, path)
    return path


def test_what_is_written_is_read_back_and_nothing_else_is_left(whole: Path) -> None:
    content = read_checkpoint(whole)
    assert torch.equal(content["state_dict"]["weight"], torch.arange(6.0).view(2, 3)) and content["epoch"] == 3
    assert list(whole.parent.iterdir()) == [whole]


@settings(deadline=None)  # machines may be busy
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_by_name(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Random bytes are a program to the unpickler, and end in whatever error that leads to."""
    path = tmp_path_factory.getbasetemp() / "random.ckpt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"random\.ckpt"):
        read_checkpoint(path)


@settings(deadline=None)  # machines may be busy
@given(st.data())
def test_a_checkpoint_cut_anywhere_is_refused(whole: Path, data: st.DataObject) -> None:
    content = whole.read_bytes()
    torn = whole.with_name("torn.ckpt")
    torn.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InputError, match=r"torn\.ckpt is truncated or not a checkpoint"):
        read_checkpoint(torn)
    torn.unlink()


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"suite": {}}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match=r"other\.ckpt is not a checkpoint of this package"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "sprung"),)

    torch.save({"suite": Trap(), "state_dict": {}}, tmp_path / "trap.ckpt")
    with pytest.raises(InputError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "trap.ckpt")
    assert not (tmp_path / "sprung").exists()


@settings(deadline=None)  # machines may be busy
@given(st.data())
def test_a_checkpoint_with_one_bit_flipped_anywhere_is_refused(whole: Path, data: st.DataObject) -> None:
    content = bytearray(whole.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    flipped = whole.with_name("flipped.ckpt")
    flipped.write_bytes(content)
    with pytest.raises(InputError, match=r"flipped\.ckpt (was changed after it was written|is truncated or not)"):
        DurableCheckpointIO().load_checkpoint(flipped)
    flipped.unlink()


def test_a_checkpoint_of_version_0_2_has_no_hash_and_is_read(tmp_path: Path) -> None:
    torch.save({"suite": {}, "state_dict": {"weight": torch.ones(2)}}, tmp_path / "old.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "old.ckpt")["state_dict"]["weight"], torch.ones(2))


def test_others_read_a_checkpoint_as_before(whole: Path) -> None:
    assert torch.load(whole, weights_only=True)["epoch"] == 3
    assert torch.load(whole, weights_only=True, mmap=True)["epoch"] == 3


@pytest.mark.parametrize("missing", ["demonstrations", "loops", "callbacks", "optimizer_states", "epoch"])
def test_a_checkpoint_without_a_part_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    parts = {"demonstrations": 3, "loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
    content = {"suite": {}, "state_dict": {}, "epoch": 1, "global_step": 1, **parts}
    path = tmp_path / "part.ckpt"
    DurableCheckpointIO().save_checkpoint(content, path)
    check_checkpoint(path, {}, {})
    for value in ({}, {missing: "x"}):
        DurableCheckpointIO().save_checkpoint({k: v for k, v in content.items() if k != missing} | value, path)
        with pytest.raises(InputError, match=rf"part\.ckpt has no usable '{missing}'"):
            check_checkpoint(path, {}, {})


@pytest.mark.parametrize("evaluations", [None, 3, [3], [{}], [{"demonstrations": 1, "returns": None}]])
def test_evaluations_that_are_none_are_refused(evaluations: object) -> None:
    with pytest.raises(InputError, match="evaluations in the checkpoint cannot be read"):
        evaluations_from(evaluations)
