"""What every policy and every controller keeps to."""

import tempfile
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from field_policies import CameraPolicy, CameraSuite, FlowPolicy
from lerobot_world import make_checkpoint
from making import every

from amf_lightning.catalogue import resolve
from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Density, Embeds, LinearHead
from amf_lightning.policies.lerobot import LeRobotACT
from amf_lightning.policies.protocol import Policy, RefittedPolicy, frozen_copy
from amf_lightning.policies.weights import PolicyFactory, build_policy, load_policy, save_policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps, Window
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

WORLDS = (TinySuite(), CameraSuite())
"""What a policy may be made for: a vector, or pictures beside it. A policy is tried in the first that it can read."""
FIELD = {f"field_policies.{cls.__name__}": cls for cls in (FlowPolicy, CameraPolicy)}
"""Policies that are not of the package: as a stranger writes them, of chunks and of pictures."""
LEROBOT = pytest.param(
    "LeRobotACT",
    marks=[
        pytest.mark.formats,
        pytest.mark.skipif(
            find_spec("lerobot") is None,
            reason="LeRobot wants Python 3.12 and an older torch: `make test-lerobot` has an environment for it",
        ),
    ],
)
POLICIES = [*every("policy"), *FIELD, LEROBOT]
ENCODER = {"class_path": "amf_lightning.policies.conv_encoder.ConvEncoder", "init_args": {"channels": [4], "resize": 4}}
SMALL: dict[str, dict[str, Any]] = {
    "CategoricalTransformer": {"encoder": ENCODER, "width": 16, "heads": 2, "layers": 1},
    "DiffusionPolicy": {"encoder": ENCODER, "width": 16, "layers": 1, "steps": 2},
    "FlowPolicy": {"encoder": ENCODER, "width": 16, "layers": 1, "steps": 2},
    # heads of 3: MKL adds rows of such a length in another order at another place, which rollouts have to prevent
    "ActionChunkingTransformer": {"encoder": ENCODER, "width": 6, "heads": 2, "encoder_layers": 1, "horizon": 3},
}
"""Options of policies that would take seconds with those that they are meant to be used with."""
ROWS = 6
ACTIONS = 3


def class_of(name: str) -> type[Policy]:
    return FIELD.get(name) or resolve("policy", name)


@cache
def checkpoint(action_dim: int) -> "tempfile.TemporaryDirectory[str]":
    """Of an ACT that sees what `CameraSuite` shows, for as long as the tests run."""
    folder = tempfile.TemporaryDirectory()
    make_checkpoint(Path(folder.name), {"observation.state": (1,), "observation.images.front": (3, 8, 8)}, action_dim)
    return folder


def from_lerobot(observation: Specs, context_dim: int, action_dim: int) -> Policy:
    return LeRobotACT(observation, context_dim, action_dim, checkpoint=checkpoint(action_dim).name)


def factory_of(name: str) -> PolicyFactory:
    if name == "LeRobotACT":
        return from_lerobot
    return partial(class_of(name), **SMALL.get(name, {}))


def world_of(name: str) -> TaskSuite:
    """The first world whose observations the policy can read."""
    refusals = []
    for world in WORLDS:
        try:
            factory_of(name)(world.observation, world.context_dim, ACTIONS)
        except (InputError, KeyError) as refusal:
            refusals.append(str(refusal))
        else:
            return world
    raise AssertionError(f"{name} can be made for neither a vector nor pictures: {refusals}")


def policy_of(name: str, actions: int = ACTIONS) -> Policy:
    """Of the class, for actions of that length, normalised or fitted to some rows."""
    world = world_of(name)
    dimensions = replace(world.dimensions, action=actions)
    policy = build_policy(factory_of(name), dimensions, torch.Generator().manual_seed(3))
    seen = steps(world, 20, policy.window, actions)
    if isinstance(policy, RefittedPolicy):
        policy.refit(frozen_copy(policy), seen)
    elif not policy.is_normalised:
        policy.fit_normaliser(seen)
    return policy.eval()


def made_with_rows(name: str) -> tuple[Policy, Steps]:
    """The policy, and rows that are cut by its window."""
    policy = policy_of(name)
    return policy, steps(world_of(name), ROWS, policy.window)


def steps(world: TaskSuite, count: int, window: Window, actions: int = ACTIONS) -> Steps:
    """Rows around the end of the first of two random episodes, which a window of several actions looks beyond."""
    rng = np.random.default_rng(0)
    episodes = [
        Trajectory(
            {
                name: (
                    rng.normal(size=(count, *spec.shape))
                    if spec.is_floating
                    else rng.integers(0, 256, (count, *spec.shape))
                ).astype(spec.dtype)
                for name, spec in world.observation.items()
            },
            rng.uniform(-1, 1, (count, actions)).astype(np.float32),
            rewards=None,
            task=task.name,
        )
        for task in world.tasks[:2]
    ]
    everything = demonstration_rows(episodes, world, window=window).everything()
    return everything.take(torch.arange(count // 2, count // 2 + count))


@pytest.mark.parametrize("name", POLICIES)
def test_it_predicts_actions_in_their_range_the_same_each_time(name: str) -> None:
    policy, rows = made_with_rows(name)
    horizon = policy.window.horizon
    predicted = policy.predict(rows)
    assert predicted.shape == (ROWS, horizon, ACTIONS) and float(predicted.detach().abs().max()) <= 1
    assert torch.equal(policy.act(rows), predicted[:, 0]) and torch.equal(policy.predict(rows), predicted)


@pytest.mark.parametrize("name", POLICIES)
def test_its_samples_depend_on_the_streams_of_their_own_rows(name: str) -> None:
    policy, rows = made_with_rows(name)
    whole = policy.predict(rows, RowGenerators(list(range(ROWS)), 4))
    other = policy.predict(rows, RowGenerators([0, *range(50, 49 + ROWS)], 4))
    assert whole.shape == (ROWS, policy.window.horizon, ACTIONS) and float(whole.detach().abs().max()) <= 1
    assert torch.equal(whole[0], other[0])


@pytest.mark.parametrize("name", POLICIES)
def test_its_loss_is_a_number_for_each_row_that_does_not_depend_on_the_others(name: str) -> None:
    policy, rows = made_with_rows(name)
    loss = policy.loss(rows)
    assert loss.shape == (ROWS,) and bool(torch.isfinite(loss).all())
    torch.testing.assert_close(policy.loss(rows[2:4]), loss[2:4])
    if not isinstance(policy, RefittedPolicy):
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in policy.parameters())


@pytest.mark.parametrize("name", POLICIES)
def test_what_it_says_that_it_can_it_can(name: str) -> None:
    policy, rows = made_with_rows(name)
    if policy.can(Density):
        assert isinstance(policy, Density)
        drawn = policy.sample(rows, torch.Generator().manual_seed(0))
        assert drawn.shape == rows.shown_actions.shape and policy.log_prob(rows.with_actions(drawn)).shape == (ROWS,)
    if policy.can(Embeds):
        assert isinstance(policy, Embeds)
        phi = policy.embed(rows)
        assert phi.ndim == 2 and len(phi) == ROWS
        torch.testing.assert_close(policy.embed(rows[:2]), phi[:2])
    if policy.can(LinearHead):
        assert isinstance(policy, LinearHead)
        assert policy.features(rows).shape == (ROWS, policy.output_layer.in_features)


@pytest.mark.parametrize("name", POLICIES)
def test_its_file_makes_it_again(name: str, tmp_path: Path) -> None:
    policy, rows = made_with_rows(name)
    signature = {**world_of(name).signature(), "action_dim": ACTIONS}
    save_policy(tmp_path / "policy.safetensors", policy, signature, None, {})
    file = load_policy(str(tmp_path / "policy.safetensors"))
    again = file.make().eval()
    assert type(again) is type(policy) and again.options == policy.options
    assert torch.equal(again.act(rows), policy.act(rows))


@pytest.mark.parametrize("controller", every("controller"))
@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("name", POLICIES)
def test_an_episode_is_a_function_of_weights_task_and_seed(name: str, controller: str, sample: bool) -> None:
    world = world_of(name)
    policy = policy_of(name, world.action_dim)
    if policy.discrete != world.discrete:
        pytest.skip("its actions are choices, those of the tiny suite are not")
    acting = resolve("controller", controller)(policy, sample=sample)
    episodes = [Episode(world.tasks[number % 4], 100 + number) for number in range(5)]
    together = rollout(acting, world, episodes)
    alone = [rollout(acting, world, [episode])[0] for episode in reversed(episodes)][::-1]
    for one, other in zip(together, alone, strict=True):
        assert one.actions.tobytes() == other.actions.tobytes()
        assert all(seen.tobytes() == other.observations[entry].tobytes() for entry, seen in one.observations.items())
