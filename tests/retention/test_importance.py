from dataclasses import replace
from pathlib import Path

import pytest
import torch
from selection_world import demonstrate, rows_of
from torch.func import functional_call, grad, vmap

from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.retention.importance import (
    DemonstratedFisher,
    FisherImportance,
    Importance,
    MagnitudeImportance,
    RandomImportance,
    StoredImportance,
    diagonal_fisher,
    pretrained_steps,
    stored_importance,
)
from amf_lightning.retention.retention import RetentionContext
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()


def context(counts: tuple[int, ...] | None = (1, 1, 0, 0), seed: int = 0) -> RetentionContext:
    torch.manual_seed(5)
    policy = frozen_copy(MLPPolicy(2, 1, 1, hidden=(6, 5)))
    return RetentionContext(SUITE, policy, seed, counts)


def rows(count: int) -> Steps:
    generator = torch.Generator().manual_seed(1)
    return Steps.of_state(*(torch.randn(count, width, generator=generator) for width in (2, 1, 1)))


def test_fisher_is_the_mean_of_squared_gradients_of_each_row() -> None:
    policy = MLPPolicy(2, 1, 1, hidden=(6, 5))
    steps = rows(37)
    fisher = diagonal_fisher(policy, steps, chunk=10)
    for name, parameter in policy.named_parameters():
        squares = torch.zeros_like(parameter)
        for index in range(37):
            policy.zero_grad()
            policy.log_prob(steps[index : index + 1]).sum().backward()  # type: ignore[no-untyped-call]
            squares += policy.get_parameter(name).grad ** 2  # type: ignore[operator]
        assert torch.allclose(fisher[name], squares / 37, rtol=1e-4, atol=1e-6)


def test_fisher_equals_torch_func_and_not_the_squared_batch_gradient() -> None:
    policy = MLPPolicy(2, 1, 1, hidden=(6, 5)).double()
    single = rows(37)
    steps = Steps.of_state(*(part.double() for part in (single.state, single.contexts, single.shown_actions)))
    parameters = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    buffers = dict(policy.named_buffers())

    def log_prob(weights: dict[str, torch.Tensor], *row: torch.Tensor) -> torch.Tensor:
        mean = functional_call(policy, {**weights, **buffers}, (Steps.of_state(row[0][None], row[1][None]),))[0]
        z = (row[2] - mean) / policy.action_std
        total: torch.Tensor = (-0.5 * z**2).sum()
        return total

    gradients = vmap(grad(log_prob), in_dims=(None, 0, 0, 0))(
        parameters, steps.state, steps.contexts, steps.shown_actions
    )
    fisher = diagonal_fisher(policy, steps)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fisher[name], gradient.square().mean(dim=0), rtol=1e-6, atol=1e-12)
    batch = gradients["head.weight"].mean(dim=0).square()
    assert not torch.allclose(fisher["head.weight"], batch, rtol=0.1)


def test_fisher_looks_at_the_pre_training_tasks_only() -> None:
    known, unknown = context((1, 0, 0, 0)), context(None)
    steps = pretrained_steps(known, [0], 2)
    assert steps.tasks.tolist() == [0] * 2 * 12 and (steps.contexts == SUITE.contexts[0]).all()
    one, every = FisherImportance().compute(known), FisherImportance().compute(unknown)
    assert not torch.equal(one["head.weight"], every["head.weight"])


@pytest.mark.parametrize("importance", [FisherImportance(), MagnitudeImportance(), RandomImportance()])
def test_importance_is_keyed_and_shaped_like_the_parameters(importance: Importance) -> None:
    first, again = importance.compute(context()), importance.compute(context())
    for name, parameter in context().pretrained.named_parameters():
        assert first[name].shape == parameter.shape
        assert torch.equal(first[name], again[name])
        assert (first[name] >= 0).all()


def test_random_importance_differs_between_seeds() -> None:
    first, second = (RandomImportance().compute(context(seed=seed))["head.weight"] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_tasks_can_be_chosen_and_those_of_the_pre_training_are_the_default() -> None:
    known = context((1, 0, 0, 1))
    chosen = FisherImportance(tasks=["goal=-1", "goal=1"]).compute(known)
    default, other = FisherImportance().compute(known), FisherImportance(tasks=["goal=0.5"]).compute(known)
    for name in chosen:
        assert torch.equal(chosen[name], default[name])
    assert not torch.equal(chosen["head.weight"], other["head.weight"])
    with pytest.raises(InputError, match="has no task 'goal=7'"):
        FisherImportance(tasks=["goal=7"]).compute(known)
    with pytest.raises(InputError, match="at least one task"):
        FisherImportance(tasks=[])


def test_given_demonstrations_need_no_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DemonstrationStore(tmp_path / "demonstrations")
    given = demonstrate(SUITE, [0, 2, 2])
    for number, trajectory in enumerate(given):
        store.write(number, trajectory)

    monkeypatch.setattr(SUITE, "make", None)  # nothing can be rolled out
    blind = context()
    importance = DemonstratedFisher(str(store.folder)).compute(blind)
    steps, pretrained = rows_of(SUITE, given), blind.pretrained
    assert isinstance(pretrained, MLPPolicy)
    drawn = pretrained.sample(steps, keyed_generator(0, Purpose.RETAIN, 1))
    expected = diagonal_fisher(pretrained, steps.with_actions(drawn))
    for name, tensor in expected.items():
        assert torch.equal(importance[name], tensor)
    with pytest.raises(InputError, match="There are no demonstrations in"):
        DemonstratedFisher(str(tmp_path)).compute(blind)


def test_the_file_of_a_policy_can_keep_its_importance(tmp_path: Path) -> None:
    known = context()
    kept = stored_importance(known.pretrained, rows_of(SUITE, demonstrate(SUITE, [0, 1])), seed=0)
    path = tmp_path / "policy.safetensors"
    save_policy(path, known.pretrained, SUITE.signature(), None, {}, kept)
    file = load_policy(str(path))
    assert file.tensors.keys() == known.pretrained.state_dict().keys()
    found = StoredImportance().compute(replace(known, importance=file.importance))
    assert found.keys() == dict(known.pretrained.named_parameters()).keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in kept.items())
    with pytest.raises(InputError, match=r"keeps no importance.*store_importance: true"):
        StoredImportance().compute(known)
