from collections.abc import Callable
from io import BytesIO
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
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


def test_of_many_tasks_those_that_end_lowest_are_named() -> None:
    tasks = {f"task {i}": [0.5, i / 50] for i in range(50)}
    figure = curve_figure([0, 1], [0.5, 0.5], tasks)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "mean of all tasks"
    assert [label for label in labels if label.startswith("task ")] == [f"task {i}" for i in range(5)]
    assert "middle 50 % of 50 tasks" in labels
    lines = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("task ")]
    assert len({line.get_color() for line in lines} | {"black", "#000000"}) == 5 + 2


def test_names_of_fifty_tasks_do_not_overlap() -> None:
    figure = allocation_figure([0], [0], [f"pick-place-wall-v3 {i}" for i in range(50)])
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))


def test_rounds_are_drawn_while_they_are_few() -> None:
    few, many = (allocation_figure([0] * n, [i // 2 for i in range(n)], NAMES) for n in (20, 200))
    assert "rounds" in few.axes[0].get_xlabel() and "rounds" not in many.axes[0].get_xlabel()
    assert len(few.axes[0].lines) == 9 and len(many.axes[0].lines) == 0


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
    first, final = figure.axes
    assert figure.get_supxlabel() == "share"
    assert [np.asarray(line.get_ydata()).tolist() for line in first.lines if line.get_marker() == "o"] == [[0.4, 0.6]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["none", "A"]
    assert final.get_title(loc="left") == "final score"  # and nothing of what is unknown of all
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
