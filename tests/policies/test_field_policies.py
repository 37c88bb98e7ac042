"""A policy of chunks that are drawn and one that sees pictures, through everything that a run does with a policy."""

from pathlib import Path

import pytest
import torch
from field_policies import IMAGE, CameraPolicy, CameraSuite, FlowPolicy
from selection_world import context_of, demonstrate
from torch import Tensor

from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.preflight import rehearse_export
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.retention.distillation import SelfDistillation
from amf_lightning.retention.frozen import FreezeByImportance, mask_gradients
from amf_lightning.retention.importance import FisherImportance, MagnitudeImportance
from amf_lightning.retention.isolation import ParameterIsolation
from amf_lightning.retention.penalties import L2ToPretrained
from amf_lightning.retention.retention import CombinedRetention, RetentionContext
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import Demonstrated, PolicyRollout
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Memoryless
from amf_lightning.tasks.steps import Steps, Window
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.kernels import Kernel
from tiny import TinySuite

TINY, CAMERA = TinySuite(), CameraSuite()
KINDS = {"flow": (FlowPolicy, TINY), "camera": (CameraPolicy, CAMERA)}


def fresh(kind: str, seed: int = 0) -> tuple[Policy, TaskSuite]:
    make, suite = KINDS[kind]
    torch.manual_seed(seed)
    return make(suite.observation, suite.context_dim, suite.action_dim), suite


class TowardsTheGoal:
    """Goes to the goal, which it knows by heart: what it sees does not matter."""

    def act(self, observations: object, contexts: Tensor) -> Tensor:
        return torch.sign(contexts)


def shown(suite: TaskSuite, tasks: tuple[int, ...] = (0, 1, 2, 3)) -> list[Trajectory]:
    return demonstrate(suite, tasks, expert=Memoryless(TowardsTheGoal()))


def train(policy: Policy, suite: TaskSuite, steps: int = 300) -> None:
    rows = demonstration_rows(shown(suite), suite, window=policy.window)
    optimizer, generator = torch.optim.Adam(policy.parameters(), 1e-2), torch.Generator().manual_seed(0)
    policy.train()
    for _ in range(steps):
        optimizer.zero_grad()
        policy.loss(rows.take(rows.draw((1, 32), generator)[0])).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    policy.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_is_shown_and_acts_in_the_world(kind: str) -> None:
    policy, suite = fresh(kind)
    train(policy, suite)
    acted = rollout(policy, suite, [Episode(task, 5) for task in suite.tasks])
    for trajectory, task in zip(acted, suite.tasks, strict=True):
        assert float((trajectory.actions * task.context[0] > 0).mean()) > 0.9
    assert {name: entry.dtype.name for name, entry in acted[0].observations.items()} == {
        name: spec.dtype for name, spec in suite.observation.items()
    }


class Regressing(FlowPolicy):
    """Learns its deterministic chunk by the loss that every policy has."""

    def loss(self, steps: Steps) -> Tensor:
        return Policy.loss(self, steps)


def test_what_lies_beyond_the_end_of_an_episode_does_not_count() -> None:
    policy = Regressing(TINY.observation, TINY.context_dim, TINY.action_dim)
    last = demonstration_rows(shown(TINY, (0,)), TINY, window=policy.window).everything()[-1:]
    assert last.mask is not None and last.mask.tolist() == [[True, False, False, False]]
    other = last.with_actions(torch.where(last.mask[..., None], last.shown_actions, torch.tensor(0.7)))
    assert torch.equal(policy.loss(last), policy.loss(other))
    expected = (policy.predict(last)[0, 0] - last.shown_actions[0, 0]).square().mean()
    torch.testing.assert_close(policy.loss(last)[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_its_file_makes_it_again(kind: str, tmp_path: Path) -> None:
    policy, suite = fresh(kind)
    policy.eval()
    steps = demonstration_rows(shown(suite), suite, window=policy.window).everything()
    assert rehearse_export(policy, suite)
    statistics = feature_statistics(policy, steps, {"goal=1": 1})
    save_policy(tmp_path / "policy.safetensors", policy, suite.signature(), statistics, {"goal=1": 1})
    file = load_policy(str(tmp_path / "policy.safetensors"))
    assert file.dimensions == suite.dimensions
    made = file.make().eval()
    assert type(made) is type(policy) and torch.equal(made.predict(steps), policy.predict(steps))
    assert file.statistics is not None
    file.statistics.check_backbone(made)
    file.check_suite(suite.signature())
    with pytest.raises(InputError, match="belongs to another suite"):
        file.check_suite((TINY if suite is CAMERA else CAMERA).signature())


def test_policies_of_one_vector_name_the_picture_that_they_cannot_read() -> None:
    with pytest.raises(InputError, match=rf"MLPPolicy reads one vector.*'{IMAGE}' \[8, 8, 3\] uint8"):
        MLPPolicy(CAMERA.observation, CAMERA.context_dim, CAMERA.action_dim)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_frozen_and_held_to_the_start(kind: str) -> None:
    policy, suite = fresh(kind)
    start = frozen_copy(policy)
    retention = CombinedRetention([FreezeByImportance(0.5, MagnitudeImportance()), L2ToPretrained(1.0)])
    retention.prepare(RetentionContext(suite, start, 0), policy)
    steps = demonstration_rows(shown(suite), suite, window=policy.window).everything()
    for _ in range(2):  # the penalty has no gradient at the start
        penalty = retention.penalty(policy)
        assert penalty is not None
        policy.zero_grad()
        (retention.loss(policy, steps).mean() + penalty).backward()  # type: ignore[no-untyped-call]
        mask_gradients(policy, retention.masks())
        torch.optim.SGD(policy.parameters(), 0.1).step()
    penalty = retention.penalty(policy)
    assert penalty is not None and penalty.item() > 0
    moved = torch.cat([(p != start.get_parameter(n)).flatten() for n, p in policy.named_parameters()])
    free = torch.cat([retention.masks()[name].flatten() for name, _ in policy.named_parameters()])
    assert not moved[~free].any() and moved[free].float().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_its_own_teacher_and_copies_of_it_learn_apart(kind: str) -> None:
    policy, suite = fresh(kind)
    context = RetentionContext(suite, frozen_copy(policy), 0)
    distillation = SelfDistillation(episodes=1)
    distillation.prepare(context, policy)
    rows = distillation.replay(frozenset({0}))
    assert rows is not None
    taught = rows.everything()
    assert set(taught.tasks.tolist()) == {1, 2, 3}
    expected = context.pretrained.predict(taught) if kind == "flow" else context.pretrained.act(taught)
    torch.testing.assert_close(taught.shown_actions, expected)
    isolated = ParameterIsolation().wrap(policy.eval(), suite)
    assert isolated.window == policy.window and isolated.samples == policy.samples
    acted, alone = (rollout(each, suite, [Episode(suite.tasks[2], 3)])[0] for each in (isolated, policy))
    assert (acted.actions == alone.actions).all()


def test_what_needs_single_actions_or_a_density_says_so() -> None:
    policy, suite = fresh("flow")
    with pytest.raises(InputError, match="AdaptivePrior mixes single actions, and FlowPolicy predicts 4"):
        AdaptivePrior().wrap(policy, suite)
    with pytest.raises(InputError, match="needs a policy with a density"):
        FisherImportance().compute(RetentionContext(suite, frozen_copy(policy), 0))
    camera, suite = fresh("camera")
    fisher = FisherImportance(episodes=1).compute(RetentionContext(suite, frozen_copy(camera), 0))
    assert fisher["see.weight"].shape == (4, 3, 3, 3) and (fisher["head.weight"] > 0).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("occupancy", [PolicyRollout(), Demonstrated()], ids=["rollouts", "demonstrated"])
def test_selection_compares_states_by_its_features(kind: str, occupancy: PolicyRollout | Demonstrated) -> None:
    policy, suite = fresh(kind)
    policy.eval()
    steps = demonstration_rows(shown(suite, (0,)), suite, window=policy.window).everything()
    statistics = feature_statistics(policy, steps, {"goal=-1": 1})
    context = context_of(suite, policy, statistics=statistics, demonstrations=shown(suite), round=1)
    first, again = (InformationGain(occupancy=occupancy).select(context, 2) for _ in range(2))
    assert first == again and all(score > 0 for row in first.scores for score in row)


def test_a_kernel_compares_vectors_and_names_the_picture_that_it_cannot_read() -> None:
    policy, suite = fresh("flow")
    context = context_of(suite, policy.eval(), demonstrations=shown(suite, (0, 1)), round=1)
    assert all(score > 0 for score in InformationGain(Kernel()).select(context, 1).scores[0])
    policy, suite = fresh("camera")
    context = context_of(suite, policy.eval(), demonstrations=shown(suite, (0, 1)), round=1)
    with pytest.raises(InputError, match=f"One vector, 'state', is read here, but.*'{IMAGE}'"):
        InformationGain(Kernel()).select(context, 1)


class Remembering(MLPPolicy):
    """Sees the difference to the observation before."""

    window = Window(history=2)

    def outputs(self, steps: Steps) -> Tensor:
        seen = steps.state[:, 1] - 0.5 * steps.state[:, 0]
        return super().outputs(Steps.of_state(seen, steps.contexts))


def test_a_policy_with_a_memory_is_shown_its_window_wherever_it_is_asked() -> None:
    policy = Remembering(2, 1, 1, hidden=(8,)).eval()
    steps = demonstration_rows(shown(TINY), TINY, window=policy.window).everything()
    statistics = feature_statistics(policy, steps, {"goal=-1": 1})
    known = {"statistics": statistics, "demonstrations": demonstrate(TINY, (0, 1, 2, 3)), "round": 1}
    context = context_of(TINY, policy, **known)
    assert context.demonstrated_steps is not None and context.demonstrated_steps.state.shape == (48, 2, 2)
    for selector in (InformationGain(), InformationGain(Kernel()), InformationGain(occupancy=Demonstrated())):
        assert all(score > 0 for score in selector.select(context, 1).scores[0])
    retention = SelfDistillation(episodes=1)
    retention.prepare(RetentionContext(TINY, frozen_copy(policy), 0), policy)
    rows = retention.replay(frozenset())
    assert rows is not None and policy.loss(rows.everything()).max() < 1e-12
