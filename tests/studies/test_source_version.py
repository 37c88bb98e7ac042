import subprocess
from pathlib import Path

import pytest

from amf_lightning import __version__
from amf_lightning.studies import source_version as module

source_version = module.source_version.__wrapped__


def git(folder: Path, *arguments: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_a_checkout_says_its_commit_and_whether_the_package_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(module, "_PACKAGE", package)
    assert source_version() == __version__
    (package / "__init__.py").write_text("")
    (tmp_path / "results.csv").write_text("a")
    git(tmp_path, "init")
    assert source_version() == __version__, "a checkout of somebody else, around an installed package"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    (tmp_path / "results.csv").write_text("written by the study itself")
    assert source_version() == f"{__version__}+g{commit}"
    (package / "__init__.py").write_text("changed = True")
    assert source_version() == f"{__version__}+g{commit}.modified"
