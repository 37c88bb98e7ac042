"""`amf status RUN`: how far a run is, and how many more demonstrations it may need.

Reads its folder and changes nothing, also while the run goes on.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.campaign.status import RunStatus, read_status
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.configuration import plain
from amf_lightning.errors import InputError

if TYPE_CHECKING:  # it imports numpy, which a run that nobody has evaluated can do without
    from amf_lightning.campaign.outlook import Outlook
    from amf_lightning.evaluation.forecast import Forecast


def main(arguments: list[str]) -> None:
    """Parses the command line and prints the status, as a table or as JSON."""
    parser = PlainParser(prog="amf status", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument("--target", type=float, default=0.8, help="score to forecast to, between 0 and 1 (0.8)")
    values = parser.parse_args(arguments)
    if not 0 < values.target <= 1:
        raise InputError(f"--target is {values.target:g}; scores lie between 0 and 1.")
    status = read_status(values.run)
    ahead = ahead_of(status, values.target)
    print(as_json(status, ahead) if values.json else as_table(status, ahead))


def ahead_of(status: RunStatus, target: float) -> "Outlook | None":
    """What the run's curve says of what is to come; None if there is no curve."""
    if status.score is None:
        return None
    from amf_lightning.campaign.outlook import read_outlook

    return read_outlook(Path(status.folder), target)


def as_json(status: RunStatus, ahead: "Outlook | None" = None) -> str:
    """The fields of the status, with what was asked for and what came, in all and of each task, and the forecast."""
    content = asdict(status)
    campaign = content.pop("campaign")
    open_requests = [{"demonstration": each["demonstration"], "task": each["task"]} for each in campaign["pending"]]
    facts = {**content, **campaign["total"], "tasks": campaign["tasks"], "open_requests": open_requests}
    facts["forecast"] = None if ahead is None else asdict(ahead)
    return json.dumps(plain(facts, strict=True), indent=2, allow_nan=False)


def as_table(status: RunStatus, ahead: "Outlook | None" = None) -> str:
    """The status for people: facts, a line each, then a row a task; at its end what the task itself may still need."""
    total, tasks = status.campaign.total, status.campaign.tasks
    of_budget = f" of {status.budget}" if status.budget is not None else ""
    facts = {
        "run": status.folder,
        "state": f"{status.state}: {status.reason}" if status.reason else status.state,
        "suite": status.suite,
        "selector": status.selector,
        "seed": status.seed,
        "rounds": status.rounds,
        "demonstrations": f"{total.answered + total.unasked}{of_budget}, {total.pending} pending",
        "mean score": "not evaluated yet"
        if status.score is None
        else f"{status.score:.3f} after {status.evaluated_after} demonstrations",
    }
    if ahead is not None:
        from amf_lightning.campaign.outlook import phrase

        facts[f"to {ahead.target:g}"] = phrase(ahead.mean)
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items() if value not in (None, "?")]
    if tasks:
        columns = tuple(asdict(total))
        more = {} if ahead is None else {name: _more(ahead.tasks.get(name)) for name in tasks}
        name_width = max(map(len, ("task", *tasks)))
        last = "" if ahead is None else f"  {f'to {ahead.target:g}':>8}"
        lines += ["", f"{'task':<{name_width}}" + "".join(f"  {column:>8}" for column in columns) + last]
        lines += [
            f"{name:<{name_width}}"
            + "".join(f"  {count:>8}" for count in asdict(counts).values())
            + (f"  {more[name]:>8}" if more else "")
            for name, counts in tasks.items()
        ]
    return "\n".join(lines)


def _more(told: "Forecast | None") -> str:
    """How many more of a task itself, in a cell."""
    if told is not None and told.reached_after is not None:
        return "there"
    if told is None or told.own is None:
        return "?"
    return f"{told.own[0]}-{told.own[1]}"
