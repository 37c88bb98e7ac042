"""A policy that says where it is used: it learns on the GPU, if there is one, and acts on the CPU."""

from typing import ClassVar

import torch
from torch import Tensor

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.tasks.steps import Steps

LEARNS_ON = "cuda" if torch.cuda.is_available() else "cpu"


class PlacedPolicy(MLPPolicy):
    """Prints each device that it learns on, once, and refuses to act on another than the CPU."""

    learned_on: ClassVar[set[str]] = set()

    def act(self, steps: Steps) -> Tensor:
        device = self.device.type
        assert device == steps.device.type, f"weights on {device}, steps on {steps.device.type}"
        if not torch.is_grad_enabled():
            assert device == "cpu", f"acts on {device}"
        elif device not in self.learned_on:  # it is tried on the CPU, too, before the run begins
            self.learned_on.add(device)
            print(f"learns on {device}", flush=True)
        return super().act(steps)
