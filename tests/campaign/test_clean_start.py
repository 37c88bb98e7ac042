from pathlib import Path

import pytest

from amf_lightning.campaign.clean_start import clean_start
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError


def fail_in(folder: RunFolder, others: Path | None = None) -> None:
    with pytest.raises(InputError, match="no expert"), clean_start(folder):
        folder.write_config("a: 1\n")
        folder.write_selections([])
        if others is not None:
            others.parent.mkdir(parents=True)
            others.write_text("theirs")
        raise InputError("no expert")


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    fail_in(RunFolder(tmp_path / "runs" / "one"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["thesis/chapter.txt", "demonstrations.old/000000.safetensors", "other/config.yaml"])
def test_what_others_put_there_meanwhile_is_left_alone(tmp_path: Path, name: str) -> None:
    fail_in(RunFolder(tmp_path / "runs"), others=tmp_path / "runs" / name)
    assert (tmp_path / "runs" / name).read_text() == "theirs"
    assert not (tmp_path / "runs" / "config.yaml").exists()


def test_what_was_there_before_is_left_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config("a: 0\n")
    (tmp_path / "notes.txt").write_text("mine")
    fail_in(folder)
    assert folder.config.read_text() == "a: 0\n"
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_demonstration_is_never_taken_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InputError), clean_start(folder):
        folder.write_config("a: 1\n")
        folder.demonstrations.mkdir()
        (folder.demonstrations / "000000.safetensors").write_bytes(b"precious")
        raise InputError("later")
    assert (folder.demonstrations / "000000.safetensors").read_bytes() == b"precious"
    assert folder.config.exists()
