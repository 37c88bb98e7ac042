"""An ACT of LeRobot as a policy: the actions, features and losses that LeRobot computes itself, in runs and in files.

Run by `make test-lerobot`, in an environment of its own.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kill_points
import numpy as np
import picture_world
import pytest
import torch
from lerobot_world import make_checkpoint
from test_docs import follow, picks
from tiny_runs import TINY, Run, assert_same_outcome
from torch import Tensor

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.policies.controllers import Chunked, TemporalEnsemble
from amf_lightning.policies.lerobot import LeRobotACT
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.suites.static import StaticSuite
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from amf_lightning.uncertainty.projected_gradient import projected_gradients

WITHOUT = pytest.mark.skipif(
    find_spec("lerobot") is None,
    reason="LeRobot wants Python 3.12 and an older torch: `make test-lerobot` has an environment for it",
)
pytestmark = [pytest.mark.formats]
SEEN = {"state": Spec((3,)), "image/front": Spec((48, 40, 3), "uint8"), "image/wrist": Spec((3, 48, 40), "uint8")}
INPUTS = {
    "observation.state": (3,),
    "observation.images.front": (3, 48, 40),
    "observation.images.wrist": (3, 48, 40),
}
FRAMES, ACTIONS, TASKS = 10, 2, 2
SUITE = StaticSuite("seen", SEEN, ACTIONS, ["a", "b"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder, INPUTS, ACTIONS, n_action_steps=3)
    return folder


def frames(actions: bool = False) -> Steps:
    rng = np.random.default_rng(0)
    observations = {
        name: torch.from_numpy(
            rng.integers(0, 256, (FRAMES, *spec.shape)).astype(np.uint8)
            if spec.is_image
            else rng.normal(size=(FRAMES, *spec.shape)).astype(np.float32)
        )
        for name, spec in SEEN.items()
    }
    tasks = torch.arange(FRAMES) % TASKS
    steps = Steps(observations, tasks, torch.eye(TASKS)[tasks])
    return steps.with_actions(torch.rand(FRAMES, 4, ACTIONS) * 2 - 1) if actions else steps


def as_lerobot_has_it(steps: Steps, row: int) -> dict[str, Tensor]:
    """A frame as `LeRobotDataset` gives it: pictures of floats [3, height, width]."""
    seen = {name: entry[row] for name, entry in steps.observations.items()}
    return {
        "observation.state": seen["state"],
        "observation.images.front": seen["image/front"].permute(2, 0, 1).float() / 255,
        "observation.images.wrist": seen["image/wrist"].float() / 255,
    }


class Theirs:
    """The checkpoint, loaded by LeRobot's own functions."""

    def __init__(self, folder: Path) -> None:
        from lerobot.policies.act.modeling_act import ACTPolicy
        from lerobot.policies.factory import make_pre_post_processors

        self.policy = ACTPolicy.from_pretrained(folder)
        self.prepare, self.finish = make_pre_post_processors(self.policy.config, pretrained_path=str(folder))

    def chunks_and_features(self, steps: Steps) -> tuple[Tensor, Tensor]:
        given: list[Tensor] = []
        hook = self.policy.model.action_head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        chunks = [
            self.finish(self.policy.predict_action_chunk(self.prepare(as_lerobot_has_it(steps, row))))
            for row in range(len(steps))
        ]
        hook.remove()
        return torch.cat(chunks), torch.cat(given).mean(dim=1)


def made(folder: Path, **options: Any) -> LeRobotACT:
    return LeRobotACT(SEEN, TASKS, ACTIONS, checkpoint=str(folder), **options).eval()


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape and float(theirs.std()) > 1e-2
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@WITHOUT
def test_actions_and_features_of_ten_frames_are_lerobots(checkpoint: Path, tmp_path: Path) -> None:
    steps, policy = frames(), made(checkpoint)
    chunks, features = Theirs(checkpoint).chunks_and_features(steps)
    with torch.no_grad():
        close(policy.outputs(steps), chunks)
        close(policy.predict(steps), chunks.clamp(-1, 1))
        close(policy.embed(steps)[:, :-1], features)
        assert torch.equal(policy.embed(steps)[:, -1], torch.ones(FRAMES))
    assert policy.window.horizon == 4 and isinstance(policy.controller(), Chunked)


@WITHOUT
def test_it_carries_out_what_select_action_says(checkpoint: Path) -> None:
    steps, policy, theirs = frames(), made(checkpoint), Theirs(checkpoint)
    theirs.policy.reset()
    expected = [
        theirs.finish(theirs.policy.select_action(theirs.prepare(as_lerobot_has_it(steps, row)))) for row in range(9)
    ]
    controller = policy.controller()
    controller.begin([Episode(SUITE.tasks[0], 0)], 1)
    with torch.no_grad():
        close(torch.cat([controller.act(steps[row : row + 1]) for row in range(9)]), torch.cat(expected).clamp(-1, 1))


@WITHOUT
@pytest.mark.parametrize("training", [False, True])
def test_its_loss_is_lerobots(checkpoint: Path, training: bool) -> None:
    steps, policy, theirs = frames(actions=True), made(checkpoint), Theirs(checkpoint)
    policy.train(training)
    theirs.policy.train(training)
    batch = {name: torch.stack([as_lerobot_has_it(steps, row)[name] for row in range(FRAMES)]) for name in INPUTS} | {
        "action": steps.shown_actions,
        "action_is_pad": torch.zeros(FRAMES, 4, dtype=torch.bool),
    }
    torch.manual_seed(0)
    ours = policy.loss(steps)
    torch.manual_seed(0)
    expected, parts = theirs.policy.forward(theirs.prepare(batch))
    assert ours.shape == (FRAMES,) and ("kld_loss" in parts) == training
    torch.testing.assert_close(ours.mean(), expected, atol=1e-5, rtol=1e-5)
    mask = torch.ones(FRAMES, 4, dtype=torch.bool)
    mask[3, 1:] = False
    short = Steps(steps.observations, steps.tasks, steps.contexts, steps.actions, mask)
    changed = short.with_actions(torch.where(mask[..., None], short.shown_actions, torch.zeros(())))
    torch.manual_seed(0)
    loss = policy.loss(short)
    torch.manual_seed(0)
    torch.testing.assert_close(policy.loss(changed), loss)


@WITHOUT
def test_its_file_is_read_without_the_checkpoint(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "checkpoint", INPUTS, ACTIONS, normalization_mapping=limits())
    policy, steps = made(tmp_path / "checkpoint", action_low=[-2.0, 0.0], action_high=[2.0, 3.0]), frames(actions=True)
    chunks = Theirs(tmp_path / "checkpoint").chunks_and_features(steps)[0]
    with torch.no_grad():
        close(policy.outputs(steps), 2 * (chunks - torch.tensor([-2.0, 0.0])) / torch.tensor([4.0, 3.0]) - 1)
        assert float(policy.loss(steps.with_actions(policy.outputs(steps))).max()) < 1e-5
    (tmp_path / "checkpoint").rename(tmp_path / "gone")
    save_policy(tmp_path / "policy.safetensors", policy, SUITE.signature(), None, {})
    again = load_policy(str(tmp_path / "policy.safetensors")).make().eval()
    assert isinstance(again, LeRobotACT) and again.options == policy.options
    with torch.no_grad():
        assert torch.equal(again.outputs(steps), policy.outputs(steps))
        assert torch.equal(again.embed(steps), policy.embed(steps))


def limits() -> dict[str, Any]:
    from lerobot.configs.types import NormalizationMode

    return {
        "VISUAL": NormalizationMode.MEAN_STD,
        "STATE": NormalizationMode.MIN_MAX,
        "ACTION": NormalizationMode.MIN_MAX,
    }


@WITHOUT
def test_it_learns_its_task_and_goes_back_to_lerobot_where_it_is_not_told(checkpoint: Path, tmp_path: Path) -> None:
    steps = frames(actions=True)
    for told in (True, False):
        policy = made(checkpoint, tells_task=told)
        other = Steps(steps.observations, steps.tasks, steps.contexts.flip(1))
        with torch.no_grad():
            assert torch.equal(policy.predict(steps), policy.predict(other))
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.05)
        policy.train().loss(steps).mean().backward()  # type: ignore[no-untyped-call]
        missing = [name for name, weight in policy.named_parameters() if weight.grad is None]
        assert missing == []
        optimizer.step()
        policy.eval()
        with torch.no_grad():
            assert torch.equal(policy.predict(steps), policy.predict(other)) != told
        if told:
            with pytest.raises(InputError, match="Fine-tune with tells_task: false"):
                policy.save_pretrained(tmp_path / "told")
        else:
            policy.save_pretrained(tmp_path / "back")
            chunks, _ = Theirs(tmp_path / "back").chunks_and_features(steps)
            with torch.no_grad():
                close(policy.outputs(steps), chunks)


@WITHOUT
def test_the_context_may_be_an_input_and_chunks_be_averaged(tmp_path: Path) -> None:
    shapes = {**INPUTS, "observation.environment_state": (TASKS,)}
    del shapes["observation.state"], shapes["observation.images.wrist"]
    make_checkpoint(tmp_path, shapes, ACTIONS, temporal_ensemble_coeff=0.01, n_action_steps=1)
    policy, steps = made(tmp_path, inputs={"observation.environment_state": "context"}), frames()
    assert isinstance(policy.controller(), TemporalEnsemble) and policy.tell is None
    other = Steps(steps.observations, steps.tasks, steps.contexts.flip(1))
    with torch.no_grad():
        assert not torch.equal(policy.predict(steps), policy.predict(other))


@WITHOUT
def test_its_loss_can_be_differentiated_for_each_state(checkpoint: Path) -> None:
    policy, steps, moving = made(checkpoint), frames(actions=True)[:3], "model.action_head.weight"
    masks = {
        name: torch.full(weight.shape, name == moving, dtype=torch.bool) for name, weight in policy.named_parameters()
    }
    weight = policy.get_parameter(moving)
    exact = [torch.autograd.grad(policy.loss(steps[row : row + 1]).sum(), weight)[0].flatten() for row in range(3)]
    points = projected_gradients(policy, steps, masks, torch.eye(weight.numel()))
    torch.testing.assert_close(points.float(), torch.stack(exact), atol=1e-5, rtol=1e-4)


def edited(file: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return edit


@WITHOUT
@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), {}, "has no config.json.*Give the folder pretrained_model"),
        (lambda folder: (folder / "config.json").write_text("{"), {}, "config.json cannot be read"),
        (edited("config.json", lambda c: c.update(type="smolvla")), {}, "a policy of type 'smolvla'"),
        (
            edited("config.json", lambda c: c.update(chunk_size="many")),
            {},
            "cannot read the checkpoint's configuration",
        ),
        (edited("config.json", lambda c: c.update(vision_backbone="resnet0")), {}, "cannot make an ACT"),
        (edited("config.json", lambda c: c.update(dim_model=16)), {}, "tensor 'model.action_head.weight' is"),
        (
            edited("policy_preprocessor.json", lambda c: c["steps"].append({"class": "os.system"})),
            {},
            "has the step 'os.system'",
        ),
        (lambda folder: (folder / "policy_preprocessor.json").unlink(), {}, "migrate_policy_normalization"),
        (lambda folder: (folder / "model.safetensors").unlink(), {}, "There is no file"),
        (None, {"inputs": {"observation.images.top": "image/front"}}, "inputs names 'observation.images.top'"),
        (None, {"inputs": {"observation.state": "joints"}}, "sees 'observation.state', and the suite has no 'joints'"),
        (None, {"inputs": {"observation.state": "image/front"}}, r"is \[3\], and 'image/front' of the suite is"),
        (None, {"action_low": [0.0]}, "give action_low and action_high, 2 numbers each, or neither"),
        (None, {"action_low": [0.0, 1.0], "action_high": [1.0, 1.0]}, "must lie below action_high"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    damage: Callable[[Path], None] | None, options: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()) if file.suffix == ".json" else (
            tmp_path / file.name
        ).symlink_to(file)
    if damage is not None:
        damage(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        made(tmp_path, **options)
    assert "\n" not in str(raised.value)


def test_where_lerobot_is_missing_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("lerobot", "draccus")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lerobot", None)
    made_of = {"config": {}, "renamed": {}, "eps": 1e-8, "statistics": {}}
    with pytest.raises(InputError, match=r"needs lerobot, which is not.*pip install 'amf-lightning\[lerobot\]'"):
        LeRobotACT(SEEN, TASKS, ACTIONS, made_of=made_of)
    with pytest.raises(InputError, match="give the folder of a checkpoint"):
        LeRobotACT(SEEN, TASKS, ACTIONS)


def small_run_of(folder: Path) -> dict[str, Any]:
    """The configuration of a run of two rounds, with a checkpoint in the folder."""
    shapes = {"observation.state": (1,), "observation.images.camera": (3, 16, 16)}
    make_checkpoint(folder / "checkpoint", shapes, 1)
    options = {"checkpoint": str(folder / "checkpoint")}
    return {
        **TINY,
        "suite": picture_world.SUITE,
        "expert": picture_world.EXPERT,
        "model": {
            "policy": {"class_path": "LeRobotACT", "init_args": options},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
        },
        "data": {"batch_size": 4, "steps_per_round": 12, "evaluation_episodes": 1},
        "selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["left", "right"]}},
        "retention": {"class_path": "NoRetention"},
        "active": {"budget": 2, "batch_size": 1},
    }


@WITHOUT
@pytest.mark.timeout(1200)
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    base = small_run_of(tmp_path)
    killed = Run(tmp_path / "killed", {}, base=base)
    assert killed.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(killed.complete(), Run(tmp_path / "plain", {}, base=base).complete())


@WITHOUT
@pytest.mark.timeout(1200)
def test_two_processes_make_the_run_of_one(tmp_path: Path) -> None:
    base = small_run_of(tmp_path)
    one = Run(tmp_path / "one", {}, ("--trainer.accumulate_grad_batches", "2"), base).complete()
    two = Run(tmp_path / "two", {}, ("--trainer.strategy", "ddp", "--trainer.devices", "2"), base)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with two.log.open("wb") as log:
        command = [sys.executable, "-m", "amf_lightning", *two.command]
        done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, two.log.read_text()
    assert_same_outcome(two, one)


@WITHOUT
@pytest.mark.timeout(1200)
def test_the_page_runs(tmp_path: Path) -> None:
    """`same.py` of the page compares ten frames; the run then selects, is held to its start, and goes back."""
    (status,) = follow("from-a-lerobot-checkpoint.md", tmp_path)
    start, tuned = (RunFolder(tmp_path / "runs" / name) for name in ("start", "tuned"))
    before, after = (load_policy(str(run.policy)) for run in (start, tuned))
    assert before.statistics is not None and before.statistics.second_moment.shape == (33, 33)
    assert (
        before.pretraining_counts == {"left": 2, "right": 2, "near": 0} or sum(before.pretraining_counts.values()) == 4
    )
    assert len(picks(tuned)) == 2 and "2" in status
    same = {name: torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items()}
    assert all(kept for name, kept in same.items() if name.startswith("model.backbone."))
    assert not same["model.action_head.weight"] and after.tensors["tell.weight"].any()
    assert (tmp_path / "fine-tuned" / "model.safetensors").is_file()
