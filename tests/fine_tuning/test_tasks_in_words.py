"""Runs whose tasks are sentences: new ones need no new number, and the policy of a run begins another with others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from selection_world import mlp
from spoken import SENTENCES, SpokenSuite
from tiny_runs import PRETRAINING, Run

from amf_lightning.configuration import merge
from amf_lightning.errors import InputError
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.language import HashedWords
from amf_lightning.tasks.task import Episode

LANGUAGE = {"class_path": "HashedWords", "init_args": {"dimension": 16}}


def spoken(*goals: int, **language: Any) -> dict[str, Any]:
    arguments = {"goals": list(goals), "language": merge(LANGUAGE, {"init_args": language})}
    return {"suite": {"class_path": "spoken.SpokenSuite", "init_args": arguments}}


def test_a_policy_of_some_sentences_begins_a_run_of_others(tmp_path: Path) -> None:
    """Of the new sentences π0 knows none; InformationGain, GapReduction and distillation go on from its file."""
    schedule = {"class_path": "FixedSchedule", "init_args": {"tasks": {SENTENCES[0]: 2, SENTENCES[3]: 2}}}
    first = Run(tmp_path / "first", merge(PRETRAINING | {"selector": schedule}, spoken(0, 3))).complete()
    start = load_policy(str(first.folder.policy))
    assert start.suite["language"] == {"encoder": "HashedWords", "dimension": 16, "pairs": True}
    assert start.pretraining_counts == {SENTENCES[0]: 2, SENTENCES[3]: 2} and "tasks" not in start.suite
    pretrained = {"model": {"pretrained": str(first.folder.policy)}, "active": {"budget": 2, "batch_size": 1}}
    retention = {"class_path": "SelfDistillation", "init_args": {"tasks": "pretrained"}}
    for name, goals in (("InformationGain", (3, 2, 1, 0)), ("GapReduction", (1, 2))):
        settings = {"selector": {"class_path": name}, "retention": retention} | pretrained
        run = Run(tmp_path / name, merge(settings, spoken(*goals))).complete()
        selections = run.folder.read_selections()
        assert len(selections) == 2 and {each.task for each in selections} <= {SENTENCES[goal] for goal in goals}
        if name == "InformationGain":
            assert selections[0].task in SENTENCES[1:3], "what π0 knows is not asked for"
        file = load_policy(str(run.folder.policy))
        suite = SpokenSuite(HashedWords(16), goals)
        file.check_suite(suite.signature())
        policy = file.make()
        (episode,) = rollout(policy, suite, [Episode(suite.tasks[0], 5)])
        assert episode.length == 12 and all(torch.isfinite(each).all() for each in policy.state_dict().values())
        assert set(file.pretraining_counts) == {SENTENCES[0], SENTENCES[3], *(each.task for each in selections)}


@pytest.mark.parametrize(
    ("language", "reason"),
    [({"dimension": 8}, "context_dim 16 instead of 8"), ({"pairs": False}, "'pairs': True} instead of")],
)
def test_a_policy_that_was_told_otherwise_is_refused(tmp_path: Path, language: dict[str, Any], reason: str) -> None:
    suite = SpokenSuite(HashedWords(16))
    save_policy(tmp_path / "start.safetensors", mlp(suite), suite.signature(), None, {})
    other = SpokenSuite(HashedWords(**{"dimension": 16, **language}))
    with pytest.raises(InputError, match=f"belongs to another suite.*{reason}"):
        load_policy(str(tmp_path / "start.safetensors")).check_suite(other.signature())
