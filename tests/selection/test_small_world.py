"""Selection where the best answer is known."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from amf_lightning.selection.information_gain import Joint
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior


@pytest.fixture(scope="module")
def small_world() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "small_world.py"
    spec = importlib.util.spec_from_file_location("small_world", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_world"] = module
    spec.loader.exec_module(module)
    return module


def test_joint_over_all_candidate_states_is_the_gain_of_information(small_world: ModuleType) -> None:
    points = small_world.world(0)
    problem = small_world.problem_of(points, Joint(1e-9))
    prior = FeatureSpacePosterior.prior(points.shape[2], small_world.RIDGE)
    known: list[int] = []
    for pick in (2, 0, 2):
        belief = prior.condition(points[known].flatten(0, 1)) if known else prior
        gains = Joint(1e-9).gains(belief, problem)
        expected = [small_world.information(points, [*known, task]) for task in range(len(points))]
        before = small_world.information(points, known) if known else 0.0
        assert torch.allclose(gains, torch.tensor(expected, dtype=torch.float64) - before, rtol=1e-5)
        known.append(pick)


def test_greedy_joint_reaches_its_share_of_the_optimum_for_every_budget(small_world: ModuleType) -> None:
    table = small_world.ratios(worlds=4, budget=6)["joint, all states"]
    assert table.shape == (4, 6)
    assert float(table.min()) >= 1 - 1 / math.e
    assert float(table.max()) <= 1 + 1e-12
    assert torch.allclose(table[:, 0], torch.ones(4, dtype=torch.float64))  # one pick of greedy is the best one


def test_the_optimum_is_the_best_of_all_multisets(small_world: ModuleType) -> None:
    points = small_world.world(3, tasks=3)
    picks, value = small_world.optimum(points, 2)
    pairs = [(i, j) for i in range(3) for j in range(3)]
    assert value == pytest.approx(max(small_world.information(points, pair) for pair in pairs))
    assert small_world.information(points, picks) == value
