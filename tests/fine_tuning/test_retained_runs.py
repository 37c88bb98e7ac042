"""Whole runs of retentions that deploy a policy of their own: interrupted, on two processes, exported, gone on from."""

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_points
import pytest
import torch
from process_groups import end_of
from test_two_processes import SAME_SHARDS, TWO_PROCESSES, start
from tiny_runs import Run, assert_same_outcome

from amf_lightning.policies.mixture import IsolatedPolicy, PriorMixture
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.policies.weights import load_policy
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import Episode
from tiny import TinySuite

SUITE = TinySuite()
NAMES = [task.name for task in SUITE.tasks]
FREEZE = {"class_path": "FreezeByImportance", "init_args": {"fraction": 0.3}}
TWO_GROUPS = {"class_path": "ParameterIsolation", "init_args": {"groups": [NAMES[:2], NAMES[2:]]}}
RETENTIONS: dict[str, dict[str, Any]] = {
    "adaptive": {"class_path": "AdaptivePrior", "init_args": {"caution": 0.001}},
    "isolated": {"class_path": "CombinedRetention", "init_args": {"parts": [TWO_GROUPS, FREEZE]}},
}


@pytest.fixture(scope="module", params=RETENTIONS)
def retained(
    request: pytest.FixtureRequest,
    runs_from: Callable[[Path], Callable[..., Run]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Run]:
    """A run of each retention, left alone."""
    name: str = request.param
    make = runs_from(tmp_path_factory.mktemp(name))
    return name, make("run", {"retention": RETENTIONS[name]}).complete()


def test_a_run_that_was_killed_ends_like_one_that_was_not(
    make_run: Callable[..., Run], retained: tuple[str, Run]
) -> None:
    run = make_run("run", {"retention": RETENTIONS[retained[0]]})
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), retained[1])
    assert run.folder.forgetting.read_bytes() == retained[1].folder.forgetting.read_bytes()


def test_the_exported_file_is_the_policy_that_was_evaluated(retained: tuple[str, Run]) -> None:
    policy = frozen_copy(load_policy(str(retained[1].folder.policy)).make())
    assert isinstance(policy, {"adaptive": PriorMixture, "isolated": IsolatedPolicy}[retained[0]])
    tasks = json.loads(retained[1].folder.evaluation.read_text())["tasks"]
    for task in SUITE.tasks:
        episodes = [Episode(task, keyed_seed(0, Purpose.EVALUATE, task.index, number)) for number in range(2)]
        returns = [trajectory.episode_return for trajectory in rollout(policy, SUITE, episodes)]
        assert tasks[task.name]["return"] == pytest.approx(sum(returns) / 2, rel=1e-12)


def test_what_was_protected_is_pi_zero_to_the_bit(pretrained: Path, retained: tuple[str, Run]) -> None:
    name, run = retained
    before, after = load_policy(str(pretrained)).tensors, load_policy(str(run.folder.policy)).tensors
    if name == "adaptive":
        assert all(torch.equal(after[f"prior.{key}"], tensor) for key, tensor in before.items())
        assert any(not torch.equal(after[f"learner.{key}"], tensor) for key, tensor in before.items())
        return
    weights = {key: tensor for key, tensor in before.items() if "head" in key or "backbone" in key}
    for copy in (0, 1):
        moved = torch.cat([(after[f"copies.{copy}.{key}"] != tensor).flatten() for key, tensor in weights.items()])
        kept = round(0.3 * len(moved))
        demonstrated = {job.task for job in run.folder.read_selections()} & set(NAMES[2 * copy : 2 * copy + 2])
        assert int((~moved).sum()) == (kept if demonstrated else len(moved))


def test_forgetting_is_in_its_table_and_in_the_report(retained: tuple[str, Run]) -> None:
    name, run = retained
    with run.folder.forgetting.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["demonstrations"], row["task"]) for row in rows] == [
        (number, task) for number in ("0", "2", "4", "5") for task in [*NAMES, "mean"]
    ]
    curve = {(row.demonstrations, row.task): row.score for row in run.folder.read_curve()}
    for row in rows:
        if row["task"] != "mean":
            key = int(row["demonstrations"]), row["task"]
            assert float(row["score"]) == curve[key]
            assert float(row["forgotten"]) == curve[0, row["task"]] - curve[key]
            assert ("alpha" in row) == (name == "adaptive")
            assert row["pretrained"] == str(int(row["task"] in NAMES[:2]))
    report, frozen = run.folder.report.read_text(), float(rows[-1]["frozen"])
    if name == "adaptive":
        alphas = {row["task"]: float(row["alpha"]) for row in rows[-5:-1]}
        assert max(alphas.values()) > 0 and "What AdaptivePrior measured of each task" in report
        assert [float(row["alpha"]) for row in rows[:4]] == [0] * 4
    else:
        assert frozen == pytest.approx(0.3, abs=0.001) and "copies.0.head.weight" in report


def test_a_following_run_starts_from_the_exported_policy(
    make_run: Callable[..., Run], retained: tuple[str, Run]
) -> None:
    changes = {
        "retention": {"class_path": "SelfDistillation"},
        "model": {"pretrained": str(retained[1].folder.policy)},
        "active": {"budget": 1, "batch_size": 1},
    }
    following = make_run("following", changes).complete()
    last = {row.task: row.score for row in retained[1].folder.read_curve() if row.demonstrations == 5}
    first = {row.task: row.score for row in following.folder.read_curve() if row.demonstrations == 0}
    assert first == last
    assert (
        load_policy(str(following.folder.policy)).policy_class
        == load_policy(str(retained[1].folder.policy)).policy_class
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaptive", "isolated"])
def test_two_processes_make_the_same_run_as_one_that_accumulates(make_run: Callable[..., Run], name: str) -> None:
    changes = {"retention": RETENTIONS[name], "active": {"budget": 2, "batch_size": 1}}
    one = make_run("one", changes, SAME_SHARDS).complete()
    two = make_run("two", changes, TWO_PROCESSES)
    assert end_of(start(two), within=240) == 0, two.log.read_text()
    assert_same_outcome(two, one)


def test_sharded_strategies_are_refused_at_the_start(make_run: Callable[..., Run]) -> None:
    strategy = {"class_path": "lightning.pytorch.strategies.ModelParallelStrategy"}
    run = make_run("run", {"trainer": {"strategy": strategy, "devices": 1}})
    assert run.finish() == 2
    assert "ModelParallelStrategy, which shards the policy" in run.log.read_text()
    assert not run.folder.ledger.exists()
