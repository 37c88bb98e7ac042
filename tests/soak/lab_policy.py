"""A lab's own policy on a camera and a state, as docs/your-own-policy.md says to write one."""

import torch
from torch import Tensor, nn

from amf_lightning.policies.capabilities import LinearHead
from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps

CAMERA = "image/front"


class CameraPolicy(LinearHead, Policy):
    """Looks at the picture in squares of 16 by 16, and at the state.

    Args:
        observation: has `image/front` [H, W, 3] uint8 and `state` [S].
        context_dim: C.
        action_dim: A.
        width: of the last hidden layer.
    """

    def __init__(self, observation: Specs, context_dim: int, action_dim: int, width: int = 16) -> None:
        super().__init__()
        height, breadth, colours = observation[CAMERA].shape
        self.see = nn.Conv2d(colours, 4, kernel_size=16, stride=16)
        seen = 4 * (height // 16) * (breadth // 16) + observation["state"].shape[0] + context_dim
        self.think = nn.Linear(seen, width)
        self.head = nn.Linear(width, action_dim)

    def act(self, steps: Steps) -> Tensor:
        """Actions [N, A] in [-1, 1]."""
        picture = steps.observations[CAMERA].movedim(-1, 1).to(steps.contexts) / 255
        rows = [torch.relu(self.see(picture)).flatten(1), steps.observations["state"], steps.contexts]
        return torch.tanh(self.head(torch.tanh(self.think(torch.cat(rows, dim=1)))))
