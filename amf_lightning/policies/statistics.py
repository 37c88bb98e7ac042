"""The statistics of the pre-training data, kept when the data itself is gone: sums over its features."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import LinearHead, embedded
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.steps import Steps


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Sufficient statistics of n0 states in the last-layer features of one policy, 1 appended for the bias."""

    second_moment: Tensor
    """M0 = Σ φφᵀ over the states, [F + 1, F + 1] float64, not divided by the count or the scale.

    [G, F + 1, F + 1] of a policy with G `parts`: each state counts in the features of the part that acts there.
    """
    count: int
    """n0, the number of states."""
    largest_norm: float
    """Largest ‖φ‖ among the states; features of states far outside may be clipped to it."""
    backbone: str
    """Hash of the weights below the last layer: the features in which the statistics hold."""
    covers: dict[str, int]
    """Demonstrations of each task that the states come from."""

    @property
    def scale(self) -> float:
        """s = √(mean ‖φ‖²), by which features are divided (method, section 3)."""
        return float((self.second_moment.diagonal(dim1=-2, dim2=-1).sum() / self.count).sqrt())

    def of_part(self, part: int) -> Tensor:
        """M0 in the features of one part of the policy, [F + 1, F + 1]."""
        return self.second_moment if self.second_moment.ndim == 2 else self.second_moment[part]

    def other_backbone(self, policy: Policy) -> str | None:
        """Why these statistics are not about the features of `policy`, as a clause; None if they are."""
        if (backbone := backbone_hash(policy)) == self.backbone:
            return None
        return (
            f"the stored feature statistics belong to a policy with backbone {self.backbone}, not {backbone}: its "
            "features are not the ones they were summed in"
        )

    def check_backbone(self, policy: Policy) -> None:
        """Raises InputError if `policy` does not have the features that these statistics are about."""
        if (reason := self.other_backbone(policy)) is not None:
            raise InputError(f"{reason[0].upper()}{reason[1:]}. Export the policy again, or do without statistics.")


def backbone_hash(policy: Policy) -> str:
    """A short hash of all tensors of a policy except its output layer, or those of its parts, if it has any."""
    heads = [part.output_layer for part in policy.parts if isinstance(part, LinearHead)]
    last = {id(parameter) for head in heads for parameter in head.parameters()}
    digest = hashlib.sha256()
    # `keep_vars` gives the parameters themselves, so that they can be told by identity; sorted, as order is no weight.
    for name, tensor in sorted(policy.state_dict(keep_vars=True).items()):
        if id(tensor) not in last:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def weights_hash(policy: Policy) -> str:
    """A short hash of all tensors of a policy."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def feature_statistics(policy: Policy, steps: Steps, covers: dict[str, int]) -> FeatureStatistics:
    """Statistics of steps [N] in the features of `policy`."""
    features = embedded(policy, steps)
    if not torch.isfinite(features).all():
        raise InputError("The policy's features are not finite on the given states: the policy has diverged.")
    of_part = policy.part_of(steps.contexts)
    moments = [features[of_part == part].T @ features[of_part == part] for part in range(len(policy.parts))]
    return FeatureStatistics(
        second_moment=torch.stack(moments) if len(moments) > 1 else moments[0],
        count=len(features),
        largest_norm=float(features.norm(dim=1).max()),
        backbone=backbone_hash(policy),
        covers=dict(covers),
    )
