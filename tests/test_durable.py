import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from amf_lightning.durable import remove_leftovers, write_durably


def test_a_file_is_replaced_as_a_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_durably(path, "first, and longer")
    write_durably(path, b"second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name open files")
def test_file_and_folder_names_are_synced_in_the_order_that_makes_them_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot be tried here, so the calls that guard against it are looked at."""
    calls: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path)))
        fsync(descriptor)

    def recorded_replace(self: Path, target: Path) -> Path:
        calls.append(("replace", target.relative_to(tmp_path)))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    write_durably(tmp_path / "a" / "b" / "file", "text")
    what, written = calls.pop(2)
    assert what == "sync" and written.name.startswith(f".file.{os.getpid()}.") and written.suffix == ".partial"
    assert calls == [("sync", Path()), ("sync", Path("a")), ("replace", Path("a/b/file")), ("sync", Path("a/b"))]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_durably(tmp_path / "file", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def killed_while_writing(path: Path) -> int:
    """A process that dies with half a file; its number."""
    if (child := os.fork()) == 0:
        Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign,assignment]
        write_durably(path, "half")
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    return child


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", "old")
    pid = killed_while_writing(tmp_path / "file")
    [left] = tmp_path.glob(".*")
    assert left.name.startswith(f".file.{pid}.") and left.suffix == ".partial"
    remove_leftovers(tmp_path, tmp_path / "nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_living_process_writes_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(_: int) -> None:
        remove_leftovers(tmp_path)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_durably(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize(
    ("name", "hours", "stays"),
    [
        (".file.999999.elsewhere.0123abcd.partial", 1, True),  # of another machine: it may live
        (".file.999999.elsewhere.0123abcd.partial", 30, False),
        (".last.ckpt.999999.0123abcd.partial", 1, True),  # of version 0.2, which did not name the machine
        (".last.ckpt.999999.0123abcd.partial", 30, False),
        (".mine.partial", 999, True),  # not ours
    ],
)
def test_where_nobody_can_tell_only_age_counts(tmp_path: Path, name: str, hours: float, stays: bool) -> None:
    (tmp_path / name).write_text("half")
    then = time.time() - 3600 * hours
    os.utime(tmp_path / name, (then, then))
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists() is stays


def test_a_lock_tells_of_a_writer_whose_number_means_nothing_here(tmp_path: Path) -> None:
    path = tmp_path / f".file.999999.{os.uname().nodename}.0123abcd.partial"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert path.exists()
    remove_leftovers(tmp_path)
    assert not path.exists()
