"""`amf undo RUN [N]`: takes back the last recording that was added, or the last skip; or those of demonstration N.

What was trained on stays. The file of a recording that is taken back stays in demonstrations/ until another takes its
number, and counts no more. A command that was cut off may be typed again: it does not take back two things.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amf_lightning.campaign import acts
from amf_lightning.campaign.at_the_robot import take_back
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.status import run_at
from amf_lightning.campaign.unconfirmed import one_at_a_time
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.errors import AmfError, InputError


def main(arguments: list[str]) -> None:
    """Parses the command line and takes back."""
    parser = PlainParser(prog="amf undo", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("demonstration", type=int, nargs="?", metavar="N", help="its number; the last, if not given")
    parser.add_argument("--by", default=acts.user(), metavar="NAME", help="who says so; the user, if not given")
    values = parser.parse_args(arguments)
    folder = run_at(values.run)
    campaign = Campaign(values.run)
    typed = {"undo": values.demonstration, "by": values.by}
    with one_at_a_time(folder.path) as unconfirmed:
        done = campaign.ledger.acts()
        begun = _taken_back(unconfirmed.begun(typed), done, values.by)
        number = acts.latest(done) if values.demonstration is None else values.demonstration
        if begun is not None:
            print(
                f"Demonstration {begun} is taken back already: the command that did so was cut off before it could "
                "say so. Nothing else was taken back; if something else is to be, type it once more."
            )
        elif number is None:
            raise InputError(f"There is nothing to undo in {values.run}: nothing was added or skipped there.")
        else:
            unconfirmed.begin(typed, demonstration=number, acts=len(done))
            try:
                print(take_back(campaign, number, values.by))
            except AmfError:
                unconfirmed.confirmed(typed)
                raise
        sys.stdout.flush()
        unconfirmed.confirmed(typed)


def _taken_back(begun: Mapping[str, Any] | None, done: Sequence[acts.Act], by: str) -> int | None:
    """The demonstration that the same command has taken back already, before it was cut off; None if it has not."""
    if begun is None:
        return None
    number = begun["demonstration"]
    since = [act.what for act in done[begun["acts"] :] if (act.demonstration, act.by) == (number, by)]
    return number if since[-1:] == [acts.UNDO] else None  # who has done something with it since knew what became of it
