"""How a policy acts in an episode: memory of what it saw, chunks of what it predicted, and keyed samples."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode


class PolicyController(Controller):
    """Acts by a policy's predictions.

    Args:
        policy: predicts.
        sample: draw from the policy's distribution, each row from a stream keyed by (episode's seed, step); by default
            as the policy says (`Policy.samples`). False: deterministic.
    """

    def __init__(self, policy: Policy, sample: bool | None = None) -> None:
        self.policy = policy
        self.sample = policy.samples if sample is None else sample
        self._seeds: list[int] = []
        self._step = 0
        self._seen: list[Steps] = []

    @property
    def device(self) -> torch.device:
        return self.policy.device

    @property
    def acting(self) -> object:
        return self.policy

    def begin(self, episodes: Sequence[Episode], width: int) -> None:
        # A padding row gets a stream of its own too; nobody looks at its actions.
        self._seeds = [episode.seed for episode in episodes] + [0] * (width - len(episodes))
        self._step, self._seen = 0, []

    def act(self, steps: Steps) -> Tensor:
        if self.policy.window.history > 1:
            # A copy: the caller may write the next observation into the same tensors.
            self._seen = [*self._seen, steps.map(torch.clone)][-self.policy.window.history :]
        action = self.choose(steps, self._step)
        self._step += 1
        return action

    @abstractmethod
    def choose(self, steps: Steps, step: int) -> Tensor:
        """Actions [width, A] at this step of the episodes, from 0."""

    def predicted(self, steps: Steps) -> Tensor:
        """The policy's prediction from what it saw, [width, H, A]."""
        generator = RowGenerators(self._seeds, self._step) if self.sample else None
        return self.policy.predict(self._history(steps), generator)

    def _history(self, steps: Steps) -> Steps:
        """With a window entries are [width, history, …]; before the first observation stands the first again."""
        if (history := self.policy.window.history) == 1:
            return steps
        seen = [self._seen[0]] * (history - len(self._seen)) + self._seen
        stacked = {name: torch.stack([each.observations[name] for each in seen], dim=1) for name in steps.observations}
        return Steps(stacked, steps.tasks, steps.contexts)


class EveryStep(PolicyController):
    """Asks the policy at every step and takes the first action that it predicts.

    Args:
        policy: see `PolicyController`.
        sample: see `PolicyController`.
    """

    def choose(self, steps: Steps, step: int) -> Tensor:
        if not self.sample and self.policy.window.history == 1:
            return self.policy.act(steps)
        return self.predicted(steps)[:, 0]


class Chunked(PolicyController):
    """Asks the policy at every k-th step and carries out k of the actions that it predicted.

    Args:
        policy: see `PolicyController`.
        execute: k, at most the horizon of the policy's window; None: all of them.
        sample: see `PolicyController`.

    Raises:
        InputError: k is not between 1 and the horizon.
    """

    def __init__(self, policy: Policy, execute: int | None = None, sample: bool | None = None) -> None:
        super().__init__(policy, sample)
        self.execute = policy.window.horizon if execute is None else execute
        if not 1 <= self.execute <= policy.window.horizon:
            raise InputError(
                f"Chunked: execute is {self.execute}, but {type(policy).__name__} predicts {policy.window.horizon} "
                f"actions at a time; give a number from 1 to {policy.window.horizon}."
            )
        self._chunk = torch.empty(0)

    def choose(self, steps: Steps, step: int) -> Tensor:
        place = step % self.execute
        if place == 0:
            self._chunk = self.predicted(steps)
        return self._chunk[:, place]


class TemporalEnsemble(PolicyController):
    """Asks the policy at every step and averages what it has predicted for this step, now and at the steps before.

    The i-th oldest prediction has the weight exp(−decay·i): the larger the decay, the slower new observations enter
    (Zhao et al., ACT, arXiv 2304.13705). Of actions that are choices, the likeliest among the predictions is taken.

    Args:
        policy: see `PolicyController`.
        decay: how much less each newer prediction counts; 0: all alike.
        sample: see `PolicyController`.

    Raises:
        InputError: the decay is negative.
    """

    def __init__(self, policy: Policy, decay: float = 0.01, sample: bool | None = None) -> None:
        super().__init__(policy, sample)
        if decay < 0:
            raise InputError(f"TemporalEnsemble: decay is {decay}; it must not be negative.")
        self.decay = decay
        self._chunks: list[Tensor] = []

    def choose(self, steps: Steps, step: int) -> Tensor:
        before = self._chunks if step else []
        self._chunks = [*before, self.predicted(steps)][-self.policy.window.horizon :]
        ages = range(len(self._chunks) - 1, -1, -1)
        actions = torch.stack([chunk[:, age] for age, chunk in zip(ages, self._chunks, strict=True)])
        weights = torch.softmax(-self.decay * torch.arange(len(actions)).to(actions), dim=0)
        return (weights[:, None, None] * actions).sum(dim=0)
