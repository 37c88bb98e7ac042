"""`amf add RUN FILE …`: hands over recordings. What it thanks for is on the disk, checked and counted.

A recording answers the oldest open request of its task; one that answers none counts all the same. The same recording
twice is recognised, whatever its file is called: the command may be repeated at any time, by several people at once,
and while `amf fit` runs. Of a dataset all episodes are checked before the first is taken in. Files are .safetensors of
this package, .npz with observation/<name>, action and, at will, reward, task, success and seed, or whatever
`amf import` reads: a LeRobot or Minari dataset, a robomimic file, pictures.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from amf_lightning.campaign.acts import user
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.receiving import Received, checked
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import run_at
from amf_lightning.command_line.plain_parser import PlainParser
from amf_lightning.demonstrations.recordings import files_of, read_demonstrations
from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory


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
    refused = [error for file in files if (error := _add(campaign, file, values.request, values.task, values.by))]
    if len(refused) < len(files) and _is_finished(folder):
        print("The run is finished: `amf fit` trains on what came since only with a larger active.budget.")
    if refused and len(files) == 1:
        raise refused[0]
    if refused:
        print(*(f"Refused: {error}" for error in refused), sep="\n", file=sys.stderr)
        raise InputError(
            f"{len(refused)} of {len(files)} files were refused; the others are kept. Mend these, and give them again."
        )


def _add(campaign: Campaign, file: Path, request: int | None, task: str | None, by: str) -> InputError | None:
    """Takes in the recordings of a file; why it cannot be used, if it cannot."""
    try:
        for trajectory in _usable(campaign, file, request, task):
            received = campaign.receive(trajectory, request, by)
            print(_thanks(campaign, file, trajectory, received, request), flush=True)
    except InputError as error:
        return error if str(file) in str(error) else InputError(f"{file}: {error}")
    return None


def _usable(campaign: Campaign, file: Path, request: int | None, task: str | None) -> Iterator[Trajectory]:
    """The recordings in a file, each with its task. Of several none is given before all are known to be usable, so that
    a dataset is taken in whole or not at all; no more than three are in memory."""

    def read() -> Iterator[Trajectory]:
        for each in read_demonstrations(file, task):
            yield each if each.task else replace(each, task=_task(campaign, file, request))

    episodes = read()
    begun = [*islice(episodes, 2)]
    if len(begun) < 2:
        yield from begun  # it is checked as it is received
        return
    if request is not None:
        raise InputError(f"--request names one request, but {file} holds several episodes. Add them without it.")
    suite = campaign.description
    for each in chain(begun, episodes):
        suite.index(each.task)
        checked(suite, each.task, each)
    begun.clear()
    yield from read()


def _is_finished(folder: RunFolder) -> bool:
    """Whether nobody trains on what comes now."""
    active = folder.read_config().get("active") if folder.config.is_file() else None
    budget = active.get("budget") if isinstance(active, dict) else None
    return isinstance(budget, int) and folder.finished(budget)


def _task(campaign: Campaign, file: Path, request: int | None) -> str:
    """What a recording shows that does not say it itself."""
    if request is not None and (asked := campaign.ledger.request(request)) is not None:
        return asked.task  # whether or not it is open: the recording may be there already
    raise InputError(f"{file} does not say which task it shows. Say it with --task, or --request of an open request.")


def _thanks(campaign: Campaign, file: Path, shown: Trajectory, received: Received, request: int | None) -> str:
    """What became of a recording."""
    number = received.demonstration
    if received.known:
        return f"{file} is there already, as demonstration {number} ({shown.task}). Nothing was added."
    kept = RunFolder(campaign.folder).demonstrations / f"{number:06d}.safetensors"
    where = f"It is {kept}, SHA-256 {received.sha256[:12]}…"
    if received.asked:
        return f"Thank you. {file} answers request {number} ({shown.task}). {where}"
    if request is not None:
        return (
            f"Thank you. {file} shows '{shown.task}', which is not the task of request {request}: it counts as "
            f"demonstration {number}, and request {request} stays open. {where}"
        )
    unasked = f"of which nothing is open: it counts as demonstration {number}"
    return f"Thank you. {file} shows '{shown.task}', {unasked}. {where}"
