"""Which optimisers clip in which precision."""

import pytest
import torch
from torch.optim import SGD, AdamW

from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.precision import clip_gradients, scaled_back
from amf_lightning.fine_tuning.refitting import check_alone
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy


def weights() -> list[torch.nn.Parameter]:
    made = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    made[0].grad, made[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    return made


@pytest.mark.parametrize(
    ("algorithm", "largest", "expected"),
    [
        (None, 1.0, [0.6, 0.0, 0.8]),
        ("norm", 10, [3.0, 0.0, 4.0]),
        ("value", 3.5, [3.0, 0.0, 3.5]),
        ("norm", -1, [3.0, 0.0, 4.0]),
    ],
)
def test_gradients_are_clipped_by_their_norm_or_their_size(
    algorithm: str | None, largest: float, expected: list[float]
) -> None:
    parameters = weights()
    clip_gradients(AdamW(parameters, fused=True), largest, algorithm)
    found = torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None])
    assert torch.allclose(found, torch.tensor(expected), rtol=1e-5)


def test_in_16_mixed_a_fused_optimiser_cannot_clip() -> None:
    fused, plain = AdamW(weights(), fused=True), SGD(weights(), lr=0.1)
    for optimizer, precision, clip in (
        (fused, "16-mixed", None),
        (fused, "bf16-mixed", 1.0),
        (plain, "16-mixed", 1.0),
        (fused, "32-true", 1.0),
    ):
        assert scaled_back(optimizer, precision, clip) is optimizer
    with pytest.raises(InputError, match=r"fused AdamW.*Set trainer\.precision: bf16-mixed"):
        scaled_back(fused, "16-mixed", 1.0)


def test_what_has_no_gradient_is_not_trained_with_scaled_ones() -> None:
    policy = GaussianProcessPolicy(2, 1, 1)
    check_alone(policy, 1, "bf16-mixed")
    with pytest.raises(InputError, match=r"Set trainer\.precision: 32-true"):
        check_alone(policy, 1, "16-mixed")
