"""A first and a last evaluation of more episodes: the rounds stay what they are, however the run came about."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import kill_points
import pytest
from tiny_runs import Run, assert_same_outcome

from amf_lightning.campaign.curve import MEAN, CurveRow

MORE: dict[str, Any] = {
    "evaluation": {"class_path": "SimulatedEpisodes", "init_args": {"first_and_last": 7}},
    "selector": {"class_path": "LearningProgress"},  # would be the first to see the difference
}
MakeRun = Callable[..., Run]


def with_more(make_run: MakeRun, name: str = "run", changes: Mapping[str, Any] | None = None) -> Run:
    made: Run = make_run(name, {**MORE, **(changes or {})})
    return made


def means(run: Run) -> dict[int, CurveRow]:
    return {row.demonstrations: row for row in run.folder.read_curve() if row.task == MEAN}


@pytest.fixture(scope="module")
def longer(runs_from: Callable[[Path], MakeRun], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return with_more(runs_from(tmp_path_factory.mktemp("longer"))).complete()


def test_the_ends_have_more_episodes_and_all_else_is_as_without(make_run: MakeRun, longer: Run) -> None:
    plain = make_run("plain", {"selector": MORE["selector"]}).complete()
    assert longer.folder.read_selections() == plain.folder.read_selections()
    assert longer.folder.policy.read_bytes() == plain.folder.policy.read_bytes()
    rows, expected = longer.folder.read_curve(), plain.folder.read_curve()
    assert {n: row.episodes for n, row in means(longer).items()} == {0: 4 * 7, 2: 4 * 2, 4: 4 * 2, 5: 4 * 7}
    assert [row.matched_score for row in rows] == [row.score for row in expected]
    assert [row for row in rows if row.demonstrations in (2, 4)] == [
        row for row in expected if row.demonstrations in (2, 4)
    ]
    assert means(longer)[5].score != means(plain)[5].score
    told = longer.folder.read_facts()["tasks"]["goal=1"]
    assert told["episodes"] == 7 and told["score_of_rounds"] == rows[-2].matched_score


def test_a_killed_run_and_one_whose_budget_was_raised_come_out_alike(make_run: MakeRun, longer: Run) -> None:
    killed = with_more(make_run, "killed")
    assert killed.finish(kill_points.in_mid_epoch, 2) < 0
    assert_same_outcome(killed.complete(), longer)
    raised = with_more(make_run, "raised", {"active": {"budget": 4, "batch_size": 2}}).complete()
    assert {n: row.episodes for n, row in means(raised).items()} == {0: 28, 2: 8, 4: 28}
    assert_same_outcome(with_more(make_run, "raised").complete(), longer)


def test_the_last_evaluation_is_known_when_the_budget_is_lowered_to_what_is_there(make_run: MakeRun) -> None:
    cut = with_more(make_run, "cut", {"trainer": {"max_steps": 24}})
    assert cut.finish() == 4  # after two rounds of twelve steps
    assert means(cut)[4].episodes == 8
    lowered = with_more(make_run, "cut", {"active": {"budget": 4, "batch_size": 2}}).complete()
    whole = with_more(make_run, "whole", {"active": {"budget": 4, "batch_size": 2}}).complete()
    assert lowered.folder.curve.read_bytes() == whole.folder.curve.read_bytes()


def test_the_last_evaluation_is_known_when_a_rule_ends_the_run(make_run: MakeRun) -> None:
    stop = {"selector": {"class_path": "InformationGain"}, "active": {"stop": {"below": 1e6, "rounds": 2}}}
    run = with_more(make_run, "stop", stop).complete()
    assert {n: row.episodes for n, row in means(run).items()} == {0: 28, 2: 8, 4: 28}
    assert means(run)[4] == replace(means(run)[4], score_of_rounds=means(run)[4].matched_score)
    before = run.folder.curve.read_bytes()
    assert run.complete().folder.curve.read_bytes() == before


def test_fewer_than_the_rounds_have_is_refused(make_run: MakeRun) -> None:
    run = make_run("few", MORE, ("--data.evaluation_episodes", "9"))
    assert run.finish() == 2
    assert "first_and_last is 7, and the evaluations after rounds have 9 episodes" in run.log.read_text()


def test_another_training_seed_is_another_training_of_the_same_episodes(make_run: MakeRun) -> None:
    changes = {"selector": {"class_path": "Uniform"}, "active": {"budget": 2, "batch_size": 2}}
    first = make_run("first", changes).complete()
    other = make_run("other", {**changes, "data": {"training_seed": 77}}).complete()
    assert first.folder.read_selections() == other.folder.read_selections()
    assert [path.read_bytes() for path in sorted(first.folder.demonstrations.glob("[!.]*"))] == [
        path.read_bytes() for path in sorted(other.folder.demonstrations.glob("[!.]*"))
    ]
    assert means(first)[0] == means(other)[0] and means(first)[2] != means(other)[2]
