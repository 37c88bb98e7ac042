"""The noise floor of a comparison: how much runs differ that differ in their training seed alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

METRICS = ("auc", "final", "setback")
"""What it is measured of."""


@dataclass(frozen=True)
class NoiseFloor:
    """What training alone does to the numbers of a run."""

    strategy: str
    """Label of the strategy that was repeated."""
    seeds: tuple[int, ...]
    """With which there are repeats."""
    runs: int
    """Of those seeds, the first ones included."""
    deviations: Mapping[str, float]
    """Standard deviation between runs of one seed, pooled over seeds, of each of `METRICS`."""
    differences: Mapping[str, float]
    """How far from 0 the mean paired difference over as many seeds lies at most, with the level's probability, if
    there is nothing but this noise (normal approximation)."""

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self) | {"seeds": list(self.seeds)}


def noise_floor(
    strategy: str, groups: Mapping[int, Sequence[Mapping[str, float | None]]], level: float
) -> NoiseFloor | None:
    """The spread of runs of one strategy that differ in their training seed alone; None where nothing was repeated.

    Args:
        strategy: its label.
        groups: by seed the numbers of its runs, the first one and its repeats.
        level: of the differences.
    """
    repeated = {seed: runs for seed, runs in groups.items() if len(runs) > 1}
    if not repeated:
        return None
    freedom = sum(len(runs) - 1 for runs in repeated.values())

    def deviation(metric: str) -> float:
        squares = 0.0
        for runs in repeated.values():
            numbers = np.array([run[metric] for run in runs], dtype=np.float64)
            squares += float(((numbers - numbers.mean()) ** 2).sum())
        return math.sqrt(squares / freedom)

    deviations = {metric: deviation(metric) for metric in METRICS}
    width = NormalDist().inv_cdf((1.0 + level) / 2.0) * math.sqrt(2.0 / len(repeated))
    return NoiseFloor(
        strategy=strategy,
        seeds=tuple(sorted(repeated)),
        runs=sum(map(len, repeated.values())),
        deviations=deviations,
        differences={metric: width * of for metric, of in deviations.items()},
    )
