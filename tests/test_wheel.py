"""The wheel is all that a user has who did not clone the repository."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]

SCRIPT = """
import sys
from pathlib import Path
import amf_lightning
from amf_lightning.command_line.main import main
from amf_lightning.shipped import checkpoint_path, manifest, shipped_folder

package = Path(amf_lightning.__file__).parent
assert package == Path(sys.argv[1]) / "amf_lightning", package
for kind in ("configs", "checkpoints"):
    assert shipped_folder(kind) == package / kind, shipped_folder(kind)
for name in manifest():
    assert checkpoint_path(name, Path(name).suffix).is_relative_to(package)
main(["fit", "--config", "configs/halfcheetah.yaml", "--print_config"])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=240)
    (path,) = folder.glob("*.whl")
    return path


def test_configurations_and_checkpoints_are_in_the_wheel(wheel: Path) -> None:
    inside = set(ZipFile(wheel).namelist())
    for kind in ("configs", "checkpoints"):
        files = [path for path in (ROOT / kind).rglob("*") if path.is_file()]
        assert files
        for file in files:
            assert f"amf_lightning/{file.relative_to(ROOT).as_posix()}" in inside, file
    page = [path for path in (ROOT / "amf_lightning" / "desk" / "page").iterdir() if path.is_file()]
    assert len(page) > 4 and {f"amf_lightning/desk/page/{path.name}" for path in page} <= inside
    assert not [name for name in inside if name.startswith(("tests", "runs")) or name.endswith((".pyc", ".ckpt"))]


def test_the_wheel_alone_finds_what_it_ships(wheel: Path, tmp_path: Path) -> None:
    """Nothing of the source tree can be found: the wheel's content comes first, and the folder is empty."""
    site, here = tmp_path / "site", tmp_path / "here"
    ZipFile(wheel).extractall(site)
    here.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(site)],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert config["model"]["pretrained"] == "halfcheetah/mismatched" and config["active"]["budget"] == 20
