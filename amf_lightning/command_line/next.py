"""`amf next RUN`: what to demonstrate now, and why. Reads the run and changes nothing.

The same requests come again until they are answered (`amf add`) or skipped (`amf skip`).
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from amf_lightning.campaign.asked import Asked, OpenRequest, read_asked
from amf_lightning.campaign.status import BY_HAND, FINISHED, RUNNING, STOPPED, RunStatus
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.configuration import plain
from amf_lightning.errors import InputError


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
    print(as_json(asked, shown) if values.json else as_text(asked, shown))


def as_json(asked: Asked, shown: Sequence[OpenRequest]) -> str:
    """The requests that are shown, how many are open, and what comes after them."""
    facts = {
        "run": asked.status.folder,
        "state": asked.status.state,
        "open": len(asked.requests),
        "requests": [asdict(request) for request in shown],
        "then": after(asked.status, bool(asked.requests)),
    }
    return json.dumps(plain(facts, strict=True), indent=2, allow_nan=False)


def as_text(asked: Asked, shown: Sequence[OpenRequest]) -> str:
    """The requests that are shown for people, a line and a reason each, and what comes after them."""
    width = max((len(str(request.number)) for request in shown), default=0)
    lines = [f"{request.number:>{width}}  {request.task}\n{'':{width}}  {request.why}" for request in shown]
    if hidden := len(asked.requests) - len(shown):
        lines.append(f"{hidden} more {'is' if hidden == 1 else 'are'} open.")
    return "\n".join([*lines, after(asked.status, bool(asked.requests))])


def after(status: RunStatus, is_open: bool) -> str:
    """What happens once the open requests are answered, or what has to happen now if there is none."""
    run = shlex.quote(status.folder)
    answer = f"Answer with: amf add {run} FILE. " if is_open else "Nothing is open. "
    if status.state in (FINISHED, STOPPED):
        return f"{answer}The run is {status.state}: it asks for no more."
    if status.state == RUNNING:
        return f"{answer}`amf fit` is at work there, and chooses what comes next."
    if status.state == BY_HAND:
        return f"{answer}Your program chooses what comes next, with Campaign.ask."
    fit = f"amf fit --config {shlex.quote(f'{status.folder}/config.yaml')} --trainer.default_root_dir {run}"
    return f"{answer}{'Then it' if is_open else 'It'} is for `amf fit` to train and to choose: {fit}"
