import pytest
import torch
from selection_world import normal
from torch import Tensor

from amf_lightning.selection.greedy import choose_greedily, condition_on_task, level_ties
from amf_lightning.selection.information_gain import Blocks, Problem, marginal_gains, task_scores
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, Posterior


def problem_of(points: Tensor, tasks: list[int], weights: list[float]) -> Problem:
    blocks = Blocks(
        points,
        torch.tensor(tasks),
        torch.tensor(weights, dtype=torch.float64),
        torch.full((len(tasks),), 50.0, dtype=torch.float64),
    )
    count = max(tasks) + 1
    return Problem(blocks, blocks, torch.full((count,), 1 / count, dtype=torch.float64))


def choose(
    problem: Problem, batch_size: int, allowed: Tensor | None = None, seed: int = 0
) -> tuple[list[int], list[Tensor]]:
    count = len(problem.distribution)

    def score(posterior: Posterior) -> Tensor:
        return task_scores(marginal_gains(posterior, problem, 0.1), problem.candidates, count)

    return choose_greedily(
        FeatureSpacePosterior.prior(problem.candidates.points.shape[-1], 0.1),
        problem.candidates,
        score,
        batch_size,
        lambda _: torch.ones(count, dtype=torch.bool) if allowed is None else allowed,
        lambda position: torch.Generator().manual_seed(seed + position),
    )


def test_a_batch_is_single_picks_with_conditioning_on_expected_states() -> None:
    problem = problem_of(normal(6, 3, 8), [0, 0, 1, 2, 3, 3], [0.4, 0.6, 1.0, 1.0, 0.1, 0.9])
    picks, scores = choose(problem, 5)
    precision = 0.1 * torch.eye(8, dtype=torch.float64)
    for pick, row in zip(picks, scores, strict=True):
        posterior = FeatureSpacePosterior(precision, torch.linalg.cholesky(precision))
        alone = task_scores(marginal_gains(posterior, problem, 0.1), problem.candidates, 4)
        assert torch.allclose(row, alone, rtol=1e-9)
        assert pick == int(alone.argmax())
        blocks = problem.candidates
        for rows, task, weight in zip(blocks.points, blocks.tasks, blocks.weights, strict=True):
            if int(task) == pick:
                precision = precision + weight * rows.T @ rows / (3 / 50)


def test_separate_tasks_are_all_covered_before_one_is_repeated() -> None:
    points = torch.eye(5, dtype=torch.float64)[:, None, :].expand(-1, 3, -1).contiguous()
    picks, _ = choose(problem_of(points, [0, 1, 2, 3, 4], [1.0] * 5), 10)
    assert sorted(picks[:5]) == sorted(picks[5:]) == [0, 1, 2, 3, 4]


def test_equal_tasks_are_drawn_by_key() -> None:
    problem = problem_of(normal(1, 3, 8).expand(4, -1, -1).contiguous(), [0, 1, 2, 3], [1.0] * 4)
    draws = [choose(problem, 1, seed=seed)[0][0] for seed in range(40)]
    assert set(draws) == {0, 1, 2, 3}
    assert draws == [choose(problem, 1, seed=seed)[0][0] for seed in range(40)]


def test_ties_up_to_rounding_are_ties_and_missing_scores_are_never_chosen() -> None:
    scores = torch.tensor([1.0, 1.0 + 1e-13, 0.9, torch.nan, 5.0], dtype=torch.float64)
    level = level_ties(scores, torch.tensor([True, True, True, True, False]))
    assert level[0] == level[1] > level[2] > level[3]


def test_only_allowed_tasks_are_picked() -> None:
    problem = problem_of(normal(4, 3, 8), [0, 1, 2, 3], [1.0] * 4)
    best = choose(problem, 1)[0][0]
    allowed = torch.ones(4, dtype=torch.bool)
    allowed[best] = False
    picks, scores = choose(problem, 6, allowed)
    assert best not in picks
    assert torch.isfinite(scores[0]).all()


def test_conditioning_counts_a_mixture_once() -> None:
    """Two halves of the same trajectory are that trajectory."""
    block = normal(1, 3, 8)
    whole = problem_of(block, [0], [1.0]).candidates
    halves = problem_of(block.expand(2, -1, -1), [0, 0], [0.5, 0.5]).candidates
    prior = FeatureSpacePosterior.prior(8, 0.1)
    one, other = (condition_on_task(prior, blocks, 0) for blocks in (whole, halves))
    assert isinstance(one, FeatureSpacePosterior) and isinstance(other, FeatureSpacePosterior)
    assert torch.allclose(one.precision, other.precision)
    assert float(one.precision.trace()) == pytest.approx(0.8 + float(block.square().sum()) * 50 / 3)
