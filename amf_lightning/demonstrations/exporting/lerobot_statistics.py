"""The statistics that LeRobot keeps of every feature, of an episode and of all: policies are normalised by them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_MOST_PICTURES, _LONGEST_SIDE = 100, 150
"""Pictures of an episode, and pixels along a side, that are looked at: about as many as LeRobot looks at."""

Statistics = dict[str, NDArray[Any]]


def of_rows(rows: NDArray[Any]) -> Statistics:
    """Statistics of numbers, [T, …]: over the first axis."""
    values = rows.astype(np.float64).reshape(len(rows), -1) if rows.ndim == 1 else rows.astype(np.float64)
    return _over(values, (0,), len(rows))


def of_pictures(pictures: NDArray[np.uint8]) -> Statistics:
    """Statistics of colours in [0, 1], [3, 1, 1], of pictures [T, H, W, 3]."""
    every = -(-len(pictures) // _MOST_PICTURES)
    step = max(1, max(pictures.shape[1:3]) // _LONGEST_SIDE)
    seen = pictures[::every, ::step, ::step].astype(np.float64).transpose(0, 3, 1, 2) / 255
    found = _over(seen, (0, 2, 3), len(seen))
    return {name: value if name == "count" else value.reshape(3, 1, 1) for name, value in found.items()}


def together(of_episodes: Iterable[Mapping[str, NDArray[Any]]]) -> Statistics:
    """Statistics of all episodes: exact but for the quantiles, which are their mean, weighted by rows, as LeRobot's."""
    count, total = 0, dict[str, NDArray[Any]]()
    for each in of_episodes:
        rows = int(each["count"][0])
        parts = {name: each[name] * rows for name in ("mean", *QUANTILES)}
        parts["squares"] = (each["std"] ** 2 + each["mean"] ** 2) * rows
        total |= {name: part if name not in total else total[name] + part for name, part in parts.items()}
        total["min"] = np.minimum(total.get("min", each["min"]), each["min"])
        total["max"] = np.maximum(total.get("max", each["max"]), each["max"])
        count += rows
    mean = total["mean"] / count
    spread = np.sqrt(np.maximum(0, total["squares"] / count - mean**2))
    quantiles = {name: total[name] / count for name in QUANTILES}
    return {
        "min": total["min"],
        "max": total["max"],
        "mean": mean,
        "std": spread,
        "count": np.array([count]),
    } | quantiles


def _over(values: NDArray[np.float64], axes: tuple[int, ...], count: int) -> Statistics:
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=axes)
    return {
        "min": values.min(axes),
        "max": values.max(axes),
        "mean": values.mean(axes),
        "std": values.std(axes),
        "count": np.array([count]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }
