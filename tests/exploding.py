"""A policy of the tiny world whose weights grow without end, unless its gradients are clipped."""

from torch import Tensor

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.tasks.steps import Steps


class ExplodingPolicy(MLPPolicy):
    """Each step of gradient descent multiplies the weights of its head by a large number."""

    def loss(self, steps: Steps) -> Tensor:
        return super().loss(steps) + 1e3 * self.head.weight.square().mean()
