"""Real runs that train on one GPU and act on the CPU; where there is none, the same runs on the CPU."""

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kill_points
import pytest
import torch
from amf_process import amf
from placed_policy import LEARNS_ON
from safetensors.torch import load_file
from tiny_runs import PRETRAINING, Run, assert_same_outcome, fine_tuning_of

from amf_lightning.campaign.curve import MEAN

pytestmark = pytest.mark.gpu
MakeRun = Callable[..., Run]
ACCELERATOR = "gpu" if torch.cuda.is_available() else "cpu"
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="losses are scaled on GPUs only")
BACKEND = "inductor" if torch.cuda.is_available() else "aot_eager"  # which takes seconds, not a minute
CLOSE = 0.05
"""How far mean scores in [0, 1] may lie apart after three rounds: the last bits of a step differ between devices."""


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """π0: knows two of the four goals."""
    return Run(tmp_path_factory.mktemp("pretrained") / "run", PRETRAINING).complete().folder.policy


@pytest.fixture(scope="session")
def runs_from(pretrained: Path) -> Callable[[Path], MakeRun]:
    def maker(folder: Path) -> MakeRun:
        def make(
            name: str = "gpu", changes: Mapping[str, Any] | None = None, accelerator: str = ACCELERATOR, **trainer: Any
        ) -> Run:
            placed = {"trainer": {"accelerator": accelerator, "devices": 1, **trainer}}
            return Run(folder / name, fine_tuning_of(pretrained, placed, changes or {}))

        return make

    return maker


@pytest.fixture
def make_run(runs_from: Callable[[Path], MakeRun], tmp_path: Path) -> MakeRun:
    """Makes a run on the GPU in a folder of this test."""
    return runs_from(tmp_path)


@pytest.fixture(scope="session")
def uninterrupted(runs_from: Callable[[Path], MakeRun], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The fine-tuning run on the GPU, left alone."""
    return runs_from(tmp_path_factory.mktemp("uninterrupted"))().complete()


@pytest.fixture(scope="session")
def on_the_cpu(runs_from: Callable[[Path], MakeRun], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run on the CPU."""
    return runs_from(tmp_path_factory.mktemp("on-the-cpu"))("cpu", accelerator="cpu").complete()


def scores(run: Run) -> list[float]:
    return [row.score for row in run.folder.read_curve() if row.task == MEAN]


def assert_close(run: Run, other: Run) -> None:
    assert scores(run)[0] == scores(other)[0]  # π0 acts on the CPU
    assert torch.tensor(scores(run)).sub(torch.tensor(scores(other))).abs().max() < CLOSE


def test_it_learns_on_the_gpu_and_acts_on_the_cpu(make_run: MakeRun) -> None:
    changes = {
        "model": {"policy": {"class_path": "placed_policy.PlacedPolicy"}, "pretrained": None},
        "retention": {"class_path": "NoRetention"},
        "selector": {"class_path": "RoundRobin"},
    }
    run = make_run(changes=changes).complete()
    assert len(scores(run)) == 4
    assert f"learns on {LEARNS_ON}" in run.log.read_text()


def test_cpu_and_gpu_agree(uninterrupted: Run, on_the_cpu: Run) -> None:
    gpu, cpu = (run.folder.read_selections() for run in (uninterrupted, on_the_cpu))
    for mine, theirs in list(zip(gpu, cpu, strict=True))[
        :2
    ]:  # before any training: only the criterion's device differs
        assert mine.task == theirs.task
        assert torch.allclose(torch.tensor(mine.scores), torch.tensor(theirs.scores), rtol=1e-6)
    assert_close(uninterrupted, on_the_cpu)


def test_frozen_entries_stay_as_pi0_has_them(uninterrupted: Run, pretrained: Path) -> None:
    before, after = load_file(pretrained), load_file(uninterrupted.folder.policy)
    names = [name for name in before if name.startswith("policy.") and name.rpartition(".")[2] in ("weight", "bias")]
    equal = sum(int((before[name] == after[name]).sum()) for name in names)
    entries = sum(before[name].numel() for name in names)
    assert round(0.3 * entries) <= equal < 0.5 * entries


@pytest.mark.parametrize("round", [0, 2])
def test_a_killed_run_ends_with_the_same_bits(make_run: MakeRun, uninterrupted: Run, round: int) -> None:
    run = make_run()
    assert run.finish(kill_points.in_mid_epoch, round) == -signal.SIGKILL
    assert_same_outcome(run.complete(), uninterrupted)


def test_dropout_draws_the_same_after_a_kill(make_run: MakeRun) -> None:
    changes = {
        "model": {"policy": {"class_path": "drawing_policies.Noisy"}, "pretrained": None},
        "retention": {"class_path": "NoRetention"},
        "selector": {"class_path": "RoundRobin"},
    }
    alone, killed = make_run("alone", changes).complete(), make_run("killed", changes)
    assert killed.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(killed.complete(), alone)


@pytest.mark.parametrize("first", ["cpu", "gpu"])
def test_a_run_goes_on_on_another_device(make_run: MakeRun, first: str, on_the_cpu: Run) -> None:
    devices = {"cpu": "cpu", "gpu": ACCELERATOR}
    make_run("moved", {"active": {"budget": 2}}, devices[first]).complete()
    second = devices["gpu" if first == "cpu" else "cpu"]
    assert_close(make_run("moved", {}, second).complete(), on_the_cpu)


RETENTIONS: dict[str, dict[str, Any]] = {
    "penalty by importance": {"class_path": "ElasticWeights", "init_args": {"weight": 0.01}},
    "plain penalty": {"class_path": "L2ToPretrained", "init_args": {"weight": 0.01}},
    "mixture": {"class_path": "AdaptivePrior"},
    "copies": {"class_path": "ParameterIsolation"},
    "modules": {"class_path": "FreezeModules", "init_args": {"patterns": ["backbone.0.*"]}},
}


@pytest.mark.parametrize("name", RETENTIONS)
def test_every_retention_does_the_same_on_both(make_run: MakeRun, name: str) -> None:
    changes = {"retention": RETENTIONS[name], "active": {"budget": 2}}
    assert_close(make_run("gpu", changes).complete(), make_run("cpu", changes, "cpu").complete())


def test_an_oracle_looks_ahead_to_what_then_happens(make_run: MakeRun) -> None:
    run = make_run(changes={"selector": {"class_path": "Oracle"}, "active": {"budget": 2, "batch_size": 1}}).complete()
    assert scores(run)[1:] == [max(choice.scores) for choice in run.folder.read_selections()]


def test_a_gaussian_process_is_refitted(make_run: MakeRun) -> None:
    changes = {
        "model": {"policy": {"class_path": "GaussianProcessPolicy", "init_args": {"capacity": 64}}, "pretrained": None},
        "retention": {"class_path": "NoRetention"},
        "selector": {"class_path": "InformationGain", "init_args": {"embedding": {"class_path": "PolicyBelief"}}},
    }
    assert_close(make_run("gpu", changes).complete(), make_run("cpu", changes, "cpu").complete())


def test_bf16_mixed(make_run: MakeRun, on_the_cpu: Run) -> None:
    run = make_run(precision="bf16-mixed").complete()
    assert abs(scores(run)[-1] - scores(on_the_cpu)[-1]) < 2 * CLOSE


@NEEDS_GPU
def test_16_mixed(make_run: MakeRun) -> None:
    run = make_run(precision="16-mixed", gradient_clip_val=0).complete()
    assert scores(run)[-1] > scores(run)[0]  # the first steps are skipped until the scale fits
    refused = make_run("refused", precision="16-mixed")  # the default optimiser is fused, and this run clips
    assert refused.finish() == 2
    assert "model.optimizer" in refused.log.read_text()


def test_torch_compile(make_run: MakeRun, on_the_cpu: Run) -> None:
    callback = {
        "class_path": "amf_lightning.fine_tuning.compiled_loss.CompiledLoss",
        "init_args": {"backend": BACKEND},
    }
    run = make_run(callbacks=[callback]).complete()
    assert_close(run, on_the_cpu)
    assert "torch._dynamo hit config" not in run.log.read_text()


def test_a_process_group_of_one(make_run: MakeRun, uninterrupted: Run) -> None:
    run = make_run(strategy="ddp").complete()
    assert run.folder.selections.read_bytes() == uninterrupted.folder.selections.read_bytes()
    assert run.folder.curve.read_bytes() == uninterrupted.folder.curve.read_bytes()


def test_a_validation_finds_what_the_fit_found(make_run: MakeRun) -> None:
    run = make_run(changes={"active": {"budget": 2}}).complete()
    fitted = json.loads(run.folder.evaluation.read_text())
    done = amf("validate", *run.command[1:], cwd=run.path.parent)
    assert done.code == 0, done.said
    validated = json.loads(run.folder.evaluation.read_text())
    assert validated["evaluated"] == str(run.folder.checkpoint)
    assert [validated[key] for key in ("tasks", "mean")] == [fitted[key] for key in ("tasks", "mean")]
