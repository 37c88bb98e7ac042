"""Predictions are held against what came of them, and the sentence says no more than the numbers do."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from undrawn import stand_in

from amf_lightning.campaign.prediction import Outcome, Prediction, Realised, ScoreChange
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.reports import run_report
from amf_lightning.reports.calibration import ERROR, SCORE, calibration_figure, calibrations, verdict
from amf_lightning.reports.outcomes import score_change
from amf_lightning.reports.run_report import write_report
from tiny import TinySuite

MEANS = (0.1, 0.4, 0.45, 0.6)


def outcome(
    gain: float | None, span: tuple[int, int] | None = None, errors: tuple[float, float] | None = None
) -> Outcome:
    scores = None if span is None else ScoreChange(span, (0.0, 1.0), (MEANS[span[0]], MEANS[span[1]]))
    predicted = None if gain is None else Prediction(gain, "nats")
    return Outcome(predicted, None if errors is None else Realised(*errors), scores)


def of_errors(pairs: Sequence[tuple[float, float]]) -> list[Outcome]:
    return [outcome(gain, errors=(1.0, 1.0 - fall)) for gain, fall in pairs]


def test_demonstrations_between_two_evaluations_are_one_point() -> None:
    [by_score, by_error] = calibrations(
        [outcome(2.0, (0, 1), (0.5, 0.25)), outcome(1.0, (1, 3), (0.5, 0.5)), outcome(0.5, (1, 3))]
    )
    assert (by_score.realised_is, by_score.predicted, by_score.after) == (SCORE, (2.0, 1.5), (1, 3))
    assert by_score.realised == pytest.approx((0.3, 0.2))
    assert (by_error.realised_is, by_error.predicted, by_error.realised) == (ERROR, (2.0, 1.0), (0.25, 0.0))


def test_what_nobody_predicted_takes_its_point_out() -> None:
    found = calibrations([outcome(2.0, (0, 1)), outcome(1.0, (1, 3)), outcome(None, (1, 3))])
    assert [each.predicted for each in found] == [(2.0,)]
    assert calibrations([outcome(None, (0, 1), (0.5, 0.1))]) == []
    assert calibrations([outcome(1.0, None, (float("nan"), 0.1))]) == [], "a fresh policy has no error"


def test_the_sentence_follows_from_the_numbers() -> None:
    rising = [(float(n), n / 10) for n in range(8)]
    told = verdict(calibrations(of_errors(rising)))
    assert told.startswith("**The predictions fell as") and "on the demonstration: 1.00, nothing of it with" in told
    shuffled = [rising[place] for place in (3, 7, 1, 5, 0, 6, 2, 4)]
    told = verdict(calibrations(of_errors(shuffled)))
    assert told.startswith("**The predictions told which") and "1.00, 1.00 with the common trend taken out" in told
    falling = [(gain, -fall) for gain, fall in rising]
    assert verdict(calibrations(of_errors(falling))).startswith("**The predictions pointed the wrong way**")
    noise = random.Random(3)
    mixed = [(noise.random(), noise.random()) for _ in range(8)]
    assert verdict(calibrations(of_errors(mixed))).startswith("**The predictions cannot tell")
    few = verdict(calibrations(of_errors(rising[:3])))
    assert few.startswith("**The predictions cannot tell") and "n = 3" in few
    assert "is unknown" in verdict([])


def test_the_score_changes_between_the_evaluations_around_a_demonstration() -> None:
    def evaluation(count: int, *scores: float) -> Evaluation:
        return Evaluation(count, scores, scores, scores, sum(scores) / len(scores))

    curve = [evaluation(0, 0.0, 0.5), evaluation(2, 1.0, 0.5), evaluation(3, 1.0, 1.0)]
    assert score_change(1, 0, curve) == ScoreChange((0, 2), (0.0, 1.0), (0.25, 0.75))
    assert score_change(2, 1, curve) == ScoreChange((2, 3), (0.5, 1.0), (0.75, 1.0))
    assert score_change(3, 1, curve) is None and score_change(0, 0, curve[1:]) is None


def test_the_picture_has_a_panel_for_each_measure() -> None:
    outcomes = [outcome(2.0, (0, 1), (0.5, 0.25)), outcome(1.0, (1, 3), (0.5, 0.5))]
    figure = calibration_figure(calibrations(outcomes))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    assert [axes.get_ylabel() for axes in figure.axes if "predicted" in axes.get_xlabel()] == [SCORE, ERROR]


def test_the_report_has_the_picture_and_the_sentence_where_something_was_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_report, "png", stand_in)
    folder, suite = RunFolder(tmp_path), TinySuite()
    jobs = [Request(n, n, suite.tasks[0].name, 0, "Foretelling", (1.0, 0.5, 0.25, 0.0), n) for n in range(2)]
    folder.write_selections(jobs)
    write_report(folder, suite)
    assert "Whether it knew" not in folder.report.read_text() and not folder.calibration_picture.exists()
    folder.write_selections(jobs, {n: outcome(1.0, errors=(0.5, 0.25)) for n in range(2)})
    write_report(folder, suite)
    assert "A gain of Foretelling is: nats." in folder.report.read_text() and folder.calibration_picture.exists()
    assert "(calibration.png)" in folder.report.read_text()
