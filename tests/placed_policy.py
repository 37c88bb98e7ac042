"""A policy that says where it is used: it learns on the GPU, if there is one, and acts on the CPU."""

import torch
from torch import Tensor

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.tasks.steps import Steps

LEARNS_ON = "cuda" if torch.cuda.is_available() else "cpu"


class PlacedPolicy(MLPPolicy):
    """Refuses to learn or to act anywhere else."""

    def act(self, steps: Steps) -> Tensor:
        expected = LEARNS_ON if torch.is_grad_enabled() else "cpu"
        found = {self.device.type, steps.device.type}
        assert found == {expected}, f"{found} instead of {expected}"
        return super().act(steps)
