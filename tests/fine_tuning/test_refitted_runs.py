"""A Gaussian process through the same `amf fit`: no gradient steps, everything else as ever."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import kill_points
import pytest
import torch
from tiny_runs import CONFIGS, Run, assert_same_outcome, checkpoint

from amf_lightning.configuration import find_configuration, read_configuration
from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.weights import load_policy
from amf_lightning.suites.integrator import Integrator

SUITE = Integrator()


def integrator_run(folder: Path, name: str, config: str, options: tuple[str, ...] = (), **changes: Any) -> Run:
    base = {"config": str(CONFIGS / config), "reports": {"animation": False}}
    return Run(folder / name, changes, options, base)


def start(folder: Path, pretrained: Path, name: str = "run", options: tuple[str, ...] = (), **changes: Any) -> Run:
    """Three rounds of 2, 2 and 1 demonstrations."""
    model = {"pretrained": str(pretrained)}
    active = {"budget": 5, "batch_size": 2}
    return integrator_run(folder, name, "integrator.yaml", options, **{"model": model, "active": active} | changes)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return integrator_run(tmp_path_factory.mktemp("pre"), "run", "pretrain/integrator-3.yaml").complete().folder.policy


@pytest.fixture(scope="module")
def uninterrupted(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(tmp_path_factory.mktemp("whole"), pretrained).complete()


def test_the_policy_is_fitted_to_what_pi_zero_knows_and_all_demonstrations(
    pretrained: Path, uninterrupted: Run
) -> None:
    store = DemonstrationStore(uninterrupted.folder.demonstrations)
    rows = demonstration_rows([store.read(index) for index in range(5)], SUITE)
    before, found = load_policy(str(pretrained)).make(), load_policy(str(uninterrupted.folder.policy)).make()
    assert isinstance(before, GaussianProcessPolicy) and isinstance(found, GaussianProcessPolicy)
    expected = GaussianProcessPolicy(2, 2, 2)
    expected.refit(before, rows.everything())
    assert (int(before.used), int(found.used)) == (3 * 20, 8 * 20)
    assert torch.equal(found.rows, expected.rows)


def test_a_round_is_one_step_and_the_scores_rise(uninterrupted: Run) -> None:
    assert checkpoint(uninterrupted)["global_step"] == 3
    scores = {row.demonstrations: 0.0 for row in uninterrupted.folder.read_curve()}
    for row in uninterrupted.folder.read_curve():
        scores[row.demonstrations] += row.score / len(SUITE.tasks)
    assert sorted(scores) == [0, 2, 4, 5]
    assert scores[5] > scores[0] + 0.1


def test_the_file_counts_all_demonstrations_and_has_no_statistics(pretrained: Path, uninterrupted: Run) -> None:
    before, after = load_policy(str(pretrained)), load_policy(str(uninterrupted.folder.policy))
    assert {name: count for name, count in before.pretraining_counts.items() if count} == {
        "angle=0": 1,
        "angle=120": 1,
        "angle=240": 1,
    }
    assert sum(after.pretraining_counts.values()) == 8
    assert after.statistics is None


@pytest.mark.parametrize(
    "point", ["with_an_episode_half_collected", "between_ledger_and_training", "while_the_checkpoint_is_written"]
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    point: str, pretrained: Path, uninterrupted: Run, tmp_path: Path
) -> None:
    die: Callable[[int], None] = getattr(kill_points, point)
    run = start(tmp_path, pretrained)
    assert run.finish(die, 1) == -9, run.log.read_text()
    assert_same_outcome(run.complete(), uninterrupted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--retention=SelfDistillation",), "SelfDistillation has nothing to protect. Set retention: NoRetention"),
        (
            ("--selector.init_args.embedding=LastLayerFeatures", "--selector.init_args.embedding.statistics=false"),
            "needs features of the policy, but GaussianProcessPolicy has none",
        ),
        (("--model.policy.init_args.noise=0",), "noise is 0"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: tuple[str, ...], message: str, pretrained: Path, tmp_path: Path
) -> None:
    run = start(tmp_path, pretrained, options=options)
    assert run.finish() == 2
    assert message in " ".join(run.log.read_text().split())


@pytest.mark.parametrize(
    ("goals", "name"),
    [(3, "integrator"), *((goals, f"compare/bases/integrator-{goals}") for goals in (1, 6, 12))],
)
def test_a_start_is_shipped_for_each_number_of_goals(goals: int, name: str) -> None:
    content = read_configuration(find_configuration(f"configs/{name}.yaml"))
    file = load_policy(content["model"]["pretrained"])
    file.check_suite(SUITE.signature())
    options = content["model"]["policy"]["init_args"]
    file.load_into(GaussianProcessPolicy(2, 2, 2, **options))
    assert options.items() <= file.options.items()
    assert sum(file.pretraining_counts.values()) == goals
    assert set(file.pretraining_counts.values()) <= {0, 1}
