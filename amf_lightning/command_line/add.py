"""`amf add RUN FILE …`: hands over recordings. What it thanks for is on the disk, checked and counted.

A recording answers the oldest open request of its task; one that answers none counts all the same. The same recording
twice is recognised, whatever its file is called: the command may be repeated at any time, by several people at once,
and while `amf fit` runs. Of a dataset all episodes are checked before the first is taken in. Files are .safetensors of
this package, .npz with observation/<name>, action and, at will, reward, task, success and seed, or whatever
`amf import` reads: a LeRobot or Minari dataset, a robomimic file, pictures.
"""

import sys
from pathlib import Path

from amf_lightning.campaign.acts import user
from amf_lightning.campaign.at_the_robot import hand_over, unheeded
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.status import run_at
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.demonstrations.recordings import files_of
from amf_lightning.errors import InputError


def main(arguments: list[str]) -> None:
    """Parses the command line, and takes in file by file; those that cannot be used are named at the end."""
    parser = PlainParser(prog="amf add", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", type=Path, help="folder of the run, the one with config.yaml")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a recording, or a folder of them")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--request", type=int, metavar="N", help="the request that the recording is meant for")
    target.add_argument("--task", metavar="T", help="what the recordings show, whatever their files say")
    parser.add_argument("--by", default=user(), metavar="NAME", help="who hands them over; the user, if not given")
    values = parser.parse_args(arguments)
    folder = run_at(values.run)
    files = [file for path in values.files for file in files_of(path)]
    if values.request is not None and len(files) > 1:
        raise InputError(f"--request names one request, but there are {len(files)} recordings. Give one of them.")
    campaign = Campaign(values.run)
    refused = []
    for file in files:
        try:
            for sentence in hand_over(campaign, file, values.request, values.task, values.by):
                print(sentence, flush=True)
        except InputError as error:
            refused.append(error)
    if len(refused) < len(files) and (notice := unheeded(folder)):
        print(notice)
    if refused and len(files) == 1:
        raise refused[0]
    if refused:
        print(*(f"Refused: {error}" for error in refused), sep="\n", file=sys.stderr)
        raise InputError(
            f"{len(refused)} of {len(files)} files were refused; the others are kept. Mend these, and give them again."
        )
