"""The part of a campaign that a choice sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import errors_before
from amf_lightning.campaign.request import Request
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True)
class History:
    """What a campaign has asked for and received before a choice."""

    requests: Sequence[Request]
    """All of them, in order of number."""
    pending: Sequence[Request]
    """Those that are neither answered nor skipped."""
    skipped: Sequence[Request]
    """Those that will not be answered, whether somebody asked for them or not."""
    demonstrations: Sequence[Trajectory]
    """The answers, in the order in which they are trained on."""
    round: int
    """The open one."""
    told: Sequence[Mapping[str, float]] = ()
    """Diagnostics of the choices of the rounds before it."""
    asked: Sequence[Sequence[int]] = ()
    """Task indices of the demonstrations that came in each of the rounds before it."""

    errors_before: Sequence[float] = ()
    """See `SelectionContext.errors_before`."""

    @property
    def chosen(self) -> int:
        """Requests that were chosen in the open round."""
        return sum(request.asked and request.round == self.round for request in self.requests)


def tasks_by_round(requests: Sequence[Request], arrivals: Mapping[int, int], rounds: int) -> list[list[int]]:
    """Task indices of the demonstrations that came in each of the first `rounds` rounds.

    Args:
        requests: that were answered, in the order in which their demonstrations are trained on.
        arrivals: the round in which each demonstration came, by number.
        rounds: how many.
    """
    came: list[list[int]] = [[] for _ in range(rounds)]
    for request in requests:
        if (arrived := arrivals[request.demonstration]) < rounds:
            came[arrived].append(request.task_index)
    return came


def history_of(
    ledger: Ledger,
    pending: Sequence[Request],
    arrived: Sequence[Request],
    read: Callable[[Sequence[Request]], list[Trajectory]],
) -> History:
    """What a ledger says now.

    Args:
        ledger: of the campaign.
        pending: its open requests.
        arrived: those that are answered, in the order in which their demonstrations are trained on.
        read: gives their demonstrations.
    """
    requests, skipped, number = ledger.jobs(), ledger.skipped(), ledger.open_round()
    return History(
        requests=requests,
        pending=pending,
        skipped=[request for request in requests if request.demonstration in skipped],
        demonstrations=read(arrived),
        round=number,
        told=[ledger.diagnostics(earlier) for earlier in range(number)],
        asked=tasks_by_round(arrived, ledger.arrivals(), number),
        errors_before=errors_before(ledger, [each.demonstration for each in arrived]),
    )
