"""A policy of the tiny world, pre-trained once, and a maker of runs that start from it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import PRETRAINING, Run, fine_tuning_of

MakeRun = Callable[..., Run]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """π0: knows two of the four goals."""
    run = Run(tmp_path_factory.mktemp("pretrained") / "run", PRETRAINING)
    return run.complete().folder.policy


@pytest.fixture(scope="session")
def runs_from(pretrained: Path) -> Callable[[Path], MakeRun]:
    def maker(folder: Path) -> MakeRun:
        def make(name: str = "run", changes: Mapping[str, Any] | None = None, options: tuple[str, ...] = ()) -> Run:
            return Run(folder / name, fine_tuning_of(pretrained, changes or {}), options)

        return make

    return maker


@pytest.fixture
def make_run(runs_from: Callable[[Path], MakeRun], tmp_path: Path) -> MakeRun:
    """Makes a run in a folder of this test."""
    return runs_from(tmp_path)


@pytest.fixture(scope="session")
def uninterrupted(runs_from: Callable[[Path], MakeRun], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The fine-tuning run, left alone."""
    return runs_from(tmp_path_factory.mktemp("uninterrupted"))().complete()
