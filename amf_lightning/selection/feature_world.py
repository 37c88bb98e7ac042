"""The belief and the problem of the criterion, from episodes of features [T, F] and nothing else."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.selection.feature_episodes import (
    Episodes,
    check_known,
    checked_episodes,
    common_width,
    numbers_by_task,
)
from amf_lightning.selection.information_gain import Blocks, Problem
from amf_lightning.selection.roles import Piece, observed_and_judged, thinned_steps
from amf_lightning.uncertainty.feature_norms import clip_norms, largest_known_norm
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, Posterior

_STATES, _MOST_BLOCKS, _FEWEST = 16, 4000, 4
_ROWS = 2**16
"""Rows of the history that are held at once: whole data sets may lie in files that are mapped."""
_WEIGHTS = ("distribution", "costs", "noise", "horizons")


@dataclass(frozen=True)
class AdvisorSettings:
    """What the advisor is told beyond the features; in the mappings a task that is not named counts 1.

    Raises:
        InputError: a number is not positive.
    """

    distribution: Mapping[str, float] = field(default_factory=dict)
    """How much each task counts, μ; need not sum to one."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """What a demonstration of each task costs."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """Variance of the actions in demonstrations of each task, in units of the others'."""
    horizons: Mapping[str, float] = field(default_factory=dict)
    """Steps of a demonstration of each task; for those not named the mean over the episodes."""
    remaining: Mapping[str, float] = field(default_factory=dict)
    """How many more demonstrations of each task can be had, `pending` included; no end of those not named."""
    pending: Sequence[str] = ()
    """Tasks of demonstrations that were asked for and have not come."""
    rho: float = 0.1
    """Ridge ρ of the belief, in units of the observation noise."""
    kappa: float = 0.1
    """κ of the criterion, see `Marginal`."""
    episodes: int = 2
    """Of each task and each kind, the latest, that are looked at."""
    states: int | None = None
    """S, steps of each that are looked at; None: 16, and fewer, down to 4, where there are more than 250 tasks."""
    seed: int = 0
    """Of the draws between equal scores."""

    def __post_init__(self) -> None:
        if self.episodes < 1 or (self.states is not None and self.states < 1):
            raise InputError(f"advise: episodes and states must be at least 1; got {self.episodes}, {self.states}.")
        if self.rho <= 0:
            raise InputError(f"advise: rho is {self.rho}; the ridge must be positive.")


@dataclass(frozen=True, eq=False)
class FeatureWorld:
    """What the criterion needs, and what its picks are called."""

    tasks: tuple[str, ...]
    """Names, sorted, [K]."""
    counts: tuple[int, ...]
    """Demonstrations of each task, [K]."""
    pending: tuple[int, ...]
    """Task indices."""
    remaining: Tensor
    """Demonstrations of each task that can still be had, those pending included, [K]."""
    posterior: Posterior
    problem: Problem
    episodes: Callable[[int], Tensor]
    """Points of all episodes of `features` of a task, [E, S, P]; computed when they are asked for."""

    def allowed(self, picks: Sequence[int]) -> Tensor:
        """Tasks of which one can be had once those pending and `picks` have come, [K] bool; InputError if none."""
        taken = torch.bincount(torch.tensor([*self.pending, *picks], dtype=torch.int64), minlength=len(self.tasks))
        if not bool((mask := self.remaining > taken).any()):
            raise InputError(f"advise: no demonstration is left after {len(picks)}. Ask for a smaller count.")
        return mask


def feature_world(
    features: Mapping[str, Episodes],
    demonstrated: Mapping[str, Episodes],
    pretraining: FeatureStatistics | Episodes | None,
    settings: AdvisorSettings,
) -> FeatureWorld:
    """Belief and problem; the arguments are those of `advise`, and so are the errors."""
    tasks = tuple(sorted({*features, *demonstrated}))
    expected, shown = (
        checked_episodes("features", features, tasks),
        checked_episodes("demonstrated", demonstrated, tasks),
    )
    for task in tasks:
        if not (expected[task] or shown[task]):
            raise InputError(
                f"advise: task '{task}' has no episode at all. Give one of what it may look like, or leave it out."
            )
    known = {name: numbers_by_task(name, getattr(settings, name), tasks) for name in _WEIGHTS}
    for name in settings.remaining:
        check_known("remaining", name, tasks)
    for name in settings.pending:
        check_known("pending", name, tasks)
    every = [*_episodes(expected), *_episodes(shown)]
    statistics = _statistics(pretraining, width := common_width(every))
    scale = _scale(every) if statistics is None else statistics.scale
    history = _history(shown, tasks, known["noise"], scale)
    posterior, largest = _belief(history, statistics, scale, width, settings.rho)
    kept = settings.states or min(_STATES, max(_FEWEST, _MOST_BLOCKS // len(tasks)))
    steps = torch.tensor([_horizon(task, settings, [*expected[task], *shown[task]]) for task in tasks]).double()
    observed, judging = _pieces(tasks, expected, shown, settings.episodes)
    problem = Problem(
        _blocks(observed, kept, scale, largest, steps, known["noise"] if settings.noise else None),
        _blocks(judging, kept, scale, largest, steps, None),
        known["distribution"] / known["distribution"].sum(),
        known["costs"] if settings.costs else None,
    )
    return FeatureWorld(
        tasks,
        tuple(len(shown[task]) for task in tasks),
        tuple(tasks.index(name) for name in settings.pending),
        torch.tensor([float(settings.remaining.get(name, math.inf)) for name in tasks]),
        posterior,
        problem,
        lambda task: _points([Piece(each, task, 1.0) for each in expected[tasks[task]]], kept, scale, largest),
    )


def _belief(
    history: Iterator[tuple[Tensor, Tensor]],
    statistics: FeatureStatistics | None,
    scale: float,
    width: int,
    rho: float,
) -> tuple[Posterior, float]:
    """P = ρI + M0/s² + Σ φφᵀ/(s²n), and the norm that points of expected states are clipped to, as in `fit`."""
    moment = None if statistics is None else statistics.second_moment / scale**2
    posterior, largest = FeatureSpacePosterior.prior(width + 1, rho, moment), math.inf
    if statistics is not None:
        largest = statistics.largest_norm / scale
    for rows, levels in history:
        posterior = posterior.condition(rows, levels)
        largest = largest_known_norm(largest, rows)
    return posterior, largest


def statistics_of(episodes: Episodes) -> FeatureStatistics:
    """Statistics of the features of some episodes, a 1 appended to each row; of no policy that is known here."""
    width = episodes[0].shape[1] + 1
    moment, count, largest = torch.zeros(width, width, dtype=torch.float64), 0, 0.0
    for episode in episodes:
        rows = _with_bias(episode)
        moment += rows.T @ rows
        count += len(rows)
        largest = max(largest, float(rows.norm(dim=1).max()))
    return FeatureStatistics(moment, count, largest, backbone="", covers={})


def _scale(episodes: Episodes) -> float:
    """s = √(mean ‖φ‖²) of all states, as `FeatureStatistics.scale`."""
    squared = math.fsum(float(np.square(episode, dtype=np.float64).sum()) for episode in episodes)
    return math.sqrt(1 + squared / sum(map(len, episodes)))  # 1 for the bias


def _statistics(pretraining: FeatureStatistics | Episodes | None, width: int) -> FeatureStatistics | None:
    """What the policy was trained on before, in features of that many entries."""
    if pretraining is None or not isinstance(pretraining, FeatureStatistics):
        found = checked_episodes("pretraining", {"": pretraining or ()}, [""])[""]
        if not found:
            return None
        common_width(found)
        pretraining = statistics_of(found)
    if pretraining.second_moment.shape != (width + 1, width + 1):
        raise InputError(
            f"advise: the second moment of the pre-training has shape {list(pretraining.second_moment.shape)}; "
            f"features of {width} entries and a 1 for the bias need {[width + 1, width + 1]}."
        )
    return pretraining


def _episodes(source: Mapping[str, list[Any]]) -> Iterator[Any]:
    for episodes in source.values():
        yield from episodes


def _horizon(task: str, settings: AdvisorSettings, episodes: Sequence[Any]) -> float:
    horizons = settings.horizons
    return float(horizons[task]) if task in horizons else math.fsum(map(len, episodes)) / len(episodes)


def _history(
    shown: Mapping[str, list[Any]], tasks: Sequence[str], noises: Tensor, scale: float
) -> Iterator[tuple[Tensor, Tensor]]:
    """Points of all demonstrated states and their noise, in chunks of whole episodes."""
    points: list[Tensor] = []
    levels: list[Tensor] = []
    held = 0
    for number, task in enumerate(tasks):
        for episode in shown[task]:
            if held and held + len(episode) > _ROWS:
                yield torch.cat(points), torch.cat(levels)
                points, levels, held = [], [], 0
            points.append(_with_bias(episode) / scale)
            levels.append(noises[number].expand(len(episode)))
            held += len(episode)
    if points:
        yield torch.cat(points), torch.cat(levels)


def _pieces(
    tasks: Sequence[str], expected: Mapping[str, list[Any]], shown: Mapping[str, list[Any]], episodes: int
) -> tuple[list[Piece[Any]], list[Piece[Any]]]:
    observed: list[Piece[Any]] = []
    judging: list[Piece[Any]] = []
    for number, task in enumerate(tasks):
        candidates, targets = observed_and_judged(shown[task][-episodes:], expected[task][-episodes:], number)
        observed += candidates
        judging += targets
    return observed, judging


def _blocks(
    pieces: Sequence[Piece[Any]], states: int, scale: float, largest: float, horizons: Tensor, levels: Tensor | None
) -> Blocks:
    of_task = torch.tensor([piece.task for piece in pieces])
    return Blocks(
        _points(pieces, states, scale, largest),
        of_task,
        torch.tensor([piece.weight for piece in pieces], dtype=torch.float64),
        horizons[of_task],
        None if levels is None else levels[of_task],
    )


def _points(pieces: Sequence[Piece[Any]], states: int, scale: float, largest: float) -> Tensor:
    """[M, S, P]"""
    points = [_with_bias(p.episode[thinned_steps(len(p.episode), states, p.phase).numpy()]) / scale for p in pieces]
    return clip_norms(torch.stack(points), largest) if points else torch.empty(0, states, 0, dtype=torch.float64)


def _with_bias(rows: Any) -> Tensor:
    """[N, F + 1] float64."""
    wide = torch.from_numpy(np.array(rows, dtype=np.float64))
    return torch.cat([wide, wide.new_ones(len(wide), 1)], dim=1)
