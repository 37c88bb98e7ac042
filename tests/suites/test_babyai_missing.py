"""What somebody is told who has no minigrid."""

import sys
from collections.abc import Iterator

import pytest

from amf_lightning.errors import InputError
from amf_lightning.suites.babyai import BabyAI, all_levels, minigrid_module


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    for remembered in (minigrid_module, all_levels):
        remembered.cache_clear()
    yield
    for remembered in (minigrid_module, all_levels):
        remembered.cache_clear()


@pytest.mark.parametrize("levels", [None, ["GoToObjS4"]])
def test_what_to_install_if_it_is_missing(levels: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(
        InputError, match=r'^BabyAI needs the package minigrid\. Do pip install "amf-lightning\[babyai\]"\.$'
    ):
        BabyAI(levels)
