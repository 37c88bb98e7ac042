"""Having demonstrations given, on one process or several, each durable before it is counted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from amf_lightning.campaign.ledger import Job
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.experts.checked import check_number, check_shown
from amf_lightning.experts.expert import Expert, IncompleteError
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's: every `count`-th piece from `rank` on."""

    rank: int
    count: int


def remaining_of(jobs: Sequence[Job], expert: Expert, suite: TaskSuite) -> tuple[float, ...]:
    """Demonstrations of each task that the expert can still give after these jobs, [K]."""
    asked = [job.task_index for job in jobs]
    return tuple(expert.remaining(suite, [asked.count(task.index) for task in suite.tasks]))


def episodes_of(jobs: Sequence[Job], suite: TaskSuite) -> list[Episode]:
    """What to ask the expert for, for all jobs of a run from its first: each numbered among those of its task."""
    counts = [0] * len(suite.tasks)
    episodes = []
    for job in jobs:
        episodes.append(Episode(suite.tasks[job.task_index], job.seed, counts[job.task_index]))
        counts[job.task_index] += 1
    return episodes


def collect(
    jobs: Sequence[tuple[Job, Episode]],
    expert: Expert,
    suite: TaskSuite,
    store: DemonstrationStore,
    share: Share,
    recorded: dict[int, str],
    record: Callable[[int, str], None],
    quiet: bool,
) -> None:
    """Has jobs demonstrated, split between the processes, and adds the hashes of the files of all to `recorded`.

    What was written before a failure is added all the same. On the first process, which keeps the ledger, `record` is
    told of its own files as soon as they are there.

    Raises:
        InputError: on every process, if the expert failed on one of them or showed what cannot be used.
    """
    written: dict[int, str] = {}
    failure: Exception | None = None
    try:
        for numbers in _demonstrated(jobs[share.rank :: share.count], expert, suite, store, written, quiet):
            for number in numbers if share.rank == 0 else ():
                record(number, written[number])
    except Exception as error:
        failure = error
    outcomes = _gathered((written, _told(failure, share)), share)
    for part, _ in outcomes:
        recorded.update(part)
    if failure is not None:
        raise failure
    for _, failed in outcomes:
        if failed is not None:
            raise failed


def demonstrations_of(
    expert: Expert, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None]
) -> tuple[dict[int, Trajectory], InputError | None]:
    """What an expert shows of some episodes, by position, checked; and why the others are missing, if some are.

    Raises:
        InputError: the expert showed nothing, or what cannot be used.
    """
    failure: InputError | None = None
    try:
        given = list(expert.demonstrate(suite, episodes, on_step=on_step))
        check_number(expert, len(given), len(episodes))
        shown = dict(enumerate(given))
    except IncompleteError as error:
        shown, failure = dict(error.shown), InputError(str(error))
    for position, trajectory in shown.items():
        check_shown(expert, suite, episodes[position], trajectory)
    return shown, failure


def _demonstrated(
    jobs: Sequence[tuple[Job, Episode]],
    expert: Expert,
    suite: TaskSuite,
    store: DemonstrationStore,
    written: dict[int, str],
    quiet: bool,
) -> Iterator[list[int]]:
    """Has some jobs demonstrated on this process; puts the hash of each file into `written` once it is there.

    Yields:
        the numbers of the demonstrations that are there now, before the expert is asked again.
    """
    steps = sum(episode.task.horizon for _, episode in jobs)
    with tqdm(total=steps, desc="Collecting", unit="step", leave=False, disable=quiet or not jobs) as bar:
        for group in [jobs] if expert.side_by_side and jobs else [[job] for job in jobs]:
            episodes = [episode for _, episode in group]
            shown, failure = demonstrations_of(expert, suite, episodes, partial(_advance, bar))
            numbers = {group[position][0].demonstration: shown[position] for position in sorted(shown)}
            for number, trajectory in numbers.items():
                written[number] = store.write(number, trajectory)
            yield list(numbers)
            if failure is not None:
                raise failure


def _told(failure: Exception | None, share: Share) -> InputError | None:
    """A failure in the words for the other processes, to which not every exception can be sent."""
    if failure is None:
        return None
    if isinstance(failure, InputError):
        return InputError(str(failure))
    return InputError(f"The expert failed on process {share.rank}: {type(failure).__name__}: {failure}.")


def _advance(bar: "tqdm[NoReturn]", steps: int) -> None:
    bar.update(steps)


def _gathered(item: Any, share: Share) -> list[Any]:
    """The items of all processes, in order of rank."""
    if share.count == 1:
        return [item]
    items: list[Any] = [None] * share.count
    torch.distributed.all_gather_object(items, item)
    return items
