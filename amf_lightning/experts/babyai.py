"""BabyAI's own expert."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.experts.twin import Twin
from amf_lightning.suites.babyai import BabyAI, minigrid_module
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode, TaskSuite

_DONE = 6
"""MiniGrid's action that changes nothing."""


class BabyAIExpert(ActingExpert):
    """The bot that minigrid ships: it plans shortest ways by what it has seen so far.

    A bot plans in an environment, and not from observations: each episode has a twin, begun with the same seed and
    stepped with the same actions. Where the bot gives up (it raises in KeyInBox, for one) the episode fails, and is
    drawn anew as any expert's.

    Args:
        noise: must be 0, as choices cannot be disturbed.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.
    """

    def actor(self, suite: TaskSuite) -> Controller:
        """The bots of the episodes.

        Raises:
            InputError: the suite is another one.
        """
        if not isinstance(suite, BabyAI):
            raise InputError(f"BabyAIExpert knows the suite BabyAI, not '{suite.name}'. Choose that suite's expert.")
        return _Bots(suite)


class _Bots(Controller):
    """A bot for each row of an episode."""

    def __init__(self, suite: BabyAI) -> None:
        self._suite = suite
        self._bots: list[_Bot] = []

    def begin(self, episodes: Sequence[Episode], width: int) -> None:
        self._bots = [_Bot(self._suite, episode) for episode in episodes]

    def act(self, steps: Steps) -> Tensor:
        """Actions [N, 7], one-hot; zeros in rows without an episode that goes on.

        Raises:
            InputError: a row shows something else than its twin, so that nobody knows what the bot would do.
        """
        actions = np.zeros((len(steps), self._suite.action_dim), dtype=np.float32)
        for row, bot in enumerate(self._bots):
            if not bot.twin.ended:
                seen = {name: entry[row].cpu().numpy() for name, entry in steps.observations.items()}
                actions[row, bot.choose(seen)] = 1
        return torch.from_numpy(actions).to(steps.device)


class _Bot:
    """The bot of an episode, in its twin."""

    def __init__(self, suite: BabyAI, episode: Episode) -> None:
        self.twin = Twin(suite.make(episode.task), episode)
        self._actions = np.eye(suite.action_dim, dtype=np.float32)
        self._bot: Any = None
        self._chosen: int | None = None
        self._gave_up = False

    def choose(self, seen: dict[str, NDArray[Any]]) -> int:
        """The bot's next action, which the twin takes at once."""
        self.twin.compare(seen, self.twin.observation, "BabyAI's bot")
        action = self._planned()
        self.twin.step(self._actions[action])
        return action

    def _planned(self) -> int:
        """What the bot says; nothing, from when on it raised."""
        if self._gave_up:
            return _DONE
        try:
            if self._bot is None:
                self._bot = minigrid_module("utils.baby_ai_bot").BabyAIBot(self.twin.env.unwrapped)
            self._chosen = int(self._bot.replan(self._chosen))
        except Exception:  # assertions, boxes that are gone: it says in no other way that it cannot go on
            self._gave_up = True
            return _DONE
        return self._chosen
