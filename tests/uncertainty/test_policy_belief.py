from dataclasses import replace

import pytest
import torch

from amf_lightning.errors import InputError
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import PolicyRollout
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.knowledge import Knowledge
from amf_lightning.uncertainty.policy_belief import PolicyBelief

NOISE = 0.2


def states(*shape: int) -> Steps:
    generator = torch.Generator().manual_seed(shape[0])
    return Steps.of_state(torch.randn(*shape, 2, generator=generator), torch.randn(*shape, 1, generator=generator))


def policy(count: int, capacity: int = 64) -> GaussianProcessPolicy:
    made = GaussianProcessPolicy(2, 1, 1, 0.6, 1.5, NOISE, capacity)
    seen = states(count)
    made.refit(made, seen.with_actions(seen.state[:, :1]))
    return made


def knowledge(of: Policy) -> Knowledge:
    return Knowledge(policy=of, pretrained=of, statistics=None, history=states(5), reference=dict)


@pytest.mark.parametrize(("count", "capacity"), [(0, 64), (30, 64), (100, 64)])
def test_the_variances_are_those_of_the_policy(count: int, capacity: int) -> None:
    known, wanted = policy(count, capacity), states(4, 3)
    embedded = PolicyBelief().embed(knowledge(known), states(2, 3), wanted, NOISE**2)
    variances = embedded.posterior.variance(embedded.posterior.prepare(embedded.targets))
    expected = known.variance(wanted.flatten())
    assert torch.allclose(NOISE**2 * variances.flatten(), expected, atol=1e-9)
    assert embedded.candidates.shape == (2, 3, 3)


def test_conditioning_on_states_does_what_a_refit_on_them_does() -> None:
    known, ahead, wanted = policy(30), states(1, 6), states(4, 3)
    embedded = PolicyBelief().embed(knowledge(known), ahead, wanted, NOISE**2)
    after = embedded.posterior.condition(embedded.candidates[0])
    refitted = policy(0)
    refitted.refit(known, ahead[0].with_actions(torch.zeros(6, 1)))
    expected = refitted.variance(wanted.flatten())
    assert torch.allclose(NOISE**2 * after.variance(after.prepare(embedded.targets)).flatten(), expected, atol=1e-9)


def test_noise_by_task_is_refused_when_the_selector_is_made() -> None:
    with pytest.raises(InputError, match=r"`noise` is given.*PolicyBelief.*the same noise.*Kernel"):
        InformationGain(embedding=PolicyBelief(), occupancy=PolicyRollout(), noise={"a": 4.0})


def test_noise_that_the_policy_does_not_know_of_is_refused() -> None:
    noisy = replace(knowledge(policy(3)), noise=torch.full((5,), 2.0))
    with pytest.raises(InputError, match=r"the same noise.*Kernel"):
        PolicyBelief().embed(noisy, states(2, 3), states(4, 3), 1.0)


def test_other_policies_are_refused() -> None:
    with pytest.raises(InputError, match="belief of a GaussianProcessPolicy; the policy is a MLPPolicy"):
        PolicyBelief().embed(knowledge(MLPPolicy(2, 1, 1)), states(2, 3), states(4, 3), 1.0)
