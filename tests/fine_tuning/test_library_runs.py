"""Runs whose pictures a frozen network of the user sees, with its features kept on the disk."""

import signal
from pathlib import Path
from typing import Any

import kill_points
import picture_world
import pytest
from tiny_runs import TINY, Run, assert_same_outcome

from amf_lightning.policies.weights import load_policy


def base(cache: Path | None) -> dict[str, Any]:
    options = {"function": "picture_world.Trunk", "output": "body", "frozen": True}
    encoder = {"class_path": "LibraryEncoder", "init_args": {**options, "cache": cache and str(cache)}}
    return {
        **TINY,
        "suite": picture_world.SUITE,
        "expert": picture_world.EXPERT,
        "model": {
            "policy": {"class_path": "ChunkedMLP", "init_args": {"horizon": 3, "hidden": [8], "encoder": encoder}},
            "optimizer": TINY["model"]["optimizer"],
        },
        "data": {"batch_size": 8, "steps_per_round": 12, "evaluation_episodes": 1},
        "selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["left", "right"]}},
        "retention": {"class_path": "NoRetention"},
        "active": {"budget": 2, "batch_size": 1},
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("runs") / "plain", {}, base=base(None)).complete()


def test_kept_features_change_no_bit_also_of_a_run_that_was_killed(plain: Run, tmp_path: Path) -> None:
    cache = tmp_path / "features"
    run = Run(tmp_path / "kept", {}, base=base(cache))
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), plain)
    assert list(cache.glob("*/*.safetensors")) and not list(cache.rglob("*.partial"))


def test_its_file_says_where_the_network_comes_from_and_not_where_features_were_kept(plain: Run) -> None:
    file = load_policy(str(plain.folder.policy))
    policy = file.make()
    assert file.options["encoder"]["init_args"]["function"] == "picture_world.Trunk"
    assert file.options["encoder"]["init_args"]["cache"] is None
    assert not any("head" in name and "see" in name for name in file.tensors)
    see = [weight for name, weight in policy.named_parameters() if ".see." in name]
    assert see and not any(weight.requires_grad for weight in see)
    assert torch_optimizer_size(plain) == sum(weight.requires_grad for weight in policy.parameters())


def torch_optimizer_size(run: Run) -> int:
    """Weights of which the run's optimiser keeps a state."""
    from amf_lightning.fine_tuning.checkpoint_io import read_checkpoint

    [state] = read_checkpoint(run.path / "checkpoints" / "last.ckpt")["optimizer_states"]
    return len(state["state"])
