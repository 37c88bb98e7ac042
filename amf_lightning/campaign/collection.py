"""Asking an expert for demonstrations, on one process or several. Each is durable before it is counted."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import torch
from tqdm import tqdm

from amf_lightning.campaign.request import Request
from amf_lightning.errors import AmfError, InputError, MachineError, UserCodeError
from amf_lightning.experts.checked import check_shown, entries_of, in_types_of
from amf_lightning.experts.expert import Expert
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory, UnsoundTrajectoryError
from amf_lightning.user_code import blamed, told


@dataclass(frozen=True)
class Share:
    """The part of the work that this process does: every `count`-th piece from `rank` on."""

    rank: int
    count: int


@dataclass(frozen=True)
class Outcome:
    """The answers, and the failure if there was one, of all processes together."""

    answers: dict[int, str] = field(default_factory=dict)
    """SHA-256 of the file of every demonstration that was given, by number."""
    failure: Exception | None = None
    """Why others were not given, if the expert failed; the same on every process, or in the words of another one."""


@dataclass(frozen=True)
class Collection:
    """Asks an expert to demonstrate requests; this process asks for its share of them."""

    expert: Expert
    suite: TaskSuite
    keep: Callable[[int, Trajectory], str]
    """Puts a demonstration of that number on the disk and returns the SHA-256 of its file."""
    share: Share
    quiet: bool = False
    """Whether to show no progress bar."""

    def run(self, requests: Sequence[tuple[Request, Episode]]) -> Outcome:
        """Asks for each request once, split between the processes. What comes before a failure is kept.

        Returns:
            The answers of all processes. A request without an answer is one that the expert has none for yet, or
            that it failed at.
        """
        answers: dict[int, str] = {}
        failure: Exception | None = None
        try:
            for number, trajectory in self._answers(requests[self.share.rank :: self.share.count]):
                answers[number] = self.keep(number, trajectory)
        except Exception as error:
            failure = error
        # Also after a failure: the other processes wait for this one in the exchange.
        parts = _gathered((answers, _retold(failure, self.share)), self.share)
        failures = [failure, *(failure_there for _, failure_there in parts)]
        together = {number: sha256 for part, _ in parts for number, sha256 in part.items()}
        return Outcome(together, next((each for each in failures if each is not None), None))

    def _answers(self, requests: Sequence[tuple[Request, Episode]]) -> Iterator[tuple[int, Trajectory]]:
        """Number and demonstration of each request that is answered on this process.

        An expert that does not answer side by side is asked for the next one only once the last one is kept.
        """
        steps = sum(episode.task.horizon for _, episode in requests)
        with tqdm(total=steps, desc="Collecting", unit="step", leave=False, disable=self.quiet or not requests) as bar:
            on_step = partial(_advance, bar)
            if not self.expert.side_by_side:
                for request, episode in requests:
                    yield from self._shown([(request, episode)], on_step)
                return
            try:
                yield from self._shown(requests, on_step)
            except Exception:
                if len(requests) == 1:
                    raise
                bar.reset()
                yield from self._each_alone(requests, on_step)

    def _each_alone(
        self, requests: Sequence[tuple[Request, Episode]], on_step: Callable[[int], None]
    ) -> Iterator[tuple[int, Trajectory]]:
        """The answers to those requests that the expert can answer; raises the first failure after the last answer."""
        failure: Exception | None = None
        for pair in requests:
            try:
                yield from self._shown([pair], on_step)
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _shown(
        self, requests: Sequence[tuple[Request, Episode]], on_step: Callable[[int], None]
    ) -> list[tuple[int, Trajectory]]:
        trajectories = demonstrations_of(self.expert, self.suite, [episode for _, episode in requests], on_step)
        return [(requests[position][0].demonstration, trajectory) for position, trajectory in trajectories.items()]


def episodes_of(requests: Sequence[Request], suite: TaskSuite) -> dict[int, Episode]:
    """What an expert is asked for, by number of demonstration, for all requests of a run from its first.

    Each episode is numbered among those of its task.
    """
    counts = [0] * len(suite.tasks)
    episodes = {}
    for request in requests:
        episodes[request.demonstration] = request.episode(suite, counts[request.task_index])
        counts[request.task_index] += 1
    return episodes


def demonstrations_of(
    expert: Expert, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None]
) -> dict[int, Trajectory]:
    """What an expert shows of some episodes, by position, checked. Those that it has no answer for yet are missing.

    Raises:
        AmfError: the expert cannot show one of them, or shows what cannot be used.
    """
    if not episodes:
        return {}
    try:
        given: object = expert.demonstrate(suite, episodes, on_step=on_step)
    except UnsoundTrajectoryError as error:
        if (place := blamed(error)) is None:  # made by an expert of ours, of what it was given
            raise
        raise UserCodeError(f"{place.name} made what is no demonstration ({place}). {error}") from error
    entries = entries_of(expert, given, len(episodes))
    demonstrations = {position: trajectory for position, trajectory in enumerate(entries) if trajectory is not None}
    for position, trajectory in demonstrations.items():
        check_shown(expert, suite, episodes[position], trajectory)
    return {position: in_types_of(suite, trajectory) for position, trajectory in demonstrations.items()}


def _retold(failure: Exception | None, share: Share) -> AmfError | None:
    """A failure in the words for the other processes, to which not every exception can be sent."""
    if failure is None or isinstance(failure, InputError | MachineError):
        return failure
    explained = isinstance(failure, AmfError)
    retold = UserCodeError(
        str(failure) if explained else f"The expert failed on process {share.rank}: {told(failure)}."
    )
    retold.add_note("".join(traceback.format_exception(failure)))
    return retold


def _advance(bar: "tqdm[NoReturn]", steps: int) -> None:
    bar.update(steps)


def _gathered(item: Any, share: Share) -> list[Any]:
    """The items of all processes, in order of rank."""
    if share.count == 1:
        return [item]
    items: list[Any] = [None] * share.count
    torch.distributed.all_gather_object(items, item)
    return items
