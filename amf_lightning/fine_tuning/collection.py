"""Having demonstrations given, on one process or several, each durable before it is counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from amf_lightning.demonstrations.ledger import Job
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.experts.expert import Expert
from amf_lightning.tasks.task import Episode, TaskSuite


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
    quiet: bool,
) -> None:
    """Has jobs demonstrated, split between the processes, and adds the hashes of the files of all to `recorded`.

    What was written before a failure is added all the same.

    Raises:
        InputError: on every process alike, if the expert failed on one of them.
    """
    written: dict[int, str] = {}
    failure: InputError | None = None
    try:
        _demonstrate(jobs[share.rank :: share.count], expert, suite, store, written, quiet)
    except InputError as error:
        failure = error
    outcomes = _gathered((written, failure), share)
    for part, _ in outcomes:
        recorded.update(part)
    for _, failed in outcomes:
        if failed is not None:
            raise failed


def _demonstrate(
    jobs: Sequence[tuple[Job, Episode]],
    expert: Expert,
    suite: TaskSuite,
    store: DemonstrationStore,
    written: dict[int, str],
    quiet: bool,
) -> None:
    """Has some jobs demonstrated on this process; puts the hash of each file into `written` once it is there."""
    if not jobs:
        return
    episodes = [episode for _, episode in jobs]
    steps = sum(episode.task.horizon for episode in episodes)
    with tqdm(total=steps, desc="Collecting", unit="step", leave=False, disable=quiet) as bar:
        trajectories = expert.demonstrate(suite, episodes, on_step=partial(_advance, bar))
    for (job, _), trajectory in zip(jobs, trajectories, strict=True):
        written[job.demonstration] = store.write(job.demonstration, trajectory)


def _advance(bar: "tqdm[NoReturn]", steps: int) -> None:
    bar.update(steps)


def _gathered(item: Any, share: Share) -> list[Any]:
    """The items of all processes, in order of rank."""
    if share.count == 1:
        return [item]
    items: list[Any] = [None] * share.count
    torch.distributed.all_gather_object(items, item)
    return items
