"""How much of a setback is the evaluation's own noise: the same policies, evaluated with two sets of episodes.

    for n in default-humanoid needs-humanoid; do
      amf compare --config configs/compare/$n.yaml --output docs/results/$n --runs runs/$n
    done
    python benchmarks/evaluation_noise.py docs/results/default-humanoid docs/results/needs-humanoid

The first comparison evaluates with ten episodes a task, the second with the same ten and ten more, and evaluations
change nothing of a run. So the scores of the other ten follow, and there are two independent evaluations of every
policy of the runs that both have. Half of the variance of the difference between them is noise. How alike both rank the
tasks by need says how well need could be known, here in the rounds that `benchmarks/needs.py` looks at.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amf_lightning.campaign.curve import MEAN
from amf_lightning.evaluation.statistics import bootstrap_interval, rank_correlation
from amf_lightning.studies.rows import RunRows, read_rows, tables

FEW, MANY = "latest deployed", "GapReduction"
"""Names in the two comparisons of the strategy that evaluates the policy of every round."""
LIMIT = 0.1
"""A policy is in need if its largest gap exceeds it."""
Array = NDArray[np.float64]


def curves(folder: Path, strategy: str) -> dict[int, RunRows]:
    """The runs of a strategy by seed."""
    return {run.seed: run for run in read_rows(tables(folder / "curves")) if run.strategy == strategy}


def two_evaluations(few: RunRows, many: RunRows, task: str) -> tuple[Array, Array]:
    """The scores of all policies of a run in a task, or their mean, with the few episodes and with the others, [R]."""
    first, both = few.of(task), many.of(task)
    if [row.demonstrations for row in first] != [row.demonstrations for row in both]:
        raise SystemExit(f"Seed {few.seed} was evaluated at other times in the two comparisons.")
    some, every = np.array([row.score for row in first]), np.array([row.score for row in both])
    share = np.array([row.episodes for row in first]) / np.array([row.episodes for row in both])
    return some, (every - share * some) / (1 - share)


def agreement(few: RunRows, many: RunRows) -> float:
    """Rank correlation over tasks of two evaluations of a policy, mean over the policies in need before a choice."""
    some, others = (np.array(each) for each in zip(*(two_evaluations(few, many, t) for t in few.tasks), strict=True))
    in_need = (1 - (some + others) / 2).max(0) > LIMIT
    found = [rank_correlation(some[:, r], others[:, r], orders=1) for r in np.flatnonzero(in_need[:-1])]
    return float(np.mean([0.0 if each is None else each.value for each in found])) if found else float("nan")


def lines(few: Path, many: Path) -> Iterator[str]:
    """What there is to say about the runs that two comparisons share."""
    with_few, with_many = curves(few, FEW), curves(many, MANY)
    shared = [(with_few[seed], with_many[seed]) for seed in sorted(with_few.keys() & with_many.keys())]
    if not shared:
        raise SystemExit(f"{few} and {many} have no run of the same seed.")
    pairs = [two_evaluations(*both, MEAN) for both in shared]
    falls = [[max(0.0, -float(np.diff(curve).min())) for curve in pair] for pair in pairs]
    yield f"{len(pairs)} runs, {len(pairs[0][0])} evaluations each; mean over runs and 90 % interval"
    noise = [float((some - others).std() / 2**0.5) for some, others in pairs]
    flat = np.random.default_rng(0).normal(0, np.mean(noise), (100_000, len(pairs[0][0])))
    for name, values in (
        ("noise of a mean score", noise),
        ("noise of its change", [float((np.diff(some) - np.diff(others)).std() / 2**0.5) for some, others in pairs]),
        ("setback, the ten episodes", [pair[0] for pair in falls]),
        ("setback, the other ten", [pair[1] for pair in falls]),
        ("rank correlation of tasks", [value for both in shared if not np.isnan(value := agreement(*both))]),
    ):
        mean, low, high = bootstrap_interval(values)
        yield f"{name}: {mean:.3f} [{low:.3f}, {high:.3f}]"
    yield f"setback that this noise would show if nothing changed: {-np.diff(flat).min(1).mean():.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("few", type=Path, help="folder of the comparison with ten episodes")
    parser.add_argument("many", type=Path, help="folder of the comparison with twenty")
    arguments = parser.parse_args()
    print("\n".join(lines(arguments.few, arguments.many)))


if __name__ == "__main__":
    main()
