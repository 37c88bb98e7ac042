"""Where a campaign stands, in numbers, from its ledger alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.request import Request


@dataclass(frozen=True)
class Counts:
    """What became of requests. `asked` = `answered` + `skipped` + `pending`."""

    asked: int = 0
    answered: int = 0
    skipped: int = 0
    pending: int = 0
    unasked: int = 0
    """Demonstrations that came without being asked for; they count beside `answered`."""


@dataclass(frozen=True)
class CampaignStatus:
    """Counts in all and by task, and rounds."""

    total: Counts
    tasks: Mapping[str, Counts]
    """By name, of every task that was asked for or demonstrated, in the order of the suite."""
    pending: tuple[Request, ...]
    """The requests that wait for an answer."""
    open_round: int
    """The round that takes what comes now; as many as are closed."""


def status_of(ledger: Ledger) -> CampaignStatus:
    """The status of the campaign of a ledger.

    Raises:
        InputError: the ledger cannot be read.
    """
    recorded, skipped = ledger.recorded().keys(), ledger.skipped().keys()
    requests = ledger.jobs()

    def counts(some: list[Request]) -> Counts:
        asked = [request.demonstration for request in some if request.asked]
        return Counts(
            asked=len(asked),
            answered=sum(number in recorded for number in asked),
            skipped=sum(number in skipped for number in asked),
            pending=sum(number not in recorded and number not in skipped for number in asked),
            unasked=sum(not request.asked and request.demonstration in recorded for request in some),
        )

    names = {request.task_index: request.task for request in sorted(requests, key=lambda request: request.task_index)}
    settled = recorded | skipped
    return CampaignStatus(
        total=counts(requests),
        tasks={name: counts([request for request in requests if request.task == name]) for name in names.values()},
        pending=tuple(request for request in requests if request.demonstration not in settled),
        open_round=ledger.open_round(),
    )
