"""A controller acts in an episode; simpler things that act are turned into one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from amf_lightning.user_code import refusal


class Actor(Protocol):
    """Anything that maps observations and task contexts to actions, deterministically and without memory."""

    def act(self, observations: Any, contexts: Tensor) -> Tensor:
        """Actions [N, A] in [-1, 1] for contexts [N, C] and observations: [N, O] float32, or, where an observation
        has several entries, a mapping of their names to tensors [N, …].

        Where the suite's actions are discrete, the largest entry of a row is the choice.
        """
        ...


class Controller(ABC):
    """Acts in episodes that run side by side, row i in episode i; memory, chunks and sampling are its business.

    An action may depend on the weights, the episode (task, seed) and what was observed in it, and on nothing else: not
    on the rows beside it, nor on what ran before.
    """

    @property
    def device(self) -> torch.device:
        """Where observations have to be."""
        return torch.device("cpu")

    def begin(self, episodes: Sequence[Episode], width: int) -> None:  # noqa: B027 (most have nothing to remember)
        """Forgets everything: `width` rows begin, of which the first are `episodes` and the others pad.

        All rows that still run have taken the same number of steps, so that `act` is called once a step for all.
        """

    @property
    def acting(self) -> object:
        """Whose actions these are, for messages: itself, or what it asks for them."""
        return self

    @abstractmethod
    def act(self, steps: Steps) -> Tensor:
        """Actions [width, A] for the latest observation of every row."""


class Memoryless(Controller):
    """An `Actor` as a controller.

    Args:
        actor: acts on observations and contexts.
        contexts: what it is told about each task instead of what policies are told, [K, G], if anything else.
    """

    def __init__(self, actor: Actor, contexts: Tensor | None = None) -> None:
        self._actor, self._contexts = actor, contexts

    @property
    def device(self) -> torch.device:
        parameters = self._actor.parameters() if isinstance(self._actor, nn.Module) else iter(())
        first: Tensor | None = next(parameters, None)
        return torch.device("cpu") if first is None else first.device

    @property
    def acting(self) -> object:
        return self._actor

    def act(self, steps: Steps) -> Tensor:
        contexts = steps.contexts
        if self._contexts is not None:
            contexts = self._contexts.to(contexts.device)[steps.tasks]
        actions: Any = self._actor.act(steps.plain_observations, contexts)
        try:
            return torch.as_tensor(actions)  # arrays of numpy and lists are converted
        except (TypeError, ValueError, RuntimeError) as error:
            raise refusal(
                self._actor,
                f"{type(self._actor).__name__}.act(observations, contexts) gave a {type(actions).__name__} ({error})",
                "It must return a tensor [N, A], one row of actions for each row of observations.",
            ) from error


@runtime_checkable
class Controlled(Protocol):
    """Something that is no controller but says which one acts for it: a policy."""

    def controller(self) -> Controller:
        """Its default controller."""
        ...


Acting = Controller | Controlled | Actor
"""Everything that `rollout` can run episodes with."""


def controller_of(acting: Acting) -> Controller:
    """The controller itself, the default controller of a policy, or one made of an actor.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(acting, Controller):
        return acting
    if isinstance(acting, Controlled):
        return acting.controller()
    if callable(getattr(acting, "act", None)):
        return Memoryless(acting)
    raise InputError(f"A {type(acting).__name__} does not act: it has no method act(observations, contexts).")
