"""Policies as people bring them from the field, of chunks that are drawn and of pictures, and a world with a camera.

Each is what a stranger would write: it knows of this package what docs/your-own-policy.md says.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amf_lightning.policies.capabilities import Embeds, GaussianDensity, LinearHead
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Spec, Specs, state_size
from amf_lightning.tasks.steps import Steps, Window
from amf_lightning.tasks.task import Task
from tiny import PointEnv, TinySuite

IMAGE = "image/front"


class FlowPolicy(Embeds, Policy):
    """Draws 4 actions at a time: noise that is carried along a learned velocity field (flow matching).

    In training the noise is drawn anew; in evaluation mode the loss is a function of its rows.
    """

    samples = True
    window = Window(horizon=4)

    def __init__(
        self, observation: Specs | int, context_dim: int, action_dim: int, width: int = 32, stages: int = 3
    ) -> None:
        super().__init__()
        self.chunk, self.stages = (self.window.horizon, action_dim), stages
        self.see = nn.Linear(state_size(observation, type(self).__name__) + context_dim, width)
        self.move = nn.Linear(width + 4 * action_dim + 1, width)
        self.velocity = nn.Linear(width, 4 * action_dim)

    def embed(self, steps: Steps) -> Tensor:
        seen = torch.relu(self.see(torch.cat([steps.state, steps.contexts], dim=1)))
        return torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)

    def field(self, steps: Steps, actions: Tensor, time: Tensor) -> Tensor:
        """Velocity [N, 4, A] at the point `actions` [N, 4, A] and time [N, 1] in [0, 1]."""
        hidden = torch.relu(self.move(torch.cat([self.embed(steps)[:, :-1], actions.flatten(1), time], dim=1)))
        velocity: Tensor = self.velocity(hidden).unflatten(1, self.chunk)
        return velocity

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        actions = steps.contexts.new_zeros(len(steps), *self.chunk)
        if generator is not None:
            actions = generator.normal(*self.chunk).to(actions)
        for stage in range(self.stages):
            time = torch.full_like(steps.contexts[:, :1], stage / self.stages)
            actions = actions + self.field(steps, actions, time) / self.stages
        return actions.clamp(-1, 1)

    def loss(self, steps: Steps) -> Tensor:
        noise, time = torch.zeros_like(steps.shown_actions), torch.full_like(steps.contexts[:, :1], 0.5)
        if self.training:
            noise, time = torch.randn_like(noise), torch.rand_like(time)
        between = torch.lerp(noise, steps.shown_actions, time[:, :, None])
        errors = (self.field(steps, between, time) - (steps.shown_actions - noise)).square().mean(2)
        mask = torch.ones_like(errors) if steps.mask is None else steps.mask
        return (errors * mask).sum(1) / mask.sum(1)


class CameraPolicy(GaussianDensity, LinearHead, Policy):
    """Sees a small picture beside a vector."""

    def __init__(self, observation: Specs, context_dim: int, action_dim: int, channels: int = 4) -> None:
        super().__init__()
        depth, (size,) = observation[IMAGE].shape[-1], observation["state"].shape
        self.see = nn.Conv2d(depth, channels, 3, stride=2)
        self.body = nn.Linear(9 * channels + size + context_dim, 16)
        self.head = nn.Linear(16, action_dim)

    def act(self, steps: Steps) -> Tensor:
        picture = steps.observations[IMAGE].movedim(-1, 1).to(steps.contexts) / 255
        seen = torch.relu(self.see(picture)).flatten(1)
        rows = torch.cat([seen, steps.observations["state"], steps.contexts], dim=1)
        return torch.tanh(self.head(torch.relu(self.body(rows))))


class CameraEnv(PointEnv):
    """Where the point is, as a bright column of a picture of 8 × 8, and its velocity."""

    def look(self, observation: NDArray[Any]) -> dict[str, NDArray[Any]]:
        picture = np.zeros((8, 8, 3), np.uint8)
        picture[:, int(np.clip(4 + 3 * observation[0], 0, 7))] = 255
        return {"state": observation[1:].astype(np.float32), IMAGE: picture}

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(**options)
        return self.look(observation), info

    def step(self, action: NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return self.look(observation), reward, terminated, truncated, info


class CameraSuite(TinySuite):
    """The four goals, seen by a camera."""

    name = "camera"
    observation = {"state": Spec((1,)), IMAGE: Spec((8, 8, 3), "uint8")}  # noqa: RUF012

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[Any, NDArray[Any]]:
        return CameraEnv(self.horizon)
