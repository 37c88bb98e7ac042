"""The advisor: which task to demonstrate next, from features of any policy alone. The criterion is that of `fit`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.selection.feature_episodes import Episodes
from amf_lightning.selection.feature_world import AdvisorSettings, FeatureWorld, feature_world
from amf_lightning.selection.greedy import choose_greedily
from amf_lightning.selection.information_gain import (
    Marginal,
    information_scores,
    marginal_gain_by_task,
    task_variances,
)
from amf_lightning.selection.starts import FEWEST, mean_variances, standing_out
from amf_lightning.uncertainty.posterior import Posterior

_TAUGHT = 3
"""Other tasks that a request is said to teach."""


@dataclass(frozen=True)
class Start:
    """Where to start a demonstration: as that of the known episodes of its task does on which least is known."""

    episode: int
    """Its number, from 0, among those that say what the task may look like."""
    variance: float
    """Mean variance of the expert's action at its states, in units of the observation noise."""
    others: float
    """The median of the same for the other episodes."""


@dataclass(frozen=True)
class AdvisedRequest:
    """One demonstration to ask for, and why."""

    task: str
    score: float
    """Expected information gain in nats, for each unit of cost where costs were given."""
    reason: str
    """A sentence."""
    runner_up: str | None
    """The task with the next score; None if there is no other that can be had."""
    runner_up_score: float | None
    teaches: dict[str, float]
    """Other tasks by the share of the gain that is about them, the largest first."""
    start: Start | None = None
    """None where no episode stands out, or there are fewer than three."""


@dataclass(frozen=True)
class Advice:
    """What to demonstrate next, in order."""

    requests: tuple[AdvisedRequest, ...]
    counts: dict[str, int]
    """How many of each task are asked for, the most first; tasks that are not asked for are left out."""
    demonstrated: dict[str, int]
    """How many demonstrations of each task are known."""
    scores: dict[str, float]
    """Score of each task before the first request."""
    variances: dict[str, float]
    """Mean variance of the expert's action at the states of each task, before, in units of the observation noise."""

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    def __str__(self) -> str:
        """A table of the requests, a reason each, and the counts."""
        width = max([4, *(len(request.task) for request in self.requests)])
        lines = [f"    {'task':<{width}}  {'score':>9}  why"]
        for number, request in enumerate(self.requests, start=1):
            lines.append(f"{number:>3} {request.task:<{width}}  {request.score:>9.4g}  {request.reason}")
        lines += ["", "In all: " + ", ".join(f"{count} × {task}" for task, count in self.counts.items()) + "."]
        return "\n".join(lines)


def advise(
    features: Mapping[str, Episodes],
    demonstrated: Mapping[str, Episodes],
    count: int = 1,
    pretraining: FeatureStatistics | Episodes | None = None,
    **settings: Any,
) -> Advice:
    """Says which task to demonstrate next, as `InformationGain` does in a run, from features of any policy.

    An episode is an array [T, F]: for each step the input of the policy's last linear layer, or whatever else makes two
    states alike for it. All have to be features of the same policy. A 1 is appended, for the bias.

    Args:
        features: what each task may look like: rollouts of the policy, old recordings, or a few unlabelled episodes.
        demonstrated: what was demonstrated of each task, in order.
        count: requests, B.
        pretraining: what the policy was trained on before: episodes, or their `FeatureStatistics`.
        settings: fields of `AdvisorSettings`: `costs`, `pending`, `rho`, …

    Raises:
        InputError: an array is no episode, or does not fit the others; a number is not positive; a task is unknown.
    """
    if count < 1:
        raise InputError(f"advise: count is {count}; at least one demonstration has to be asked for.")
    chosen = AdvisorSettings(**settings)
    world = feature_world(features, demonstrated, pretraining, chosen)
    aggregate, beliefs, candidates = Marginal(chosen.kappa), list[Posterior](), world.problem.candidates

    def score(belief: Posterior) -> Tensor:
        beliefs.append(belief)
        return information_scores(belief, world.problem, aggregate)

    def draw(position: int) -> torch.Generator:
        return keyed_generator(chosen.seed, Purpose.SELECT, 0, position)

    picks, scores = choose_greedily(world.posterior, candidates, score, count, world.allowed, draw, world.pending)
    requests: list[AdvisedRequest] = []
    for place in range(count):
        named = {each.start.episode for each in requests if each.task == world.tasks[picks[place]] and each.start}
        start = _start(world, beliefs[place], picks[place], named)
        requests.append(_request(world, picks[: place + 1], scores[place], beliefs[place], chosen.kappa, start))
    variances = task_variances(world.posterior, world.problem.targets, len(world.tasks))
    counts = Counter(request.task for request in requests)
    return Advice(
        tuple(requests),
        dict(counts.most_common()),
        dict(zip(world.tasks, world.counts, strict=True)),
        dict(zip(world.tasks, scores[0].tolist(), strict=True)),
        dict(zip(world.tasks, variances.tolist(), strict=True)),
    )


def _request(
    world: FeatureWorld, picks: Sequence[int], scores: Tensor, belief: Posterior, kappa: float, start: Start | None
) -> AdvisedRequest:
    """The last of `picks`, with what explains it."""
    *before, pick = picks
    others = world.allowed(before)
    others[pick] = False
    ranked = torch.where(others, scores, torch.full_like(scores, -torch.inf))
    runner_up = int(ranked.argmax()) if bool(others.any()) else None
    teaches = _teaches(world.tasks, marginal_gain_by_task(belief, world.problem, kappa, pick), pick)
    return AdvisedRequest(
        world.tasks[pick],
        float(scores[pick]),
        _reason(world, belief, pick, [*world.pending, *before].count(pick), teaches) + _where(start),
        None if runner_up is None else world.tasks[runner_up],
        None if runner_up is None else float(scores[runner_up]),
        teaches,
        start,
    )


def _start(world: FeatureWorld, belief: Posterior, pick: int, named: set[int]) -> Start | None:
    """The episode of the task on which least is known, but for those that were `named` before, if it stands out."""
    if len(points := world.episodes(pick)) < FEWEST:
        return None
    found = standing_out(mean_variances(belief, points), named)
    return None if found is None else Start(found.episode, found.unknown, found.others)


def _where(start: Start | None) -> str:
    if start is None:
        return ""
    ratio = start.variance / start.others if start.others > 0 else torch.inf
    return f" Start as episode {start.episode} does: its variance is {ratio:.2g} times that of the others."


def _teaches(tasks: Sequence[str], gains: Tensor, pick: int) -> dict[str, float]:
    total = float(gains.sum())
    if total <= 0:
        return {}
    shares = {tasks[number]: float(gains[number]) / total for number in gains.argsort(descending=True).tolist()}
    return {name: share for name, share in shares.items() if name != tasks[pick] and share >= 0.005}


def _reason(world: FeatureWorld, belief: Posterior, pick: int, asked: int, teaches: Mapping[str, float]) -> str:
    if len(world.tasks) == 1:
        return f"It is the only task, with {world.counts[pick]} demonstrated."
    variances = task_variances(belief, world.problem.targets, len(world.tasks))
    place, ratio = int((variances > variances[pick]).sum()), float(variances[pick] / variances.median())
    known = ("", "second ", "third ")[place] if place < 3 else f"{place + 1}th "
    about = ""
    if teaches:
        best = ", ".join(f"'{name}' {share:.0%}" for name, share in list(teaches.items())[:_TAUGHT])
        about = f"; {sum(teaches.values()):.0%} of what it would tell is about other tasks ({best})"
    had = f"{world.counts[pick]} demonstrated" + (f" and {asked} asked for before" if asked else "")
    return (
        f"With {had} it is the {known}least known of {len(world.tasks)} tasks (its variance is {ratio:.2g} of the "
        f"median task's){about}."
    )
