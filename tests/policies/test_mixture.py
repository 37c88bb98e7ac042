"""Policies made of others: what they do, what is in their files, and that a row depends on nothing but itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from selection_world import mlp
from torch.func import functional_call, grad, vmap

from amf_lightning.errors import InputError
from amf_lightning.policies.mixture import ComposedPolicy, IsolatedPolicy, PriorMixture
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.recipe import from_recipe, recipe_of
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from tiny import TinySuite

SUITE = TinySuite()


def rows(count: int = 20) -> Steps:
    generator = torch.Generator().manual_seed(1)
    tasks = torch.randint(4, (count,), generator=generator)
    state, actions = torch.randn(count, 2, generator=generator), torch.rand(count, 1, generator=generator)
    return Steps.of_state(state, SUITE.contexts[tasks], actions)


def mixture(alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)) -> PriorMixture:
    """π0 of seed 0 and a learner of seed 5."""
    made = PriorMixture.of(mlp(SUITE), SUITE.contexts, SUITE.dimensions)
    made.learner.load_state_dict(mlp(SUITE, seed=5).state_dict())
    with torch.no_grad():
        made.share.copy_(torch.tensor(alphas) / 10)
    return made


def isolated(groups: tuple[int, ...] = (0, 0, 1, 2)) -> IsolatedPolicy:
    made = IsolatedPolicy.of(mlp(SUITE), SUITE.contexts, groups, SUITE.dimensions)
    for number, copy in enumerate(made.copies):
        copy.load_state_dict(mlp(SUITE, seed=number).state_dict())
    return made


def made_of_both() -> PriorMixture:
    """A mixture of isolated policies: π0 of a following run may be composed itself."""
    return PriorMixture.of(isolated(), SUITE.contexts, SUITE.dimensions)


def test_a_mixture_is_between_the_two_and_at_its_ends_one_of_them_to_the_bit() -> None:
    made, steps = mixture(), rows()
    prior, learned = (mlp(SUITE, seed=seed).act(steps) for seed in (0, 5))
    alpha = torch.tensor([0.0, 0.25, 0.5, 1.0])[made.task_of(steps.contexts)][:, None]
    actions = made.act(steps)
    torch.testing.assert_close(actions, (1 - alpha) * prior + alpha * learned)
    assert torch.equal(actions[alpha[:, 0] == 0], prior[alpha[:, 0] == 0])
    assert torch.equal(actions[alpha[:, 0] == 1], learned[alpha[:, 0] == 1])


def test_the_density_of_a_mixture_integrates_to_one_and_is_what_is_drawn_from() -> None:
    made = mixture()
    grid = torch.linspace(-3, 3, 6001)[:, None]
    one = Steps.of_state(torch.tensor([[0.3, 0.1]]), SUITE.contexts[1:2])
    many = one[torch.zeros(6001, dtype=torch.int64)]
    density = made.log_prob(many.with_actions(grid)).exp().detach()
    assert float(density.sum() * 0.001) == pytest.approx(1, abs=1e-3)
    assert float((density * grid[:, 0]).sum() * 0.001) == pytest.approx(float(made.act(one)), abs=1e-3)
    drawn = made.sample(many[:4000], torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(float(made.act(one)), abs=0.03)
    keyed = made.predict(many[:4000], RowGenerators(range(4000), 0))
    assert float(keyed.mean()) == pytest.approx(float(made.act(one)), abs=0.03)


def test_draws_at_the_ends_of_a_mixture_and_of_each_copy_are_those_of_one_policy_to_the_bit() -> None:
    steps = rows()

    def drawn(policy: Policy) -> torch.Tensor:
        return policy.predict(steps, RowGenerators(range(len(steps)), 2))

    assert torch.equal(drawn(mixture((0.0,) * 4)), drawn(mlp(SUITE)))
    assert torch.equal(drawn(mixture((1.0,) * 4)), drawn(mlp(SUITE, seed=5)))
    groups, copies = isolated().group_of(steps.contexts), [drawn(mlp(SUITE, seed=seed)) for seed in range(3)]
    assert torch.equal(drawn(isolated()), torch.stack(copies)[groups, torch.arange(len(steps))])


def test_alpha_has_a_gradient_at_its_bounds_and_is_put_back_into_them() -> None:
    made = mixture((0.0, 1.0, -3.0, 4.0))
    assert made.alphas.tolist() == [0, 1, 0, 1]
    made.alphas.sum().backward()  # type: ignore[no-untyped-call]
    assert made.share.grad is not None and (made.share.grad > 0).all()
    made.bound()
    assert made.share.tolist() == pytest.approx([0, 0.1, 0, 0.1]) and made.alphas.tolist() == [0, 1, 0, 1]


def test_what_a_mixture_has_to_learn_does_not_depend_on_alpha() -> None:
    steps = rows()
    one, other = mixture((0.0,) * 4), mixture((1.0,) * 4)
    for made in (one, other):
        assert torch.equal(made.embed(steps), mlp(SUITE, seed=5).embed(steps))
        assert made.output_layer is made.learner.output_layer and made.parts == (made.learner,)


def test_a_prior_that_is_held_fixed_stays_in_evaluation_mode() -> None:
    made = mixture().train()
    assert made.learner.training and not made.prior.training
    made.prior.requires_grad_()
    assert made.train().prior.training


@pytest.mark.parametrize("gradients", [True, False])
def test_each_group_acts_by_its_own_copy(gradients: bool) -> None:
    made, steps = isolated(), rows()
    groups = torch.tensor([0, 0, 1, 2])[made.task_of(steps.contexts)]
    assert torch.equal(made.part_of(steps.contexts), groups) and len(made.parts) == 3
    with torch.set_grad_enabled(gradients):
        acted, losses, features = made.act(steps), made.loss(steps), made.embed(steps)
    for number in range(3):
        mine, copy = groups == number, mlp(SUITE, seed=number)
        torch.testing.assert_close(acted[mine], copy.act(steps)[mine])
        torch.testing.assert_close(losses[mine], copy.loss(steps)[mine])
        torch.testing.assert_close(features[mine], copy.embed(steps)[mine])


def test_a_copy_without_rows_has_a_gradient_of_zero_and_not_none() -> None:
    made, steps = isolated(), rows()
    first = made.group_of(steps.contexts) == 0
    made.loss(steps[first]).mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in made.parameters())
    reached = [any(p.grad.any() for p in copy.parameters() if p.grad is not None) for copy in made.copies]
    assert reached == [True, False, False]


@pytest.mark.parametrize("made", [mixture(), isolated(), made_of_both()], ids=["mixture", "isolated", "both"])
def test_an_episode_does_not_depend_on_those_beside_it(made: ComposedPolicy) -> None:
    episodes = [Episode(task, 7) for task in SUITE.tasks]
    together = rollout(made, SUITE, episodes)
    for episode, beside in zip(episodes, together, strict=True):
        (alone,) = rollout(made, SUITE, [episode])
        assert (alone.state == beside.state).all() and (alone.actions == beside.actions).all()


@pytest.mark.parametrize("made", [mixture(), isolated(), made_of_both()], ids=["mixture", "isolated", "both"])
def test_gradients_of_each_row_can_be_traced(made: ComposedPolicy) -> None:
    class LogProb(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = made

        def forward(self, row: dict[str, Any]) -> torch.Tensor:
            return made.log_prob(Steps.from_tensors(row).map(lambda tensor: tensor[None]))[0]

    model, steps = LogProb(), rows(5)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    each = vmap(grad(lambda w, row: functional_call(model, w, (row,))), in_dims=(None, 0))(weights, steps.tensors())
    for parameter in made.parameters():
        parameter.requires_grad_()
        parameter.grad = None
    made.log_prob(steps).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(each[name].sum(0), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("made", [mixture(), isolated(), made_of_both()], ids=["mixture", "isolated", "both"])
def test_a_file_holds_all_parts_and_makes_the_same_policy(tmp_path: Path, made: Policy) -> None:
    steps, made = rows(), frozen_copy(made)
    path, statistics = tmp_path / "policy.safetensors", feature_statistics(made, steps, {"goal=1": 1})
    save_policy(path, made, SUITE.signature(), statistics, {"goal=1": 1})
    file = load_policy(str(path))
    again = frozen_copy(file.make())
    with torch.no_grad():
        assert torch.equal(again.act(steps), made.act(steps))
    assert file.statistics is not None
    file.statistics.check_backbone(again)
    taken = file.like(MLPPolicy(2, 1, 1, hidden=(32, 32)))
    assert type(taken) is type(made)
    with pytest.raises(InputError, match=r"of amf_lightning.policies.mlp.MLPPolicy .* Give model.policy the same"):
        file.like(MLPPolicy(2, 1, 1, hidden=(8, 8)))


def test_statistics_of_isolated_copies_are_sums_of_each_ones_own_states() -> None:
    made, steps = isolated().requires_grad_(False), rows()
    statistics = feature_statistics(made, steps, {})
    assert statistics.second_moment.shape == (3, 33, 33)
    groups = made.part_of(steps.contexts)
    for number in range(3):
        features = mlp(SUITE, seed=number).embed(steps)[groups == number].double()
        torch.testing.assert_close(statistics.of_part(number), (features.T @ features).detach(), rtol=1e-5, atol=1e-6)
    norms = made.embed(steps).double().square().sum(1)
    assert statistics.scale == pytest.approx(float(norms.mean().sqrt()))


def test_a_recipe_does_not_import_foreign_code() -> None:
    with pytest.raises(InputError, match="not of this package"):
        from_recipe({"class": "this_is_not_imported.Policy", "options": {}}, SUITE.dimensions)
    for name in ("os.system", "amf_lightning.policies.mlp.nn", "amf_lightning.policies.mlp.Missing"):
        with pytest.raises(InputError, match="is not a class of policies"):
            from_recipe({"class": name, "options": {}}, SUITE.dimensions)
    assert recipe_of(from_recipe(recipe_of(mlp(SUITE)), SUITE.dimensions)) == recipe_of(mlp(SUITE))
