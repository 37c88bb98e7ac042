import os
from pathlib import Path

import pytest

from amf_lightning.durable import write_durably


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
