"""Which strategies cannot be told apart from the best: a confidence set for who is best, paired by seed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHOD = (
    "A strategy is told apart from the best if the largest of its standardised shortfalls, mean of (another's area "
    "minus its own) paired by seed over the standard error of that mean, exceeds what the bootstrap over seeds gives "
    "for the largest over all others together, with Student's tails for the few seeds. So the set holds the truly best "
    "one with the stated probability, however many are compared (a confidence set for rank one: Mogstad, Romano, "
    "Shaikh and Wilhelm, Review of Economic Studies 91, 2024; after Hsu, Annals of Statistics 9, 1981). With three "
    "seeds and many strategies it is too small: of eight equal ones it then holds each with 71 % instead of 90 %, with "
    "four seeds or more with 86 to 89 %."
)


_SHOWN = 5e-4
"""Half of the last digit of an area in tables."""


@dataclass(frozen=True)
class BestSet:
    """The strategies that may be best."""

    best: str
    """Label of the largest mean area under the curve."""
    with_best: tuple[str, ...]
    """Labels that cannot be told apart from it, itself among them, by falling mean."""
    compared: tuple[str, ...]
    """Labels that were compared."""
    seeds: tuple[int, ...]
    """That all of them have."""

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return {key: value if isinstance(value, str) else list(value) for key, value in asdict(self).items()}


def best_set(
    areas: Mapping[str, Mapping[int, float]], level: float, resamples: int = 10_000, seed: int = 0
) -> BestSet | None:
    """The strategies that may be the one of the largest area; see `METHOD`. None where there is nothing to compare.

    Nothing is told apart by a shortfall that no table shows, below 0.0005.

    Args:
        areas: of each strategy the area under the curve by seed; seeds that not all have are left out.
        level: probability with which the set holds the truly best one.
        resamples: of the bootstrap.
        seed: of its draws.

    >>> best_set({"a": {0: 0.9, 1: 0.8, 2: 0.9}, "b": {0: 0.9, 1: 0.9, 2: 0.8}, "c": {0: 0.1, 1: 0.2, 2: 0.1}}, 0.9)
    BestSet(best='a', with_best=('a', 'b'), compared=('a', 'b', 'c'), seeds=(0, 1, 2))
    """
    labels = [label for label, of in areas.items() if of]
    seeds = sorted(set.intersection(*({*areas[label]} for label in labels))) if labels else []
    if len(labels) < 2 or not seeds:
        return None
    table = np.array([[areas[label][number] for number in seeds] for label in labels])  # [strategies, seeds]
    drawn = np.random.default_rng(seed).integers(len(seeds), size=(resamples, len(seeds)))
    resampled = np.stack([row[drawn].mean(axis=1) for row in table])  # [strategies, resamples]
    order = sorted(range(len(labels)), key=lambda index: -table[index].mean())
    kept = [index for index in order if _may_be_best(index, table, resampled, level)]
    names = tuple(labels[index] for index in kept)
    return BestSet(labels[order[0]], names, tuple(labels), tuple(seeds))


def _may_be_best(index: int, table: NDArray[np.float64], resampled: NDArray[np.float64], level: float) -> bool:
    count = table.shape[1]
    if count < 2:
        return True  # one seed has no spread to judge by
    others = np.arange(len(table)) != index
    shortfalls = table[others] - table[index]  # [others, seeds]
    means, errors = shortfalls.mean(axis=1), shortfalls.std(axis=1, ddof=1) / np.sqrt(count)
    if (means < _SHOWN).all():
        return True
    certain = errors <= 1e-12 * np.abs(table).max()  # the same with every seed
    if (means[certain] > 0).any():
        return False
    if certain.all():
        return True
    # A resample of S values varies by √((S − 1)/S) too little.
    widened = np.sqrt(count / (count - 1))
    deviations = (resampled[others] - resampled[index] - means[:, None])[~certain] * widened / errors[~certain, None]
    critical = student_quantile(NormalDist().cdf(float(np.quantile(deviations.max(axis=0), level))), count - 1)
    return bool((means[~certain] / errors[~certain]).max() <= critical)


def student_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's distribution: √ν tan θ, where θ has a density in proportion to cos^(ν−1).

    >>> round(student_quantile(0.95, 9), 4)
    1.8331
    """
    angles = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.sqrt(freedom) * np.tan(np.interp(probability, mass / mass[-1], angles)))
