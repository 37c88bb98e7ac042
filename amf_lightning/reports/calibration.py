"""Whether a selector's predictions came true: its gains against what the demonstrations did."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amf_lightning.campaign.prediction import Outcome
from amf_lightning.evaluation.statistics import RankCorrelation, rank_correlation

_FEWEST = 6
"""Points of which a rank correlation is taken to say anything."""
_SIGNIFICANT = 0.05
_DECADES = 30.0
"""Ratio of the largest gain to the smallest beyond which their axis is logarithmic."""
SCORE, ERROR = "change of the mean score", "fall of the policy's error on the demonstration"


@dataclass(frozen=True)
class Calibration:
    """Predicted gains against what came of them, a point for each span that was measured."""

    realised_is: str
    """`SCORE` or `ERROR`."""
    gain_is: str
    predicted: tuple[float, ...]
    realised: tuple[float, ...]
    after: tuple[int, ...]
    """Demonstrations that had been trained on then."""

    @property
    def correlation(self) -> RankCorrelation | None:
        """Of the two; None if the points are too few, or one of the two does not vary."""
        if len(self.predicted) < _FEWEST:
            return None
        return rank_correlation(self.predicted, self.realised)

    @property
    def rest(self) -> RankCorrelation | None:
        """What is left of it once the order is taken out: gains and changes both shrink as a run goes on."""
        return rank_correlation(self.predicted, self.realised, self.after)


def calibrations(outcomes: Sequence[Outcome]) -> list[Calibration]:
    """What the predictions can be held against: scores where somebody has evaluated, and the policy's own errors.

    Demonstrations between two evaluations are one point, with the sum of their gains. One of which nothing was
    predicted, e.g. because nobody asked for it, takes its point out.

    Args:
        outcomes: of all demonstrations, in the order in which they were trained on.
    """
    gain_is = next((each.predicted.gain_is for each in outcomes if each.predicted is not None), "")
    spans: dict[tuple[int, int], list[Outcome]] = {}
    for each in outcomes:
        if each.scores is not None:
            spans.setdefault(each.scores.evaluated, []).append(each)
    by_score = [
        (sum(map(_gain, span)), span[0].scores.mean[1] - span[0].scores.mean[0], last)
        for (_, last), span in spans.items()
        if span[0].scores is not None
    ]
    by_error = [
        (_gain(each), each.realised.error_before - each.realised.error_after, place)
        for place, each in enumerate(outcomes, start=1)
        if each.realised is not None
    ]
    found = []
    for name, points in ((SCORE, by_score), (ERROR, by_error)):
        known = [point for point in points if np.isfinite(point).all()]
        if known:
            predicted, realised, after = zip(*known, strict=True)
            found.append(Calibration(name, gain_is, predicted, realised, after))
    return found


def calibration_figure(found: Sequence[Calibration]) -> Figure:
    """Predicted gain against what came of it, a panel for each way to measure that; colours tell when."""
    figure = Figure(figsize=(4.9 * len(found), 4.2), layout="constrained")
    for axes, each in zip(np.atleast_1d(figure.subplots(1, len(found))), found, strict=True):
        _draw(figure, axes, each)
    return figure


def _draw(figure: Figure, axes: Axes, each: Calibration) -> None:
    axes.axhline(0, color="0.75", linewidth=0.8, zorder=0)
    points = axes.scatter(each.predicted, each.realised, c=each.after, cmap="viridis", s=34, zorder=3)
    figure.colorbar(points, ax=axes, label="demonstrations so far", fraction=0.05)
    axes.set_xlabel(f"predicted gain\n({each.gain_is})", fontsize=9)
    axes.set_ylabel(each.realised_is, fontsize=9)
    if min(each.predicted) > 0 and max(each.predicted) > _DECADES * min(each.predicted):
        axes.set_xscale("log")
    else:
        axes.ticklabel_format(axis="x", scilimits=(-3, 4))
    correlation = each.correlation
    told = "too few points to tell" if correlation is None else f"rank correlation {correlation.value:.2f}"
    axes.set_title(f"{told}, n = {len(each.predicted)}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def verdict(found: Sequence[Calibration]) -> str:
    """One sentence: whether the predictions told which demonstrations helped."""
    if not found:
        return "Whether the predictions told which demonstrations helped is unknown: nothing was measured of them."
    judge, *others = found
    further = "".join(f"; with the {each.realised_is}, {_figures(each)}" for each in others)
    figures = f"of predicted gain with the {judge.realised_is}: {_figures(judge)}{further}"
    correlation = judge.correlation
    if correlation is None or correlation.p > _SIGNIFICANT:
        return f"**The predictions cannot tell which demonstrations helped** (rank correlation {figures})."
    if correlation.value < 0:
        return f"**The predictions pointed the wrong way**: rank correlation {figures}."
    if (rest := judge.rest) is None or rest.value < 0 or rest.p > _SIGNIFICANT:
        told = "The predictions fell as demonstrations came to help less, and cannot tell more than that"
    else:
        told = "The predictions told which demonstrations helped"
    return f"**{told}**: rank correlation {figures}."


def calibration_section(found: Sequence[Calibration], selector: str, picture: str) -> list[str]:
    """The part of a report about it; nothing where no prediction was held against anything."""
    if not found:
        return []
    return [
        "## Whether it knew",
        f"{verdict(found)} A gain of {selector} is: {found[0].gain_is}.",
        f"![Predicted gain against what came of it]({picture})",
    ]


def _figures(each: Calibration) -> str:
    if (correlation := each.correlation) is None:
        return f"none, n = {len(each.predicted)}"
    without = "nothing of it" if each.rest is None else f"{each.rest.value:.2f}"
    return (
        f"{correlation.value:.2f}, {without} with the common trend taken out, n = {len(each.predicted)}, "
        f"p = {correlation.p:.2g}"
    )


def _gain(outcome: Outcome) -> float:
    return float("nan") if outcome.predicted is None else outcome.predicted.gain
