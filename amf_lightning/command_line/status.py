"""`amf status RUN`: how far a run is. Reads its folder and changes nothing, also while the run goes on."""

import json
from dataclasses import asdict
from pathlib import Path

from amf_lightning.campaign.status import RunStatus, read_status
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.configuration import plain


def main(arguments: list[str]) -> None:
    """Parses the command line and prints the status, as a table or as JSON."""
    parser = PlainParser(prog="amf status", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    values = parser.parse_args(arguments)
    status = read_status(values.run)
    print(as_json(status) if values.json else as_table(status))


def as_json(status: RunStatus) -> str:
    """The fields of the status, with what was asked for and what came, in all and of each task."""
    content = asdict(status)
    campaign = content.pop("campaign")
    open_requests = [{"demonstration": each["demonstration"], "task": each["task"]} for each in campaign["pending"]]
    facts = {**content, **campaign["total"], "tasks": campaign["tasks"], "open_requests": open_requests}
    return json.dumps(plain(facts, strict=True), indent=2, allow_nan=False)


def as_table(status: RunStatus) -> str:
    """The status for people: facts, a line each, then a row a task."""
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
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items() if value not in (None, "?")]
    if tasks:
        columns = tuple(asdict(total))
        name_width = max(map(len, ("task", *tasks)))
        lines += ["", f"{'task':<{name_width}}" + "".join(f"  {column:>8}" for column in columns)]
        lines += [
            f"{name:<{name_width}}" + "".join(f"  {count:>8}" for count in asdict(counts).values())
            for name, counts in tasks.items()
        ]
    return "\n".join(lines)
