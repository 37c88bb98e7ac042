"""`amf undo RUN [N]`: takes back the last recording that was added, or the last skip; or those of demonstration N.

What was trained on stays. The file of a recording that is taken back stays in demonstrations/ until another takes its
number, and counts no more.
"""

from pathlib import Path

from amf_lightning.campaign import acts
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.status import run_at
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.errors import InputError


def main(arguments: list[str]) -> None:
    """Parses the command line and takes back."""
    parser = PlainParser(prog="amf undo", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("demonstration", type=int, nargs="?", metavar="N", help="its number; the last, if not given")
    parser.add_argument("--by", default=acts.user(), metavar="NAME", help="who says so; the user, if not given")
    values = parser.parse_args(arguments)
    run_at(values.run)
    campaign = Campaign(values.run)
    number = acts.latest(campaign.ledger.acts()) if values.demonstration is None else values.demonstration
    if number is None:
        raise InputError(f"There is nothing to undo in {values.run}: nothing was added or skipped there.")
    if (request := campaign.ledger.request(number)) is None:
        raise InputError(f"{values.run} has no demonstration {number}. What was done: amf status {values.run}")
    what = "The skip of request" if number in campaign.ledger.skipped() else "Demonstration"
    campaign.undo(number, values.by)
    reopened = "; it is open again" if request.asked else ""
    print(f"{what} {number} ({request.task}) is taken back{reopened}.")
