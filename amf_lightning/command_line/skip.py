"""`amf skip RUN N --reason TEXT`: request N will not be answered. The next choice makes up for it.

`amf undo` opens it again.
"""

from pathlib import Path

from amf_lightning.campaign.acts import user
from amf_lightning.campaign.at_the_robot import skip
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.status import run_at
from amf_lightning.command_line.plain_parser import PlainParser


def main(arguments: list[str]) -> None:
    """Parses the command line and notes the skip."""
    parser = PlainParser(prog="amf skip", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("request", type=int, metavar="N", help="number of the request, as `amf next` says it")
    parser.add_argument("--reason", required=True, help="why, for the report and for others")
    parser.add_argument("--by", default=user(), metavar="NAME", help="who says so; the user, if not given")
    values = parser.parse_args(arguments)
    run_at(values.run)
    print(skip(Campaign(values.run), values.request, values.reason, values.by))
