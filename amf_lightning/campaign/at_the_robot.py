"""What people at a robot do to a campaign, and the sentence that tells them what became of it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from amf_lightning.campaign import acts
from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.receiving import Received, checked
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError

if TYPE_CHECKING:
    from amf_lightning.tasks.trajectory import Trajectory


def hand_over(campaign: Campaign, file: Path, request: int | None, task: str | None, by: str) -> Iterator[str]:
    """Takes in the recordings of a file or dataset, one after another; see `Campaign.receive`.

    Args:
        campaign: of the run.
        file: in any format that `read_demonstrations` knows.
        request: number of the request that it is meant for; None for the oldest open one of its task.
        task: what it shows, whatever it says itself; None for what it says.
        by: who hands it over.

    Returns:
        A sentence on each recording, once that is on the disk and counted.

    Raises:
        InputError: the file, which is named, cannot be used. None of its recordings is kept then.
    """
    try:
        for trajectory in _usable(campaign, file, request, task):
            received = campaign.receive(trajectory, request, by)
            yield _thanks(campaign, file, trajectory, received, request)
    except InputError as error:
        if str(file) in str(error):
            raise
        raise InputError(f"{file}: {error}") from error


def unheeded(folder: RunFolder) -> str | None:
    """What is to be said where nobody trains on what comes now; None where somebody does."""
    active = folder.read_config().get("active") if folder.config.is_file() else None
    budget = active.get("budget") if isinstance(active, dict) else None
    if isinstance(budget, int) and folder.finished(budget):
        return "The run is finished: `amf fit` trains on what came since only with a larger active.budget."
    return None


def skip(campaign: Campaign, number: int, reason: str, by: str) -> str:
    """Notes that a request will not be answered; the first reason stays.

    Raises:
        InputError: there is no such request, it is answered, or the reason is empty.
    """
    if not reason.strip():
        raise InputError("The reason is empty; say why the request is not answered, e.g. 'the gripper is broken'.")
    if campaign.ledger.request(number) is None:
        raise InputError(
            f"{campaign.folder} has no request {number}. For those that are open: amf next {campaign.folder}"
        )
    if (earlier := campaign.ledger.skipped().get(number)) is not None:
        return f"Request {number} is skipped already: {earlier.reason}"
    campaign.skip(number, reason, by)
    return f"Request {number} is skipped: {reason}"


def take_back(campaign: Campaign, number: int, by: str) -> str:
    """Takes back a recording that was not trained on, or a skip; twice is the same as once.

    Raises:
        InputError: there is nothing to take back.
    """
    if (request := campaign.ledger.request(number)) is None:
        raise InputError(
            f"{campaign.folder} has no demonstration {number}. What was done: amf status {campaign.folder}"
        )
    if [act.what for act in campaign.ledger.acts() if act.demonstration == number][-1:] == [acts.UNDO]:
        return f"Demonstration {number} is taken back already."
    what = "The skip of request" if number in campaign.ledger.skipped() else "Demonstration"
    campaign.undo(number, by)
    reopened = "; it is open again" if request.asked else ""
    return f"{what} {number} ({request.task}) is taken back{reopened}."


def _usable(campaign: Campaign, file: Path, request: int | None, task: str | None) -> Iterator["Trajectory"]:
    """The recordings in a file, each with its task. Of several none is given before all are known to be usable, so that
    a dataset is taken in whole or not at all; no more than three are in memory."""
    from amf_lightning.demonstrations.recordings import read_demonstrations

    def read() -> Iterator["Trajectory"]:
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


def _task(campaign: Campaign, file: Path, request: int | None) -> str:
    """What a recording shows that does not say it itself."""
    if request is not None and (asked := campaign.ledger.request(request)) is not None:
        return asked.task  # whether or not it is open: the recording may be there already
    raise InputError(f"{file} does not say which task it shows. Say it with --task, or --request of an open request.")


def _thanks(campaign: Campaign, file: Path, shown: "Trajectory", received: Received, request: int | None) -> str:
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
