"""What the rest of the package needs of every policy, and nothing more."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.policies.options import options_of
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps, Window


class Policy(nn.Module, ABC):
    """A task-conditioned policy: any torch module that predicts actions for rows of `Steps`.

    A subclass gives `act` (one action a step) or `predict` (a chunk of H actions). All else has a default: the mean
    squared error as loss, and inputs that are not normalised. What some parts of a run need beyond that are
    capabilities, `Density`, `Embeds` and `LinearHead` (capabilities.py), which a policy has by inheriting them. See
    docs/your-own-policy.md.

    Constructed as `cls(observation, context_dim, action_dim, **options)`: the entries of an observation, the lengths of
    context and action. Options are plain types: they are written into the policy's file so that it can be made again
    without its configuration.
    """

    discrete: ClassVar[bool] = False
    """Whether actions are choices, one-hot; must agree with the suite."""
    samples: bool = False
    """Whether it is meant to act by samples of its distribution; else it acts deterministically unless told to."""
    window: Window = Window()
    """What it sees and predicts at each step; see `Steps`."""
    make_controller: "Callable[[Policy], Controller] | None" = None
    """Makes the controller that acts for it; None: `EveryStep`, or `Chunked` if it predicts chunks."""
    before_training: ClassVar[tuple[str, ...]] = ()
    """Options that say nothing any more once it is trained, as for normalisation: left out, what a file says holds."""
    options: dict[str, object]
    """Keyword arguments of the constructor beyond the first three, defaults included; kept by themselves."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keeps the options that the constructor is called with; copies are made without any."""
        missing = sorted(cls.__abstractmethods__)
        if cls.act is Policy.act and cls.predict is Policy.predict:
            missing = ["act", *missing]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise InputError(f"The policy {cls.__name__} has no method {names}: see docs/your-own-policy.md.")
        _check_calls(cls)
        policy = super().__new__(cls)
        if args or kwargs:
            policy.__dict__["options"] = options_of(cls, args, kwargs)
        return policy

    @property
    def parts(self) -> tuple["Policy", ...]:
        """The policies in it that learn, each with weights of its own: itself, unless it is made of others."""
        return (self,)

    def part_of(self, contexts: Tensor) -> Tensor:
        """Which of `parts` acts on rows with contexts [N, C], [N] int64."""
        return torch.zeros(len(contexts), dtype=torch.int64, device=contexts.device)

    def can(self, capability: type) -> bool:
        """Whether it has a capability: `Density`, `Embeds` or `LinearHead`."""
        return isinstance(self, capability)

    @property
    def device(self) -> torch.device:
        """Where its tensors are; the CPU if it has none."""
        return next(chain(self.parameters(), self.buffers()), torch.empty(0)).device

    def act(self, steps: Steps) -> Tensor:
        """The deterministic action for each row, [N, A] in [-1, 1]: the mean, and of a chunk the first."""
        return self.predict(steps)[:, 0]

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """Actions from the present step on, [N, H, A] in [-1, 1], H the horizon of the `window`.

        Args:
            steps: rows [N].
            generator: draws a sample of each row's distribution from it; None: deterministic, e.g. the mean.
        """
        return self.act(steps)[:, None]

    def controller(self) -> Controller:
        """What acts for it in episodes."""
        # Imported here because controllers are made of policies.
        from amf_lightning.policies.controllers import Chunked, EveryStep

        if self.make_controller is not None:
            return self.make_controller(self)
        return EveryStep(self) if self.window.horizon == 1 else Chunked(self)

    def forward(self, steps: Steps) -> Tensor:
        """`act`."""
        return self.act(steps)

    def loss(self, steps: Steps) -> Tensor:
        """Behavioural-cloning loss of each row, [N]: the squared error, mean over all entries that count.

        Of a policy with a `LinearHead` its graph passes through that layer.
        """
        if self.window.horizon == 1:
            return F.mse_loss(self.act(steps), steps.shown_actions, reduction="none").mean(dim=1)
        errors = F.mse_loss(self.predict(steps), steps.shown_actions, reduction="none").mean(dim=2)
        if steps.mask is None:
            return errors.mean(dim=1)
        return (errors * steps.mask).sum(dim=1) / steps.mask.sum(dim=1)

    def fit_normaliser(self, steps: Steps) -> None:
        """Sets the input normalisation from data. Called once, before the first training of a new policy."""

    def deviations(self, steps: Steps) -> Tensor | None:
        """How far entries of one vector are from what it was normalised to, in standard deviations, [N, O].

        None if nothing is normalised. Demonstrations that are far off are warned of.
        """
        return None

    @property
    def is_normalised(self) -> bool:
        """Whether `fit_normaliser` was called, now or before it was saved; True if there is nothing to normalise."""
        return True


class RefittedPolicy(Policy):
    """A policy without weights to step: it is fitted anew, in closed form, at the start of each round."""

    @abstractmethod
    def refit(self, start: Policy, steps: Steps) -> None:
        """Becomes what `start` is after seeing these rows too; what it was before is forgotten.

        Args:
            start: π0, of the same class and shapes.
            steps: of all demonstrations so far, [N], with the expert's actions.
        """


def _check_calls(cls: type[Policy]) -> None:
    """Raises UserCodeError unless the methods of a policy can be called as they will be."""
    for name, arguments in {"act": "steps", "predict": "steps, generator", "loss": "steps"}.items():
        signature = inspect.signature(getattr(cls, name))
        try:
            signature.bind("self", *arguments.split(", "))
        except TypeError:
            raise UserCodeError(
                f"{cls.__name__} ({inspect.getfile(cls)}): {name}{signature} is called as {name}({arguments}), and "
                "cannot be. What a policy gives is in docs/your-own-policy.md, what 0.2 changed in CHANGELOG.md."
            ) from None


def frozen_copy(policy: Policy) -> Policy:
    """A deep copy in evaluation mode whose parameters need no gradient."""
    copy = deepcopy(policy).eval()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    return copy
