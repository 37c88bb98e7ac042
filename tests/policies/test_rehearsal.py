"""Policies that would run to the end and be another one each time, or learn nothing: refused when they are made."""

import os
import random
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawing_policies import Dropping, Noisy
from field_policies import CameraPolicy, CameraSuite, FlowPolicy
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.processes import check_cores, check_nodes, check_processes
from amf_lightning.policies.categorical import CategoricalMLPPolicy
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.rehearsal import rehearse
from amf_lightning.seeding import RowGenerators, drawn_by
from amf_lightning.tasks.spec import Spec, Specs, state_size
from amf_lightning.tasks.steps import Steps, Window
from tiny import TinySuite

SUITE = TinySuite()
DIMS = (SUITE.observation, 1, 1)


@pytest.fixture(autouse=True)
def nothing_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Plain(Policy):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Linear(state_size(observation, type(self).__name__) + context_dim, width)
        self.head = nn.Linear(width, action_dim)

    def hidden(self, steps: Steps) -> Tensor:
        return torch.relu(self.body(torch.cat([steps.state, steps.contexts], dim=1)))

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(self.head(self.hidden(steps)))


class Recurrent(Plain):
    """Remembers by itself, with the graph kept."""

    memory: Tensor | None = None

    def hidden(self, steps: Steps) -> Tensor:
        seen = super().hidden(steps)
        if self.memory is not None and len(self.memory) == len(seen):
            seen = seen + self.memory
        self.memory = self.kept(seen)
        return seen

    def kept(self, seen: Tensor) -> Tensor:
        return seen


class RecurrentWithoutGraph(Recurrent):
    def kept(self, seen: Tensor) -> Tensor:
        return seen.detach()


class DrawsFromTorch(Plain):
    def act(self, steps: Steps) -> Tensor:
        return (super().act(steps) + torch.randn(len(steps), 1)).clamp(-1, 1)


class DrawsFromNumpy(Plain):
    def act(self, steps: Steps) -> Tensor:
        return super().act(steps) * float(np.random.rand())


class DrawsFromPython(Plain):
    def act(self, steps: Steps) -> Tensor:
        return super().act(steps) * random.random()


class AlwaysDropping(Plain):
    """`F.dropout` drops out in evaluation mode too, unless it is told not to."""

    def hidden(self, steps: Steps) -> Tensor:
        return F.dropout(super().hidden(steps), 0.5)


class SamplesByItself(Plain):
    """Deterministic where nobody asks for a sample; else it does not draw from the generator that it is given."""

    samples = True

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        actions = self.act(steps)
        if generator is not None:
            actions = actions + torch.randn_like(actions)
        return actions[:, None]


class OfTheBatch(Plain):
    def hidden(self, steps: Steps) -> Tensor:
        seen = super().hidden(steps)
        return seen - seen.mean(dim=0)


class Chunks(Plain):
    """Gives the next four actions where one is asked for."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, 4 * action_dim)

    def act(self, steps: Steps) -> Tensor:
        return super().act(steps).reshape(len(steps), 4, -1)


class Wide(Plain):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim + 1)


class FirstOfChunk(Chunks):
    """Predicts a chunk, and gives and learns its first action: nothing is wrong with that."""

    def act(self, steps: Steps) -> Tensor:
        return super().act(steps)[:, 0]


class Arrays(Plain):
    def act(self, steps: Steps) -> Any:
        return super().act(steps).detach().numpy()


class Detached(Plain):
    def act(self, steps: Steps) -> Tensor:
        return super().act(steps).detach()


class WithoutGradient(Plain):
    @torch.no_grad()
    def act(self, steps: Steps) -> Tensor:
        return super().act(steps)


class DetachedHidden(Plain):
    def hidden(self, steps: Steps) -> Tensor:
        return super().hidden(steps).detach()


class TimesZero(Plain):
    """Its loss depends on the weights for autograd only."""

    def loss(self, steps: Steps) -> Tensor:
        return 0 * super().loss(steps) + steps.shown_actions.square().mean(dim=1)


class Rounded(Plain):
    """Steps between the same few actions: each has a gradient of zero."""

    def act(self, steps: Steps) -> Tensor:
        return (8 * super().act(steps)).round() / 8


class Saturated(Plain):
    """Its initial weights, or its rows in another unit, leave tanh no slope: others do."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int, scale: float = 1e6) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.scale = scale
        self.body.bias.data.zero_()

    def hidden(self, steps: Steps) -> Tensor:
        seen: Tensor = self.body(torch.cat([steps.state * self.scale, 0 * steps.contexts], dim=1))
        return seen


class WithoutWeights(Policy):
    """Its layers are in a list, where torch does not look."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__()
        self.layers = [nn.Linear(context_dim, action_dim)]

    def act(self, steps: Steps) -> Tensor:
        return torch.tanh(steps.contexts)


class Counting(Plain):
    """Its loss goes down with every call."""

    calls = 0

    def loss(self, steps: Steps) -> Tensor:
        self.calls += 1
        return super().loss(steps) / self.calls


class CountingInABuffer(Plain):
    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.register_buffer("calls", torch.zeros(()))

    def loss(self, steps: Steps) -> Tensor:
        self.get_buffer("calls").add_(1)
        return super().loss(steps) / self.get_buffer("calls")


class LossOfEntries(Plain):
    def loss(self, steps: Steps) -> Tensor:
        return (self.act(steps) - steps.shown_actions).square()


class MeanLoss(Plain):
    def loss(self, steps: Steps) -> Tensor:
        return super().loss(steps).mean()


class RandomFeatures(Plain):
    """What its constructor draws is in no file."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.directions = torch.randn(8, 8)

    def hidden(self, steps: Steps) -> Tensor:
        return super().hidden(steps) @ self.directions


class LooksUp(Plain):
    """Knows two phases, told by a number of the state: it cannot take any."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int) -> None:
        super().__init__(observation, context_dim, action_dim)
        self.phases = nn.Embedding(2, 8)

    def hidden(self, steps: Steps) -> Tensor:
        of_phase: Tensor = self.phases(steps.state[:, 0].long())
        return super().hidden(steps) + of_phase


class Looking(Plain):
    """Sees the last three observations: what it remembers is in its window."""

    window = Window(history=3)

    def hidden(self, steps: Steps) -> Tensor:
        return torch.relu(self.body(torch.cat([steps.state.mean(dim=1), steps.contexts], dim=1)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Recurrent, "act gives other actions when it is called again with the same rows. .*in a controller"),
        (RecurrentWithoutGraph, "act gives other actions when it is called again"),
        (DrawsFromTorch, "act draws from torch's global generator, .*from the generator that it is given"),
        (DrawsFromNumpy, r"act draws from numpy's `np\.random`"),
        (DrawsFromPython, "act draws from Python's `random`"),
        (AlwaysDropping, r"F\.dropout\(x, training=self\.training\)"),
        (SamplesByItself, "predict draws from torch's global generator"),
        (OfTheBatch, "act gives for a row depends on the rows beside it"),
        (Chunks, r"act gave \[8, 4, 1\] for 8 rows, not \[8, 1\]\. .*Window\(horizon=4\) and gives them in predict"),
        (Wide, r"act gave \[8, 2\] for 8 rows, not \[8, 1\]: an action has 1 entries"),
        (Arrays, r"act gave a ndarray, not a tensor \[8, 1\]"),
        (Detached, r"no gradient of its loss reaches a weight, so nothing would be trained\. Look for detach"),
        (WithoutGradient, r"no gradient of its loss reaches a weight.*torch\.no_grad"),
        (TimesZero, r"the gradient of its loss is zero in every entry of every weight.*a factor of zero"),
        (Rounded, r"the gradient of its loss is zero in every entry"),
        (WithoutWeights, "it has no weight that could be trained.*ModuleList"),
        (Counting, "in training its loss changes when it is called again .*register_buffer"),
        (LossOfEntries, r"loss gave \[8, 1\] for 8 rows; it must give a loss for each row, \[8\], e\.g\. by \.mean"),
        (MeanLoss, r"loss gave \[\] for 8 rows"),
        (RandomFeatures, r"made again from its options and the tensors of its file it acts otherwise"),
    ],
)
def test_it_is_refused_when_it_is_made_with_what_to_do(kind: type[Policy], message: str) -> None:
    with pytest.raises(UserCodeError, match=rf"^{kind.__name__} \(.*test_rehearsal\.py\): .*{message}"):
        BehaviouralCloning(SUITE, kind)


@pytest.mark.parametrize(
    "kind", [Plain, Dropping, Noisy, MLPPolicy, FlowPolicy, FirstOfChunk, CountingInABuffer, LooksUp, Looking]
)
def test_what_draws_in_training_counts_in_a_buffer_or_looks_back_passes(kind: type[Policy]) -> None:
    policy = kind(*DIMS)
    states = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    assert drawn_by(lambda: rehearse(policy, SUITE)) == [], "it leaves no trace"
    assert all(torch.equal(tensor, states[name]) for name, tensor in policy.state_dict().items())
    assert policy.training and all(parameter.grad is None for parameter in policy.parameters())


def test_a_policy_that_saturates_here_may_learn_elsewhere() -> None:
    rehearse(Saturated(*DIMS), SUITE)
    saturated = Plain(*DIMS)
    saturated.head.bias.data.fill_(1e6)
    rehearse(saturated, SUITE)


def test_pictures_choices_and_what_is_refitted_pass() -> None:
    camera = CameraSuite()
    rehearse(CameraPolicy(camera.observation, 1, 1), camera)
    rehearse(GaussianProcessPolicy(*DIMS), SUITE)
    choices = TinySuite()
    choices.action_dim, choices.discrete = 3, True
    rehearse(CategoricalMLPPolicy(choices.observation, 1, 3), choices)


def test_weights_that_no_gradient_reaches_are_named_once() -> None:
    message = (
        r"^DetachedHidden: no gradient of its loss reaches body\.weight, body\.bias of 4 weights: they stay as they"
    )
    with pytest.warns(UserWarning, match=message):
        rehearse(DetachedHidden(*DIMS), SUITE)
    frozen = DetachedHidden(*DIMS)
    frozen.body.requires_grad_(False)
    rehearse(frozen, SUITE)


class Old(Policy):
    """As it was written for 0.1."""

    def __init__(self, observation_dim: int, context_dim: int, action_dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(observation_dim + context_dim, action_dim)

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:  # type: ignore[override]
        return torch.tanh(self.head(torch.cat([observations, contexts], 1)))


class OldConstructor(Plain):
    def __init__(self, observation_dim: int, context_dim: int, action_dim: int) -> None:
        super().__init__({"state": Spec((observation_dim + context_dim,))}, context_dim, action_dim)


class WithoutGenerator(Plain):
    def predict(self, steps: Steps) -> Tensor:  # type: ignore[override]
        return self.act(steps)[:, None]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Old, r"Old \(.*test_rehearsal\.py\): act\(self, observations.* is called as act\(steps\), and cannot"),
        (OldConstructor, r"its constructor cannot be called .*state_size\(observation"),
        (WithoutGenerator, r"predict\(self, steps.* is called as predict\(steps, generator\)"),
    ],
)
def test_what_was_written_for_an_earlier_version_is_told_what_changed(kind: type[Policy], message: str) -> None:
    with pytest.raises(UserCodeError, match=message):
        BehaviouralCloning(SUITE, kind)


def trainer(processes: int, strategy: DDPStrategy) -> Any:
    """What of a trainer is looked at."""
    return SimpleNamespace(world_size=processes, strategy=strategy, precision="32-true")


def test_more_processes_than_a_machine_bears_are_refused_and_more_than_its_cores_are_told() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def on(processes: int, accelerator: object, rank: int = 0) -> Any:
        return SimpleNamespace(num_devices=processes, accelerator=accelerator, is_global_zero=rank == 0)

    check_cores(on(cores, CPUAccelerator()))
    check_cores(on(999, CUDAAccelerator()))
    check_cores(on(cores + 1, CPUAccelerator(), rank=1))
    with pytest.warns(UserWarning, match=rf"trainer\.devices: {cores + 1} starts .*at most {cores}"):
        check_cores(on(cores + 1, CPUAccelerator()))
    with pytest.raises(InputError, match=r"trainer\.devices: 999 starts as many .*accumulate_grad_batches: 999 one"):
        check_cores(on(999, CPUAccelerator()))


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, r"num_nodes is 99, and nothing says where .*MASTER_ADDR, MASTER_PORT, NODE_RANK is not set"),
        (
            {"SLURM_NTASKS": "4", "SLURM_NNODES": "2"},
            r"but SLURM \(SLURM_NNODES\) says 2\. Set trainer\.num_nodes: 2",
        ),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}, r"torchrun .* says 3\."),
        ({"MASTER_ADDR": "a", "MASTER_PORT": "1", "NODE_RANK": "0"}, None),
        ({"SLURM_NTASKS": "99", "SLURM_NNODES": "99"}, None),
    ],
)
def test_machines_that_would_be_waited_for_in_vain_are_refused(
    environment: dict[str, str],
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    many: Any = SimpleNamespace(num_nodes=99, is_global_zero=True)
    with pytest.raises(InputError, match=message) if message else nullcontext():
        check_nodes(many)
    assert ("99 machines at a:1" in capsys.readouterr().out) == ("NODE_RANK" in environment)
    check_nodes(SimpleNamespace(num_nodes=1))  # type: ignore[arg-type]


def test_several_processes_refuse_what_they_would_wait_for() -> None:
    missed = DetachedHidden(*DIMS)
    with pytest.raises(InputError, match=r"2 processes wait .* reaches body\.weight, body\.bias\. Set trainer"):
        check_processes(missed, SUITE, trainer(2, DDPStrategy()))
    check_processes(missed, SUITE, trainer(2, DDPStrategy(find_unused_parameters=True)))
    check_processes(missed, SUITE, trainer(1, DDPStrategy()))
    check_processes(Dropping(*DIMS), SUITE, trainer(2, DDPStrategy()))
    with pytest.raises(InputError, match="is fitted in closed form, which 2 processes cannot share"):
        check_processes(GaussianProcessPolicy(*DIMS), SUITE, trainer(2, DDPStrategy()))
