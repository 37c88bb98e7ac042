"""An expert that acts by a class of the user."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from amf_lightning.errors import AmfError, InputError
from amf_lightning.experts.expert import ActingExpert
from amf_lightning.import_path import imported, told
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.task import TaskSuite


class ActorExpert(ActingExpert):
    """Any class with `act(observations, contexts) -> actions`, tensors [N, O], [N, C], [N, A] in [-1, 1].

    It must be deterministic, row by row: what it does in one episode must not depend on the rows beside it. Where an
    observation has several entries it is given a mapping of their names to tensors [N, …]. One with a memory extends
    `amf_lightning.tasks.controller.Controller`.

    Args:
        actor: import path of the class, e.g. `my_module.MyController`, or of a function that makes the actor and says
            so by its return type.
        arguments: of its constructor.
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.

    Raises:
        InputError: it cannot be found or made, or it does not act.
    """

    def __init__(
        self,
        actor: str,
        arguments: Mapping[str, Any] | None = None,
        noise: float = 0.0,
        successes_only: bool = True,
        max_attempts: int = 5,
    ) -> None:
        super().__init__(noise, successes_only, max_attempts)
        factory = imported(actor, "expert.actor", _acts, "has no method act(observations, contexts)")
        try:
            self._actor: Acting = factory(**(arguments or {}))
        except AmfError:
            raise
        except Exception as error:
            raise InputError(
                f"The expert '{actor}' cannot be made with {dict(arguments or {})}: {told(error)}."
            ) from error
        if not _acts(self._actor):
            raise InputError(f"The expert '{actor}' has no method act(observations, contexts).")
        if isinstance(self._actor, nn.Module):
            self._actor.eval()  # dropout and batch statistics would make it act otherwise each time

    def actor(self, suite: TaskSuite) -> Acting:
        return self._actor


def _acts(actor: object) -> bool:
    return callable(getattr(actor, "act", None))
