"""`amf import` and `amf export`: what they say, what of a run they take, and what they need installed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from amf_lightning import Campaign, RoundRobin
from amf_lightning.command_line.main import main
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinyExpert, TinySuite


def recording(number: int) -> Trajectory:
    state = np.random.default_rng(number).normal(size=(5, 2)).astype(np.float32)
    return Trajectory({"state": state}, np.zeros((5, 1), np.float32), None, "goal=-1")


def test_what_is_new_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = DemonstrationStore(tmp_path / "given")
    for number in range(3):
        given.write(number, recording(number))
    main(["export", str(given.folder), str(tmp_path / "there"), "--format", "npz"])
    assert "3 demonstrations are in" in capsys.readouterr().out
    main(["import", str(tmp_path / "there"), str(tmp_path / "store")])
    assert "3 new demonstrations" in capsys.readouterr().out
    main(["import", str(tmp_path / "there"), str(tmp_path / "store")])
    said = capsys.readouterr()
    assert "0 new demonstrations" in said.out and "3 were there already" in said.out
    assert said.err == ""  # no progress bar where there is no terminal


def test_of_a_run_what_its_ledger_counts_is_exported(tmp_path: Path) -> None:
    suite = TinySuite()
    campaign = Campaign(tmp_path / "run", suite, RoundRobin())
    [request] = campaign.ask(1)
    [shown] = TinyExpert().demonstrate(suite, campaign.episodes([request]))
    assert shown is not None
    campaign.tell(request, shown)
    DemonstrationStore(tmp_path / "run" / "demonstrations").write(7, recording(7))  # as a killed process leaves it
    main(["export", str(tmp_path / "run"), str(tmp_path / "there"), "--format", "npz"])
    assert [path.name for path in sorted((tmp_path / "there").iterdir())] == ["000000.npz"]


@pytest.mark.parametrize(
    ("format", "library"), [("lerobot", "pyarrow.parquet"), ("minari", "h5py"), ("robomimic", "h5py")]
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, library: str
) -> None:
    store = DemonstrationStore(tmp_path / "given")
    store.write(0, recording(0))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(store.folder), str(tmp_path / "there"), "--format", format])
    from amf_lightning.demonstrations.exporting.destination import export_demonstrations

    with pytest.raises(InputError, match=r"pip install 'amf-lightning\[formats\]'"):
        export_demonstrations(store, {0: None}, tmp_path / "there", format)
    assert not (tmp_path / "there").exists()
