"""The pictures of the reports: one function a figure, without global drawing state, in colours safe for all eyes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from amf_lightning.evaluation.statistics import Interval

# Okabe and Ito's palette, the yellow left out: it is too bright for a line on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_NOT_BLACK = tuple(colour for colour in _COLOURS if colour != "#000000")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_SCORE = "normalised score (0 random, 1 expert)"
_DEMONSTRATIONS = "demonstrations asked of the expert"
_NAMED_LINES = 12
_LOWEST = 5
_SPREADS = {0.9: "0.92", 0.5: "0.8"}
"""The middle shares of the tasks that are shaded, and their greys."""
_LARGE_ROWS = 30
_DRAWN_ROUNDS = 40
_THRESHOLDS = (0.8, 0.9)
_SOLID_BANDS = 6
_SWEPT = {"auc": "area under the curve", "final": "final score", "worst_forgetting": "worst forgetting"}


@dataclass(frozen=True)
class Band:
    """The curve of one strategy over seeds: mean score with an interval at each number of demonstrations, [P] each."""

    demonstrations: Sequence[int]
    mean: Sequence[float]
    lo: Sequence[float]
    hi: Sequence[float]


def png(figure: Figure, dpi: int = 144, small: bool = False) -> bytes:
    """The figure as a PNG file.

    Args:
        figure: what to draw.
        dpi: pixels an inch.
        small: reduces the picture to 256 colours, about a third of the bytes. It takes as long as the drawing.
    """
    buffer = BytesIO()
    canvas = FigureCanvasAgg(figure)
    if not small:
        canvas.print_figure(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()
    figure.set_dpi(dpi)
    # The pixels as they are: a PNG would be compressed only to be read again.
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels).convert("RGB")
    reduced = BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(reduced, format="png", optimize=True)
    return reduced.getvalue()


def curve_figure(demonstrations: Sequence[int], mean: Sequence[float], tasks: Mapping[str, Sequence[float]]) -> Figure:
    """Mean score of one run against its demonstrations, a thin line for each task.

    Of more tasks than can be told apart by their lines, it shows how they spread and names those that end lowest.

    Args:
        demonstrations: numbers of demonstrations at which the policy was evaluated, [P].
        mean: mean score over tasks, [P].
        tasks: score of each task by its name, [P] each.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    many = len(tasks) > _NAMED_LINES
    if many:
        table = np.array(list(tasks.values()))
        for share, grey in _SPREADS.items():
            bounds = np.quantile(table, ((1 - share) / 2, (1 + share) / 2), axis=0)
            label = f"middle {100 * share:.0f} % of {len(tasks)} tasks"
            axes.fill_between(demonstrations, *bounds, color=grey, linewidth=0, label=label)
        lowest = sorted(tasks, key=lambda name: tasks[name][-1])[:_LOWEST]
        for name, colour, style in zip(lowest, _NOT_BLACK, cycle(_STYLES), strict=False):
            axes.plot(demonstrations, tasks[name], color=colour, linestyle=style, linewidth=1.3, label=name)
    else:
        shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, max(len(tasks), 2)))
        for (name, scores), shade in zip(tasks.items(), shades, strict=False):
            axes.plot(demonstrations, scores, color=shade, linewidth=1, alpha=0.85, label=name)
    axes.plot(
        demonstrations,
        mean,
        color="black",
        linewidth=2.8,
        marker="o",
        markersize=4,
        label="mean of all tasks",
        zorder=5,
    )
    _score_axes(axes, max(demonstrations))
    handles, labels = axes.get_legend_handles_labels()
    order = [-1, *range(len(handles) - 1)] if many else range(-1, -len(handles) - 1, -1)
    legend = [handles[i] for i in order], [labels[i] for i in order]
    title = f"named: the {_LOWEST} that end lowest" if many else None
    figure.legend(*legend, loc="outside right upper", frameon=False, fontsize=9, title=title, title_fontsize=9)
    axes.set_title("What the demonstrations gained", loc="left", fontsize=11)
    return figure


def allocation_figure(
    picks: Sequence[int], rounds: Sequence[int], task_names: Sequence[str], pretrained: frozenset[str] = frozenset()
) -> Figure:
    """Which task was asked when: task against demonstration number, with counts.

    Args:
        picks: task index of each demonstration in order, [N].
        rounds: the round of each demonstration, [N]; lines separate the rounds, if they have several and are few.
        task_names: [K].
        pretrained: names of the tasks that the pre-trained policy was trained on.
    """
    count = len(task_names)
    many = count > _LARGE_ROWS
    figure = Figure(figsize=(8, min(14, 1.7 + (0.19 if many else 0.27) * count)), layout="constrained")
    strip, bars = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
    for row, name in enumerate(task_names):
        if name in pretrained:
            for axes in (strip, bars):
                axes.axhspan(row - 0.5, row + 0.5, color="#E8E8E8", linewidth=0, zorder=0)
    boundaries = np.flatnonzero(np.diff(rounds))
    draws_rounds = len(set(rounds)) < len(rounds) and len(boundaries) <= _DRAWN_ROUNDS
    for boundary in boundaries if draws_rounds else ():
        strip.axvline(boundary + 1.5, color="0.7", linewidth=0.8, zorder=1)
    numbers = np.arange(1, len(picks) + 1)
    size = float(np.clip(2400 / max(len(picks), 1), 12, 90))
    strip.scatter(numbers, picks, marker="s", s=size, color=_COLOURS[0], zorder=3)
    strip.set_xlim(0.4, max(len(picks), 1) + 0.6)
    strip.set_ylim(-0.6, count - 0.4)
    strip.set_yticks(range(count), task_names, fontsize=7.5 if many else 9)
    strip.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    strip.grid(axis="y", color="0.92", zorder=0)
    strip.set_axisbelow(True)
    strip.set_xlabel("number of the demonstration" + (" (lines: rounds)" if draws_rounds else ""))
    strip.set_ylabel("task")
    totals = np.bincount(np.asarray(picks, dtype=int), minlength=count)
    bars.barh(range(count), totals, color=_COLOURS[0], height=0.7, zorder=3)
    size = 7.5 if many else 9
    for row, total in enumerate(totals):
        bars.annotate(str(total), (total, row), (3, 0), textcoords="offset points", va="center", fontsize=size)
    bars.set_xlim(0, max(1, totals.max()) * 1.3)
    bars.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    bars.tick_params(left=False)
    bars.set_xlabel("demonstrations")
    note = "   (grey: π0 was pre-trained on these)" if pretrained & set(task_names) else ""
    strip.set_title(f"What was asked when{note}", loc="left", fontsize=11)
    for axes in (strip, bars):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def bands_figure(bands: Mapping[str, Band]) -> Figure:
    """Mean score of several strategies against demonstrations, each with its interval over seeds as a band."""
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.add_subplot()
    for (label, band), colour, style in zip(bands.items(), cycle(_COLOURS), cycle(_STYLES), strict=False):
        axes.plot(band.demonstrations, band.mean, color=colour, linestyle=style, linewidth=2, label=label)
        alpha = 0.16 if len(bands) <= _SOLID_BANDS else 0.06
        axes.fill_between(band.demonstrations, band.lo, band.hi, color=colour, alpha=alpha, linewidth=0)
    _score_axes(axes, max(max(band.demonstrations) for band in bands.values()))
    handles, labels = axes.get_legend_handles_labels()
    means = [sum(band.mean) for band in bands.values()]
    order = sorted(range(len(means)), key=lambda i: -means[i])
    legend = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(*legend, loc="outside right upper", frameon=False, fontsize=9, title="by area under the curve")
    axes.set_title("Mean score over tasks; bands: 90 % intervals over seeds", loc="left", fontsize=11)
    return figure


def sweep_figure(
    series: Mapping[str, Mapping[float, Mapping[str, Interval | None]]],
    levels: Mapping[str, Mapping[str, Interval | None]],
    axis: str,
) -> Figure:
    """Area under the curve, final score and forgetting against a setting, with intervals over seeds.

    Args:
        series: name, then setting, then metric; None where a metric is unknown.
        levels: metrics of what has no such setting, drawn as horizontal lines.
        axis: what the setting is, with its unit.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    known = [points for settings in series.values() for points in settings.values()]
    swept = {metric: title for metric, title in _SWEPT.items() if any(points[metric] for points in known)} or _SWEPT
    panels = figure.subplots(1, len(swept), squeeze=False)[0]
    for axes, (metric, title) in zip(panels, swept.items(), strict=True):
        for (label, points), colour, style in zip(series.items(), cycle(_COLOURS), cycle(_STYLES), strict=False):
            measured_points = [(x, interval) for x in sorted(points) if (interval := points[x][metric]) is not None]
            if not measured_points:
                continue
            x, intervals = zip(*measured_points, strict=True)
            mean, lo, hi = np.array(intervals).T
            bars = [mean - lo, hi - mean]
            axes.errorbar(
                x, mean, bars, color=colour, linestyle=style, marker="o", markersize=4, capsize=3, label=label
            )
        for (label, metrics), grey in zip(levels.items(), cycle(("0.35", "0.6")), strict=False):
            if (level := metrics[metric]) is not None:
                axes.axhline(level.value, color=grey, linewidth=1.2, linestyle=(0, (2, 3)), label=label)
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(axis, fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def counts_figure(counts: Mapping[str, Sequence[float]], task_names: Sequence[str]) -> Figure:
    """Mean demonstrations of each task in a run, strategy against task, [K] numbers a strategy."""
    table = np.array([list(row) for row in counts.values()])
    width = min(20, max(7.0, 3.5 + 0.55 * len(task_names)))
    figure = Figure(figsize=(width, 1.8 + 0.42 * len(counts)), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(table, cmap="cividis", vmin=0, vmax=max(float(table.max()), 1e-9), aspect="auto")
    if len(task_names) <= 30:
        for (row, column), value in np.ndenumerate(table):
            dark = value < 0.6 * table.max()
            axes.text(
                column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
            )
    axes.set_xticks(range(len(task_names)), task_names, fontsize=9)
    if max(map(len, task_names)) > 6:
        axes.tick_params(axis="x", rotation=60)
    axes.set_yticks(range(len(counts)), list(counts), fontsize=9)
    axes.set_xlabel("task")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, label="demonstrations a run", fraction=0.05)
    axes.set_title("How the budget was spent, mean over seeds", loc="left", fontsize=11)
    return figure


def _score_axes(axes: Axes, last: int) -> None:
    for threshold in _THRESHOLDS:
        axes.axhline(threshold, color="0.75", linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
    axes.set_ylim(-0.03, 1.05)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])
    axes.set_xlim(-0.02 * max(last, 1), 1.02 * max(last, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.set_xlabel(_DEMONSTRATIONS)
    axes.set_ylabel(_SCORE)
    axes.spines[["top", "right"]].set_visible(False)
