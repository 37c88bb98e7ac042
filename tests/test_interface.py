"""The public interface: every name is there, and is imported when it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

import amf_lightning


@pytest.mark.parametrize("name", amf_lightning.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(amf_lightning, name)
    assert name == "__version__" or value.__name__ == name
    assert name in dir(amf_lightning)


def test_every_public_name_has_one_place() -> None:
    assert set(amf_lightning.__all__) == {*amf_lightning.PLACES, "__version__"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = amf_lightning.Nothing


def test_importing_the_package_imports_no_torch() -> None:
    root = Path(__file__).resolve().parents[1]
    code = "import sys, amf_lightning; amf_lightning.InputError; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
