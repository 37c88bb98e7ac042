import pytest
import torch
from torch import nn

from amf_lightning.errors import InputError
from amf_lightning.policies.categorical import CategoricalMLPPolicy, check_actions
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import build_policy
from amf_lightning.retention.importance import diagonal_fisher
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.tasks.spec import Dimensions, state_specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import gradient_factors
from amf_lightning.uncertainty.projected_gradient import projected_gradients, projection, trainable_count

N, ACTIONS = 7, 3


@pytest.fixture
def policy() -> CategoricalMLPPolicy:
    dims = Dimensions(state_specs(4), 2, ACTIONS)
    made = build_policy(
        lambda o, c, a: CategoricalMLPPolicy(o, c, a, hidden=(5, 6)), dims, torch.Generator().manual_seed(0)
    )
    assert isinstance(made, CategoricalMLPPolicy)
    made.fit_normaliser(Steps.of_state(torch.randn(9, 4), torch.randn(9, 2)))
    return made.eval()


@pytest.fixture
def rows() -> Steps:
    generator = torch.Generator().manual_seed(1)
    choices = torch.randint(ACTIONS, (N,), generator=generator)
    one_hot = nn.functional.one_hot(choices, ACTIONS).float()
    return Steps.of_state(torch.randn(N, 4, generator=generator), torch.randn(N, 2, generator=generator), one_hot)


def test_it_acts_by_the_largest_logit(policy: CategoricalMLPPolicy, rows: Steps) -> None:
    acts, logits = policy.act(rows), policy.logits(rows)
    assert acts.sort(dim=1).values.tolist() == [[0.0, 0.0, 1.0]] * N
    assert torch.equal(acts.argmax(1), logits.argmax(1))


def test_the_loss_is_cross_entropy(policy: CategoricalMLPPolicy, rows: Steps) -> None:
    wanted = nn.CrossEntropyLoss(reduction="none")(policy.logits(rows), rows.shown_actions.argmax(1))
    torch.testing.assert_close(policy.loss(rows), wanted)
    torch.testing.assert_close(policy.log_prob(rows), -wanted)


def test_the_residual_is_softmax_minus_one_hot(policy: CategoricalMLPPolicy, rows: Steps) -> None:
    factors = gradient_factors(policy, rows)
    wanted = torch.softmax(policy.logits(rows), 1) - rows.shown_actions
    torch.testing.assert_close(factors[:, :ACTIONS], wanted.double())
    torch.testing.assert_close(factors[:, ACTIONS:], policy.embed(rows).double())


def test_samples_have_the_probabilities_of_the_softmax(policy: CategoricalMLPPolicy) -> None:
    many = Steps.of_state(torch.zeros(20_000, 4), torch.ones(20_000, 2))
    drawn = policy.sample(many, torch.Generator().manual_seed(2))
    assert set(drawn.sum(1).tolist()) == {1.0}
    chances = torch.softmax(policy.logits(many[:1])[0], 0)
    torch.testing.assert_close(drawn.mean(0), chances, atol=0.015, rtol=0)


def test_per_sample_gradients_exist_for_importance_and_projection(policy: CategoricalMLPPolicy, rows: Steps) -> None:
    fisher = diagonal_fisher(policy, rows)
    each = []
    for row in range(N):
        policy.zero_grad()
        policy.loss(rows[row : row + 1]).sum().backward()  # type: ignore[no-untyped-call]
        each.append(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]))
    gradients = torch.stack(each)
    flat = torch.cat([fisher[name].flatten() for name, _ in policy.named_parameters()])
    torch.testing.assert_close(flat, gradients.square().mean(0), atol=1e-7, rtol=1e-4)
    whole = projection(trainable_count(policy, {}), gradients.shape[1], seed=0, orthogonal=True)
    points = projected_gradients(policy, rows, {}, whole)
    torch.testing.assert_close(points @ points.T, (gradients @ gradients.T).double(), atol=1e-4, rtol=1e-3)


def test_policies_and_suites_of_unlike_actions_are_refused(policy: CategoricalMLPPolicy) -> None:
    tasks = [GymnasiumTask("one")]
    choices = GymnasiumSuite("CartPole-v1", tasks, 5, return_threshold=1)
    torques = GymnasiumSuite("Pendulum-v1", tasks, 5, return_threshold=1)
    check_actions(policy, choices)
    with pytest.raises(InputError, match=r"discrete actions, suite 'Pendulum-v1' has continuous ones.*MLPPolicy"):
        check_actions(policy, torques)
    with pytest.raises(InputError, match=r"continuous actions.*CategoricalMLPPolicy"):
        check_actions(MLPPolicy(4, 1, 2), choices)
