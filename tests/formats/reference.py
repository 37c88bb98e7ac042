"""The episodes that every library writes and every reader must give: numbers and pictures that anybody can make again.

Only numpy is needed, so that the environment of the libraries can make them, too.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TASKS = ("reach the cube", "push the cube")
FPS = 10
LENGTHS = (4, 6, 3)
HEIGHT = WIDTH = 32
"""Minari takes nothing smaller for a picture."""


@dataclass(frozen=True)
class Reference:
    """One episode of T steps, with what is seen before each step and after the last one."""

    task: str
    state: NDArray[np.float32]
    """[T + 1, 3]."""
    front: NDArray[np.uint8]
    """Pictures [T + 1, H, W, 3]: noise, which no lossy encoding keeps."""
    actions: NDArray[np.float32]
    """[T, 2]."""
    rewards: NDArray[np.float64]
    """[T]."""
    seed: int
    success: bool

    def observations(self, after_last: bool) -> dict[str, NDArray[Any]]:
        """By our names, with or without what is seen after the last step."""
        end = len(self.actions) + after_last
        return {"image/front": self.front[:end], "state": self.state[:end]}


def references() -> list[Reference]:
    """Three episodes of two tasks."""
    made = []
    for number, length in enumerate(LENGTHS):
        generator = np.random.default_rng(number)
        made.append(
            Reference(
                task=TASKS[number % 2],
                state=generator.normal(size=(length + 1, 3)).astype(np.float32),
                front=generator.integers(0, 2, (length + 1, HEIGHT, WIDTH, 3), np.uint8) * np.uint8(173),
                actions=generator.uniform(-1, 1, (length, 2)).astype(np.float32),
                rewards=generator.normal(size=length),
                seed=100 + number,
                success=number != 1,
            )
        )
    return made
