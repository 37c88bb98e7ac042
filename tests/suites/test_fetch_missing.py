"""What somebody is told who has no gymnasium-robotics, or one beside a MuJoCo that it does not work with."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from amf_lightning.errors import InputError
from amf_lightning.suites import fetch
from amf_lightning.suites.fetch import Fetch


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    fetch.stock_environment.cache_clear()
    yield
    fetch.stock_environment.cache_clear()


def test_what_to_install_if_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    for name in ("envs", "envs.fetch", "envs.fetch.reach"):
        monkeypatch.delitem(sys.modules, f"gymnasium_robotics.{name}", raising=False)
    wanted = (
        r'^Fetch needs the package gymnasium_robotics\. Do pip install "amf-lightning\[fetch\]", in a virtual .*\.$'
    )
    with pytest.raises(InputError, match=wanted):
        Fetch()


def test_which_versions_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stock:
        def __init__(self, **_: object) -> None:
            raise AssertionError("Value has incorrect shape robot0:slide0")

    module = ModuleType("gymnasium_robotics.envs.fetch.reach")
    module.MujocoFetchReachEnv = Stock  # type: ignore[attr-defined]
    for name in ("gymnasium_robotics", "gymnasium_robotics.envs", "gymnasium_robotics.envs.fetch"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(fetch, "version", {"mujoco": "4.0.0", "gymnasium-robotics": "1.4.2"}.__getitem__)
    wanted = r"^gymnasium-robotics 1\.4\.2 does not work with the installed mujoco 4\.0\.0\. Do pip install .*\.$"
    with pytest.raises(InputError, match=wanted):
        Fetch()
