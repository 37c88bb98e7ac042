"""Runs of policies that see pictures and predict or draw chunks, in an environment of a user."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import kill_points
import picture_world
import pytest
from process_groups import end_of
from test_two_processes import SAME_SHARDS, TWO_PROCESSES
from test_two_processes import start as start_processes
from tiny_runs import TINY, Run, assert_same_outcome

from amf_lightning.policies.weights import load_policy

ENCODER = {"class_path": "ConvEncoder", "init_args": {"channels": [4, 4], "resize": 8, "shift": 1}}
POLICIES: dict[str, dict[str, Any]] = {
    "FlowPolicy": {"encoder": ENCODER, "horizon": 3, "width": 16, "layers": 1, "steps": 3},
    "ActionChunkingTransformer": {"encoder": ENCODER, "horizon": 3, "width": 16, "heads": 2, "encoder_layers": 1},
}
CONTROLLERS = {"FlowPolicy": "Chunked", "ActionChunkingTransformer": "TemporalEnsemble"}


def world_of(name: str) -> dict[str, Any]:
    """The settings that all runs of a policy share."""
    return {
        **TINY,
        "suite": picture_world.SUITE,
        "expert": picture_world.EXPERT,
        "model": {
            "policy": {"class_path": name, "init_args": POLICIES[name]},
            "controller": {"class_path": CONTROLLERS[name]},
            "optimizer": TINY["model"]["optimizer"],
        },
        "data": {"batch_size": 8, "steps_per_round": 12, "evaluation_episodes": 1},
    }


PRETRAINING: dict[str, Any] = {
    "selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["left", "right"]}},
    "retention": {"class_path": "NoRetention"},
    "active": {"budget": 2, "batch_size": 2},
}
FROZEN = "encoder.see.*"


def fine_tuning(pretrained: Path) -> dict[str, Any]:
    """Two rounds by information gain, with an encoder that is frozen and π0 as the teacher."""
    parts = [
        {"class_path": "FreezeModules", "init_args": {"patterns": [FROZEN]}},
        {"class_path": "SelfDistillation", "init_args": {"episodes": 1}},
    ]
    return {
        "selector": {"class_path": "InformationGain"},
        "retention": {"class_path": "CombinedRetention", "init_args": {"parts": parts}},
        "model": {"pretrained": str(pretrained)},
        "active": {"budget": 2, "batch_size": 1},
    }


@pytest.fixture(scope="module", params=POLICIES)
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, base = tmp_path_factory.mktemp("runs"), world_of(request.param)
    start = Run(folder / "start", PRETRAINING, base=base).complete().folder.policy
    return Run(folder / "run", fine_tuning(start), base=base).complete()


def test_two_rounds_by_information_gain_keep_the_frozen_encoder_to_the_bit(uninterrupted: Run) -> None:
    jobs = uninterrupted.folder.read_selections()
    assert [job.round for job in jobs] == [0, 1] and all(score > 0 for job in jobs for score in job.scores)
    before = load_policy(uninterrupted.changes["model"]["pretrained"])
    after = load_policy(str(uninterrupted.folder.policy))
    assert before.statistics is not None and after.statistics is not None
    seen = [name for name in before.tensors if name.startswith("encoder.see.")]
    assert len(seen) == 8 and all(before.tensors[name].equal(after.tensors[name]) for name in seen)
    moved = [name for name in before.tensors if not before.tensors[name].equal(after.tensors[name])]
    assert "head.weight" in moved and not any(name.startswith("encoder.") for name in moved)


def test_a_run_that_was_killed_in_mid_round_ends_as_if_it_had_not_been(uninterrupted: Run) -> None:
    run = Run(uninterrupted.path.with_name("killed"), uninterrupted.changes, base=uninterrupted.base)
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), uninterrupted)


def test_its_file_is_loaded_without_training_code(uninterrupted: Run) -> None:
    """In less than two seconds beyond `import torch`, of the processor: other things run beside the tests."""
    code = (
        "import sys, time, torch; begun = time.process_time()\n"
        "from amf_lightning.policies.weights import load_policy\n"
        f"policy = load_policy({str(uninterrupted.folder.policy)!r}).make()\n"
        "print(time.process_time() - begun)\n"
        "assert policy.is_normalised and not {'lightning', 'torchvision', 'gymnasium'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_two_processes_make_what_one_makes_that_accumulates_two_gradients(name: str, tmp_path: Path) -> None:
    together, alone = (
        Run(tmp_path / each, PRETRAINING, options, base=world_of(name))
        for each, options in (("together", TWO_PROCESSES), ("alone", SAME_SHARDS))
    )
    assert end_of(start_processes(together), within=240) == 0, together.log.read_text()
    assert_same_outcome(together, alone.complete())
