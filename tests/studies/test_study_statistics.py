import json
import statistics
from pathlib import Path

import numpy as np
import pytest
import ready_runs

from amf_lightning.campaign.curve import MEAN, CurveRow
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.evaluation.statistics import Interval
from amf_lightning.studies.rows import RunFacts, RunRows, read_run
from amf_lightning.studies.statistics import gather_facts, largest_fall, run_metrics, score_band, summarise
from amf_lightning.studies.summary import METRICS, MetricSummary, StudyFacts


def run(strategy: str, seed: int, scores: list[float], counts: list[int] | None = None) -> RunRows:
    """A run of two tasks: `old` loses what the mean gains."""
    rows = []
    for count, score in zip(counts or range(len(scores)), scores, strict=True):
        rows += [
            CurveRow(count, "old", 0.0, 0.0, 1.0 - score),
            CurveRow(count, "new", 0.0, 0.0, 3 * score - 1.0),
            CurveRow(count, MEAN, 0.0, 0.0, score),
        ]
    return RunRows(strategy, seed, tuple(rows))


def test_the_numbers_of_one_run() -> None:
    metrics = run_metrics(run("A", 0, [0.5, 0.7, 0.85, 0.8]), 3, ["old"])
    assert metrics == {
        "auc": pytest.approx((0.5 + 0.7 + 0.85 + 0.8) / 4),
        "final": 0.8,
        "demos_to_80": 2,
        "demos_to_90": 4,
        "forgetting": pytest.approx(0.3),
        "forgetting_positive": pytest.approx(0.3),
        "worst_forgetting": pytest.approx(0.35),
        "setback": pytest.approx(0.05),
    }


def test_forgetting_is_unknown_without_pre_training_tasks() -> None:
    for tasks in (None, [], ["of another suite"]):
        metrics = run_metrics(run("A", 0, [0.5, 0.7]), 1, tasks)
        assert metrics["forgetting"] is None and metrics["forgetting_positive"] is None


def test_a_run_that_is_not_evaluated_to_the_end_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 3"):
        run_metrics(run("A", 0, [0.5, 0.7]), 3, None)


def test_means_medians_and_values_of_each_seed() -> None:
    runs = [run("A", seed, [0.1, last]) for seed, last in enumerate([0.2, 0.8, 0.9])]
    summary = summarise(runs, "A", facts=StudyFacts(pretraining_tasks={"A": ["old"]}))
    metrics = summary.strategies["A"]
    assert tuple(metrics) == METRICS
    assert metrics["final"].per_seed == (0.2, 0.8, 0.9)
    final = metrics["final"].mean
    assert final and final.value == pytest.approx(statistics.mean([0.2, 0.8, 0.9]))
    assert final.lo < final.value < final.hi
    assert metrics["demos_to_80"].per_seed == (2, 1, 1)  # never counts as one more than the budget
    assert (median := metrics["demos_to_80"].median) and median.value == 1
    assert mean_of(metrics["forgetting"].mean) == pytest.approx(statistics.mean([0.1, 0.7, 0.8]))
    assert summary.paired == {}
    assert summary.seeds == {"A": [0, 1, 2]} and summary.budget == 1


def mean_of(interval: Interval | None) -> float:
    assert interval is not None
    return interval.value


def test_a_summary_is_written_with_a_null_for_what_is_unknown() -> None:
    facts = StudyFacts(pretraining_tasks={"A": ["old"]}, versions=["1"])
    runs = [run("A", 0, [0.1, 0.2]), run("B", 0, [0.1, 0.4])]
    content = json.loads(json.dumps(summarise(runs, "A", None, facts, ["A seed 1"], "share").to_json()))
    assert content["strategies"]["A"]["final"] == {"mean": 0.2, "lo": 0.2, "hi": 0.2, "per_seed": [0.2]}
    assert content["strategies"]["B"]["demos_to_80"] == {
        **dict.fromkeys(("mean", "lo", "hi", "median", "median_lo", "median_hi"), 2.0),
        "per_seed": [2],
    }
    unknown = dict.fromkeys(("mean", "lo", "hi"))
    assert content["strategies"]["B"]["forgetting"] == {**unknown, "per_seed": []}
    assert content["paired"] == {"B": content["paired"]["B"]} and content["paired"]["B"]["forgetting"] == unknown
    assert content["meta"]["pairs"]["A"]["B"]["mean"] == pytest.approx(-0.1)
    assert {"budget": 1, "missing": ["A seed 1"], "sweep": "share", "baseline": "A"}.items() <= content["meta"].items()
    assert StudyFacts.from_json(content["meta"]) == facts


def test_in_a_sweep_each_is_paired_with_the_baseline_at_its_own_setting() -> None:
    finals = {"A@1": 0.2, "A@2": 0.5, "B@1": 0.3, "B@2": 0.9, "B@3": 0.4, "plain": 0.1}
    summary = summarise([run(label, 0, [0.0, final]) for label, final in finals.items()], "A@1", sweep="size")
    differences = {label: mean_of(metrics["final"]) for label, metrics in summary.paired.items()}
    # What stands alone, and the other points of the baseline's own series, are held against the baseline itself.
    assert differences == pytest.approx({"A@2": 0.3, "B@1": 0.1, "B@2": 0.4, "B@3": 0.2, "plain": -0.1})


def test_pairing_by_seed_removes_what_the_seed_does_to_both() -> None:
    levels = [0.1, 0.5, 0.7]
    runs = [
        run(label, seed, [0.0, levels[seed] + gain]) for label, gain in (("A", 0.0), ("B", 0.1)) for seed in range(3)
    ]
    assert summarise(runs, "A").paired["B"]["final"] == pytest.approx((0.1, 0.1, 0.1))


def test_each_strategy_is_paired_with_each_by_the_area_under_the_curve() -> None:
    runs = [run(label, seed, [0.0, 0.2 * seed + gain]) for label, gain in (("A", 0.0), ("B", 0.1)) for seed in range(3)]
    pairs = summarise(runs, "A").pairs
    assert pairs is not None
    assert mean_of(pairs["B"]["A"]) == pytest.approx(0.05)
    assert mean_of(pairs["A"]["B"]) == pytest.approx(-0.05)
    assert set(pairs["A"]) == {"B"}


def test_among_very_many_strategies_not_each_is_compared_with_each() -> None:
    runs = [run(str(number), 0, [0.0, 0.1 * number]) for number in range(16)]
    assert summarise(runs, "0").pairs is None
    assert len(summarise(runs[:15], "0").pairs or ()) == 15


def test_the_largest_fall_is_that_of_what_was_pretrained_in_the_mean_over_seeds() -> None:
    one, other = run("A", 0, [0.5, 0.7, 0.4]), run("A", 1, [0.5, 0.4, 0.6])  # `old` is 1 less these
    assert largest_fall([one], 2, ["old"]) == pytest.approx(0.2)
    assert largest_fall([one, other], 2, ["old"]) == pytest.approx(0.05)
    assert largest_fall([run("A", 0, [0.5, 0.4])], 1, ["old"]) == 0.0
    assert largest_fall([one], 2, ["old", "new"]) == pytest.approx(0.1)  # `new` falls by 0.3, `old` rises by 0.1
    assert largest_fall([one], 2, None) is None and largest_fall([one], 2, ["elsewhere"]) is None


def test_only_seeds_that_both_have_are_paired_whatever_their_order() -> None:
    runs = [
        *(run("A", seed, [0.0, 0.1 * seed]) for seed in (2, 1, 0)),
        *(run("B", seed, [0.0, 0.1 * seed + 0.2]) for seed in (1, 2, 7)),
    ]
    assert summarise(runs, "A").paired["B"]["final"] == pytest.approx((0.2, 0.2, 0.2))


def test_without_common_seeds_or_known_forgetting_there_is_no_difference() -> None:
    assert summarise([run("A", 0, [0.0, 0.1]), run("B", 1, [0.0, 0.1])], "A").paired["B"]["auc"] is None
    same = summarise([run("A", 0, [0.0, 0.1]), run("B", 0, [0.0, 0.1])], "A")
    assert same.paired["B"]["forgetting"] is None
    assert same.strategies["A"]["forgetting"] == MetricSummary(None, ())


def test_without_a_run_of_the_baseline_nothing_can_be_said() -> None:
    with pytest.raises(InputError, match="baseline 'B' among: A"):
        summarise([run("A", 0, [0.0, 0.1])], "B")


def test_a_band_holds_scores_between_evaluations_and_covers_the_mean() -> None:
    band = score_band([run("A", 0, [0.2, 0.6, 1.0], [0, 2, 4]), run("A", 1, [0.4, 0.8, 1.0], [0, 2, 4])], 4)
    assert list(band.demonstrations) == [0, 1, 2, 3, 4]
    assert band.mean == pytest.approx([0.3, 0.3, 0.7, 0.7, 1.0])
    assert all(lo <= mean <= hi for lo, mean, hi in zip(band.lo, band.mean, band.hi, strict=True))
    assert band.lo[0] == pytest.approx(0.2) and band.hi[0] == pytest.approx(0.4)


def test_a_band_and_the_area_agree_on_what_holds_between_evaluations() -> None:
    curve = run("A", 0, [0.2, 0.6, 1.0], [0, 3, 4])
    assert run_metrics(curve, 4, None)["auc"] == pytest.approx(np.mean(score_band([curve], 4).mean))


def test_facts_of_a_strategy_are_those_of_its_runs() -> None:
    made = [(10.0, 5.0, "1"), (30.0, None, None), (20.0, 8.0, "0"), (20.0, 90.0, "1")]
    asked = ("old", "new", "new")
    facts = [RunFacts(("x",), steps, ("old",), asked, seconds, version) for steps, seconds, version in made]
    assert gather_facts({"A": facts}, ["old", "new"]) == StudyFacts(
        uses={"A": ["x"]},
        environment_steps={"A": 20.0},
        seconds={"A": 8.0},
        versions=["0", "1"],
        pretraining_tasks={"A": ["old"]},
        asked={"A": [1.0, 2.0]},
    )


def test_runs_that_began_with_different_pre_training_do_not_mix() -> None:
    facts = [RunFacts((), None, tasks, ()) for tasks in (("old",), ("new",))]
    with pytest.raises(InputError, match="different tasks"):
        gather_facts({"A": facts}, ["old", "new"])


def test_a_finished_run_folder_is_read_whole(tmp_path: Path) -> None:
    ready_runs.write_run(tmp_path, "InformationGain", 2)
    curve, facts = read_run("ours", 2, RunFolder(tmp_path))
    assert curve.tasks == ["slow", "fast"] and [row.demonstrations for row in curve.of(MEAN)] == [0, 1, 2, 3, 4]
    assert facts == RunFacts(("simulator rollouts",), 200, ("slow",), ("fast",) * 4)
