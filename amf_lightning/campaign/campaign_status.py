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
    rounds: int = 0
    """Those in which something was asked for or came."""


def status_of(ledger: Ledger) -> CampaignStatus:
    """The status of the campaign of a ledger.

    Raises:
        InputError: the ledger cannot be read.
    """
    recorded, skipped = ledger.recorded().keys(), ledger.skipped().keys()
    outline = ledger.outline()
    rows: dict[str, list[tuple[int, bool]]] = {
        task: [] for _, task in sorted({(index, task) for _, _, task, index, _ in outline})
    }
    for number, _, task, _, is_asked in outline:
        rows[task].append((number, is_asked))

    def counts(some: list[tuple[int, bool]]) -> Counts:
        asked = [number for number, is_asked in some if is_asked]
        return Counts(
            asked=len(asked),
            answered=sum(number in recorded for number in asked),
            skipped=sum(number in skipped for number in asked),
            pending=sum(number not in recorded and number not in skipped for number in asked),
            unasked=sum(not is_asked and number in recorded for number, is_asked in some),
        )

    return CampaignStatus(
        total=counts([row for of_task in rows.values() for row in of_task]),
        tasks={name: counts(of_task) for name, of_task in rows.items()},
        pending=tuple(ledger.pending()),
        open_round=ledger.open_round(),
        rounds=len({round for _, round, *_ in outline}),
    )
