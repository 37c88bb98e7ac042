"""`amf next RUN`: what to demonstrate now, and why. Reads the run and changes nothing.

The same requests come again until they are answered (`amf add`) or skipped (`amf skip`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.campaign.asked import Asked, OpenRequest, ahead_of, read_asked, sentences
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.configuration import plain
from amf_lightning.errors import InputError

if TYPE_CHECKING:  # it imports numpy, which a run that nobody has evaluated can do without
    from amf_lightning.campaign.outlook import Outlook


def main(arguments: list[str]) -> None:
    """Parses the command line and prints the open requests, as a list or as JSON."""
    parser = PlainParser(prog="amf next", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("-n", type=int, metavar="K", help="show K requests at most; all, if not given")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    values = parser.parse_args(arguments)
    if values.n is not None and values.n < 1:
        raise InputError(f"-n is {values.n}; it is how many requests to show, at least 1.")
    asked = read_asked(values.run)
    shown = asked.requests[: values.n]
    ahead = ahead_of(asked.status, [request.task for request in shown])
    print(as_json(asked, shown, ahead) if values.json else as_text(asked, shown, ahead))


def as_json(asked: Asked, shown: Sequence[OpenRequest], ahead: "Outlook | None" = None) -> str:
    """The requests that are shown, how many are open, what comes after them, and how many more may be needed."""
    facts = {
        "run": asked.status.folder,
        "state": asked.status.state,
        "open": len(asked.requests),
        "requests": [asdict(request) for request in shown],
        "then": asked.then,
        "forecast": None if ahead is None else asdict(ahead),
    }
    return json.dumps(plain(facts, strict=True), indent=2, allow_nan=False)


def as_text(asked: Asked, shown: Sequence[OpenRequest], ahead: "Outlook | None" = None) -> str:
    """The requests that are shown for people, a line and a reason each, and what comes after them."""
    width = max((len(str(request.number)) for request in shown), default=0)
    lines = [
        f"{request.number:>{width}}  {request.task}\n{'':{width}}  {' '.join(sentences(request, ahead))}"
        for request in shown
    ]
    if hidden := len(asked.requests) - len(shown):
        lines.append(f"{hidden} more {'is' if hidden == 1 else 'are'} open.")
    if ahead is not None:
        from amf_lightning.campaign.outlook import phrase

        lines.append(f"To a mean score of {ahead.target:g}: {phrase(ahead.mean)}.")
    return "\n".join([*lines, asked.then])
