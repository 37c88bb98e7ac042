"""An environment with a camera as a user would write it, and who shows what is to be done there."""

from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE = 16


class PictureEnv(gymnasium.Env[Any, NDArray[Any]]):
    """A point on a line, seen by a camera as a bright column; the action is its velocity."""

    observation_space = gymnasium.spaces.Dict(
        {
            "camera": gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            "speed": gymnasium.spaces.Box(-1.0, 1.0, (1,)),
        }
    )
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        assert options is not None
        self.goal, self.x, self.speed = float(options["goal"]), float(self.np_random.uniform(-0.2, 0.2)), 0.0
        return self._seen(), {}

    def step(self, action: NDArray[Any]) -> Any:
        self.speed = 0.2 * float(action[0])
        self.x = float(np.clip(self.x + self.speed, -1, 1))
        error = abs(self.x - self.goal)
        return self._seen(), -error, False, False, {"success": error < 0.2}

    def _seen(self) -> dict[str, NDArray[Any]]:
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        picture[:, round((self.x + 1) / 2 * (SIDE - 1))] = 255
        return {"camera": picture, "speed": np.array([self.speed], np.float32)}


class Seeing:
    """Goes to where the goal is, by what the camera shows."""

    def act(self, observations: dict[str, Tensor], contexts: Tensor) -> Tensor:
        columns = observations["image/camera"].float().mean(dim=(1, 3))
        x = 2 * (columns * torch.arange(SIDE)).sum(dim=1) / columns.sum(dim=1) / (SIDE - 1) - 1
        return ((contexts[:, 0] - x) / 0.2).clamp(-1, 1)[:, None]


class Trunk(nn.Module):
    """A network of a user for pictures, with a head for something else."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=4), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, 100)

    def forward(self, pictures: Tensor) -> Tensor:
        scores: Tensor = self.head(self.body(pictures).mean(dim=(2, 3)))
        return scores


SUITE: dict[str, Any] = {
    "class_path": "GymnasiumSuite",
    "init_args": {
        "environment": "picture_world.PictureEnv",
        "horizon": 8,
        "tasks": [
            {"name": name, "context": [goal], "options": {"goal": goal}}
            for name, goal in (("left", -0.7), ("right", 0.7), ("near", 0.3))
        ],
        "reference": {name: {"random": -8.0, "expert": 0.0, "spread": 0.1} for name in ("left", "right", "near")},
    },
}
EXPERT: dict[str, Any] = {"class_path": "ActorExpert", "init_args": {"actor": "picture_world.Seeing"}}
