"""Two real ddp processes on the CPU: what they make, and what becomes of one when the other dies."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from frozen_entries import frozen_mask, weights
from mortal import LAST_WORDS
from process_groups import end_of
from tiny_runs import Run, assert_same_outcome

from amf_lightning.retention.frozen import FreezeByImportance

TESTS = Path(__file__).resolve().parents[1]
MORTAL = {
    "expert": {"class_path": "mortal.MortalExpert"},
    "model": {"policy": {"class_path": "mortal.MortalPolicy", "init_args": {"hidden": [16, 16]}}},
}
TWO_PROCESSES = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
SAME_SHARDS = ("--trainer.accumulate_grad_batches", "2")


def start(run: Run, death: str = "") -> "subprocess.Popen[bytes]":
    """Starts the run's command as the leader of a process group of its own."""
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "DEATH": death}
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "amf_lightning", *run.command],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for_death(process: "subprocess.Popen[bytes]", run: Run, deaths: int) -> None:
    """Waits until so many processes of a run have announced their death."""
    while run.log.read_text(errors="replace").count(LAST_WORDS) < deaths:
        assert process.poll() is None, run.log.read_text()
        time.sleep(0.1)


@pytest.fixture(scope="module")
def one_process(runs_from: Callable[[Path], Callable[..., Run]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process that accumulates the gradients of two shards."""
    return runs_from(tmp_path_factory.mktemp("one"))("run", MORTAL, SAME_SHARDS).complete()


def test_two_processes_make_the_same_run_as_one_that_accumulates_two_gradients(
    make_run: Callable[..., Run], one_process: Run, pretrained: Path
) -> None:
    run = make_run("run", MORTAL, TWO_PROCESSES)
    assert end_of(start(run), within=240) == 0, run.log.read_text()
    assert_same_outcome(run, one_process)
    assert [line.partition(":")[0] for line in run.log.read_text().splitlines() if line.startswith("round")] == [
        "round 0",
        "round 1",
        "round 2",
    ], "one process speaks"
    assert len(list(run.path.glob("*tfevents*"))) == 1, "one process logs"
    frozen = frozen_mask(pretrained, FreezeByImportance(0.3))
    assert 0 < frozen.sum() < frozen.numel()
    before, after = weights(pretrained), weights(run.folder.policy)
    assert torch.equal(after == before, frozen)


@pytest.mark.slow  # the soak kills ranks in every CI
@pytest.mark.timeout(900)  # three starts of two processes; a busy machine takes its time
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux shows in /proc which processes live")
@pytest.mark.parametrize(
    "deaths",
    [
        pytest.param(["1 expert 2"], id="rank 1 collecting"),
        pytest.param(["1 expert 2", "0 policy 6"], id="then rank 0 training"),
        pytest.param(["0 expert 2", "1 policy 6"], id="rank 0 collecting, rank 1 training"),
    ],
)
def test_a_rank_that_dies_takes_the_other_with_it_and_the_run_goes_on_later(
    make_run: Callable[..., Run], one_process: Run, deaths: list[str]
) -> None:
    run = make_run("run", MORTAL, TWO_PROCESSES)
    for number, death in enumerate(deaths, start=1):
        process = start(run, death)
        wait_for_death(process, run, number)
        assert end_of(process, within=60) != 0
        assert run.folder.checkpoint.is_file(), "it died before it had done anything"
        assert not run.folder.policy.exists()
    assert end_of(start(run), within=240) == 0, run.log.read_text()
    assert_same_outcome(run, one_process)


@pytest.mark.slow
def test_two_processes_deploy_what_one_does(make_run: Callable[..., Run]) -> None:
    changes = {"selector": {"class_path": "GapReduction", "init_args": {"deploy_margin": 0.05}}}
    one, two = make_run("one", changes, SAME_SHARDS).complete(), make_run("two", changes, TWO_PROCESSES)
    assert end_of(start(two), within=240) == 0, two.log.read_text()
    assert_same_outcome(two, one)
