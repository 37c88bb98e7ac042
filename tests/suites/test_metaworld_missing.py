"""What somebody is told who has no Metaworld, or one beside a MuJoCo that it does not work with."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from amf_lightning.errors import InputError
from amf_lightning.suites import metaworld
from amf_lightning.suites.metaworld import Metaworld, metaworld_module


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    metaworld_module.cache_clear()
    yield
    metaworld_module.cache_clear()


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Installed versions, to be filled in; metaworld itself is there."""
    versions = {"metaworld": "3.1.1"}
    needs = ["gymnasium>=1.1", "mujoco==3.3.0", 'black; extra == "dev"']
    monkeypatch.setattr(metaworld, "requires", lambda name: needs)
    monkeypatch.setattr(metaworld, "version", lambda name: versions[name])
    monkeypatch.setitem(sys.modules, "metaworld", ModuleType("metaworld"))
    monkeypatch.setitem(sys.modules, "metaworld.policies", ModuleType("metaworld.policies"))
    return versions


def test_what_to_install_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(InputError, match=r'needs the package metaworld.*pip install "amf-lightning\[metaworld\]"'):
        Metaworld()


def test_which_versions_clash(pretended: dict[str, str]) -> None:
    pretended.update(mujoco="4.0.0", gymnasium="1.4.0")
    wanted = r"metaworld 3\.1\.1 does not work with the installed mujoco 4\.0\.0 \(it needs ==3\.3\.0\)\..*pip install"
    with pytest.raises(InputError, match=wanted):
        metaworld_module("policies")


def test_versions_that_go_together_are_no_clash(pretended: dict[str, str]) -> None:
    pretended.update(mujoco="3.3.0", gymnasium="1.4.0")
    assert metaworld_module("policies").__name__ == "metaworld.policies"
