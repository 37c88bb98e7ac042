"""A second environment in which an expert sees what the observations of an episode do not say."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.simulation.simulation import Env, Observations
from amf_lightning.tasks.task import Episode


class Twin:
    """An environment in which an episode happens a second time.

    Args:
        env: made for it, or left by another episode.
        episode: begun here with the same seed; `step` has to be given the actions that are executed there.
    """

    def __init__(self, env: Env, episode: Episode) -> None:
        self.env, self.episode = env, episode
        self.observation: Observations
        self.observation, _ = env.reset(seed=episode.seed)
        self.ended = False

    def compare(self, seen: Mapping[str, NDArray[np.generic]], expected: Observations, who: str) -> None:
        """What the episode itself shows against what it should show by its twin.

        Args:
            seen: entries of its present observation.
            expected: those of them that the twin tells.
            who: acts, for the message.

        Raises:
            InputError: the episode itself has gone another way.
        """
        if any(not np.array_equal(entry, seen[name]) for name, entry in expected.items()):
            raise InputError(
                f"Task '{self.episode.task.name}', seed {self.episode.seed}: {who} acts in whole episodes of its own "
                "only, and these observations are of another one. Choose parts that ask it for nothing else."
            )

    def step(self, action: NDArray[np.float32]) -> None:
        """Takes the action [A] that the episode takes."""
        self.observation, _, terminated, truncated, _ = self.env.step(action)
        self.ended = terminated or truncated
