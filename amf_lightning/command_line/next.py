"""`amf next RUN`: what to demonstrate now, and why. Reads the run and changes nothing.

The same requests come again until they are answered (`amf add`) or skipped (`amf skip`).
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.campaign.asked import Asked, OpenRequest, read_asked
from amf_lightning.campaign.status import BY_HAND, FINISHED, RUNNING, STOPPED, RunStatus
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


def ahead_of(status: RunStatus, tasks: Sequence[str]) -> "Outlook | None":
    """How many more the run, and these tasks, may need; None if nobody has evaluated it."""
    if status.score is None:
        return None
    from amf_lightning.campaign.outlook import read_outlook

    return read_outlook(Path(status.folder), only=tasks)


def as_json(asked: Asked, shown: Sequence[OpenRequest], ahead: "Outlook | None" = None) -> str:
    """The requests that are shown, how many are open, what comes after them, and how many more may be needed."""
    facts = {
        "run": asked.status.folder,
        "state": asked.status.state,
        "open": len(asked.requests),
        "requests": [asdict(request) for request in shown],
        "then": after(asked.status, bool(asked.requests)),
        "forecast": None if ahead is None else asdict(ahead),
    }
    return json.dumps(plain(facts, strict=True), indent=2, allow_nan=False)


def as_text(asked: Asked, shown: Sequence[OpenRequest], ahead: "Outlook | None" = None) -> str:
    """The requests that are shown for people, a line and a reason each, and what comes after them."""
    width = max((len(str(request.number)) for request in shown), default=0)
    lines = [f"{request.number:>{width}}  {request.task}\n{'':{width}}  {_reason(request, ahead)}" for request in shown]
    if hidden := len(asked.requests) - len(shown):
        lines.append(f"{hidden} more {'is' if hidden == 1 else 'are'} open.")
    if ahead is not None:
        from amf_lightning.campaign.outlook import phrase

        lines.append(f"To a mean score of {ahead.target:g}: {phrase(ahead.mean)}.")
    return "\n".join([*lines, after(asked.status, bool(asked.requests))])


def _reason(request: OpenRequest, ahead: "Outlook | None") -> str:
    """Why a request, what it should teach other tasks, and how many more of its task may be needed."""
    sentences = [request.why]
    if request.teaches:
        shares = " and ".join(f"{name} ({share:.0%} of the score)" for name, share in request.teaches.items())
        sentences.append(f"It should also teach {shares}.")
    told = None if ahead is None else ahead.tasks.get(request.task)
    if ahead is not None and told is not None and told.own is not None:
        sentences.append(f"{request.task} may need {told.own[0]} to {told.own[1]} more of its own to {ahead.target:g}.")
    return " ".join(sentences)


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
