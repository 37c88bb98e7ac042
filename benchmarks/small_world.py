"""How close greedy selection comes to the best multiset of tasks, where that can be found by brute force.

    python benchmarks/small_world.py --worlds 20 --budget 6

Linear-Gaussian tasks: each shows a few states with random features, tasks overlap. The value of a multiset of
demonstrations is the information that it gives about all states, F = ½ log det(I + ΦΦᵀ/ρ), monotone and submodular,
so that greedy on F reaches at least 1 − 1/e = 0.632 of the optimum (Nemhauser, Wolsey & Fisher, 1978). `joint` with all
candidate states as one target is greedy on F as κ goes to 0; the other aggregates ask another question, and what they
reach of F is measured here.
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from amf_lightning.selection.greedy import choose_greedily
from amf_lightning.selection.information_gain import (
    Aggregate,
    Blocks,
    Joint,
    Marginal,
    Problem,
    Variance,
    task_scores,
    task_variances,
)
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior, Posterior

RIDGE = 0.1
AGGREGATES: Mapping[str, Aggregate | None] = {
    "joint, all states": Joint(kappa=1e-9),
    "marginal, kappa 0.1": Marginal(0.1),
    "marginal, kappa 1": Marginal(1.0),
    "variance": Variance(),
    "largest variance, no lookahead": None,
}


def world(seed: int, tasks: int = 5, states: int = 3, dimension: int = 8, overlap: float = 0.5) -> Tensor:
    """Features of the states of each task, [K, S, d] float64. A share `overlap` of each state is common to all tasks.

    Tasks differ in size, so that it is not enough to ask for each in turn.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    own = normal(tasks, 1, dimension) + 0.5 * normal(tasks, states, dimension)
    size = torch.exp(0.5 * normal(tasks, 1, 1))
    return size * (overlap * normal(1, 1, dimension) + (1 - overlap) * own)


def information(points: Tensor, picks: Sequence[int]) -> float:
    """F of a multiset of tasks, nats."""
    rows = points[list(picks)].flatten(0, 1)
    gram = torch.eye(len(rows), dtype=torch.float64) + rows @ rows.T / RIDGE
    return float(0.5 * torch.linalg.slogdet(gram).logabsdet)


def optimum(points: Tensor, budget: int) -> tuple[tuple[int, ...], float]:
    """The best multiset of `budget` tasks and its F, among all."""
    every = combinations_with_replacement(range(len(points)), budget)
    return max(((picks, information(points, picks)) for picks in every), key=lambda found: found[1])


def problem_of(points: Tensor, aggregate: Aggregate | None) -> Problem:
    """Candidates are the tasks. Targets are the same, but for `joint` one trajectory of all states."""
    tasks, states, dimension = points.shape
    ones = torch.ones(tasks, dtype=torch.float64)
    candidates = Blocks(points, torch.arange(tasks), ones, states * ones)
    if not isinstance(aggregate, Joint):
        return Problem(candidates, candidates, ones / tasks)
    everything = Blocks(points.reshape(1, -1, dimension), torch.tensor([0]), ones[:1], tasks * states * ones[:1])
    return Problem(candidates, everything, torch.eye(tasks, dtype=torch.float64)[0])


def greedy(points: Tensor, aggregate: Aggregate | None, budget: int) -> list[int]:
    """The picks of the package's own greedy selection, each conditioned on the ones before."""
    problem = problem_of(points, aggregate)

    def score(posterior: Posterior) -> Tensor:
        if aggregate is None:
            return task_variances(posterior, problem.candidates, len(points))
        return task_scores(aggregate.gains(posterior, problem), problem.candidates, len(points))

    prior = FeatureSpacePosterior.prior(points.shape[2], RIDGE)
    allowed = torch.ones(len(points), dtype=torch.bool)
    return choose_greedily(
        prior,
        problem.candidates,
        score,
        budget,
        lambda _: allowed,
        lambda position: torch.Generator().manual_seed(position),
    )[0]


def ratios(worlds: int, budget: int) -> dict[str, Tensor]:
    """F reached over F of the optimum, [worlds, budget], for every aggregate."""
    found = {name: torch.zeros(worlds, budget, dtype=torch.float64) for name in AGGREGATES}
    for seed in range(worlds):
        points = world(seed)
        best = [optimum(points, count)[1] for count in range(1, budget + 1)]
        for name, aggregate in AGGREGATES.items():
            picks = greedy(points, aggregate, budget)  # greedy: the first picks of a larger budget are the smaller's
            for count in range(1, budget + 1):
                found[name][seed, count - 1] = information(points, picks[:count]) / best[count - 1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("Information gained by greedy selection, as a share of the optimum: mean (worst).\n")
    columns = range(1, arguments.budget + 1)
    print(f"| aggregate | {' | '.join(f'N = {count}' for count in columns)} |")
    print(f"|---|{'---:|' * arguments.budget}")
    for name, table in ratios(arguments.worlds, arguments.budget).items():
        cells = [f"{float(column.mean()):.3f} ({float(column.min()):.3f})" for column in table.T]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
