from collections.abc import Callable
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from amf_lightning.evaluation.statistics import Interval
from amf_lightning.reports.figures import (
    Band,
    allocation_figure,
    bands_figure,
    counts_figure,
    curve_figure,
    png,
    sweep_figure,
)

NAMES = ["v=-1", "v=0", "v=1"]


def pixels(figure: Figure) -> NDArray[np.uint8]:
    image = Image.open(BytesIO(png(figure)))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def curve(last: float = 0.9) -> Figure:
    return curve_figure([0, 1, 2], [0.3, 0.5, last], {name: [0.1 * i, 0.4, 0.8] for i, name in enumerate(NAMES)})


def band(level: float = 0.5) -> Band:
    return Band([0, 1, 2], [level] * 3, [level - 0.1] * 3, [level + 0.1] * 3)


def allocation(picks: list[int]) -> Figure:
    return allocation_figure(picks, list(range(len(picks))), NAMES)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (curve, lambda: curve(last=0.6)),
        (lambda: allocation([0, 1, 2]), lambda: allocation([2, 1, 0])),
        (lambda: allocation([0]), lambda: allocation_figure([0], [0], NAMES, frozenset({"v=0"}))),
        (lambda: allocation([0, 1]), lambda: allocation_figure([0, 1], [0, 0], NAMES)),
        (lambda: bands_figure({"a": band()}), lambda: bands_figure({"a": band(0.6)})),
        (lambda: counts_figure({"a": [1, 2, 3]}, NAMES), lambda: counts_figure({"a": [3, 2, 1]}, NAMES)),
    ],
    ids=["curve", "picks", "pretrained", "rounds", "band", "counts"],
)
def test_a_picture_shows_what_changed_and_is_the_same_when_nothing_did(
    one: Callable[[], Figure], other: Callable[[], Figure]
) -> None:
    first, second = pixels(one()), pixels(other())
    assert first.std() > 5
    assert np.array_equal(first, pixels(one()))
    assert first.shape != second.shape or not np.array_equal(first, second)


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_pictures_hold_any_number_of_tasks_and_one_evaluation(count: int) -> None:
    names = [f"task {i}" for i in range(count)]
    pixels(curve_figure([0], [0.5], {name: [0.5] for name in names}))
    pixels(allocation_figure([], [], names))
    pixels(allocation_figure([count - 1] * 3, [0, 0, 1], names))
    pixels(counts_figure({"a": [0.0] * count, "b": [0.0] * count}, names))


def test_axes_say_what_they_show_and_every_task_is_named() -> None:
    figure = curve()
    (axes,) = figure.axes
    assert "demonstrations" in axes.get_xlabel() and "score" in axes.get_ylabel()
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {*NAMES, "mean of all tasks"}
    strip, bars = allocation([2, 2, 0]).axes
    assert [label.get_text() for label in strip.get_yticklabels()] == NAMES
    assert [text.get_text() for text in bars.texts] == ["1", "0", "2"]


def test_strategies_differ_in_line_style_as_well_as_in_colour() -> None:
    axes = bands_figure({label: band() for label in "abcde"}).axes[0]
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert len({line.get_color() for line in lines}) == 5
    assert len({(line.get_linestyle(), str(line._dash_pattern)) for line in lines}) == 5  # type: ignore[attr-defined]


def test_a_sweep_has_a_line_for_each_series_and_a_level_for_what_has_no_setting() -> None:
    def metrics(mean: float | None) -> dict[str, Interval | None]:
        interval = None if mean is None else Interval(mean, mean - 0.1, mean + 0.1)
        return {"auc": interval, "final": interval, "worst_forgetting": None}

    series = {"A": {0.5: metrics(0.6), 0.25: metrics(0.4)}, "B": {0.5: metrics(None)}}
    figure = sweep_figure(series, {"none": metrics(0.5)}, "share")
    first, _, unknown = figure.axes
    assert figure.get_supxlabel() == "share"
    assert [np.asarray(line.get_ydata()).tolist() for line in first.lines if line.get_marker() == "o"] == [[0.4, 0.6]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "A"]
    assert not unknown.lines
    pixels(figure)


def test_a_small_file_shows_the_same_picture_in_fewer_bytes() -> None:
    figure = bands_figure({label: band(0.1 * number) for number, label in enumerate("abcdef")})
    whole, small = png(figure), png(figure, small=True)
    assert len(small) < len(whole) / 2
    before, after = (np.asarray(Image.open(BytesIO(file)).convert("RGB"), int) for file in (whole, small))
    assert before.shape == after.shape and np.abs(before - after).mean() < 1


def test_the_users_own_matplotlib_settings_and_figures_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    png(curve())
    assert dict(matplotlib.rcParams) == before
