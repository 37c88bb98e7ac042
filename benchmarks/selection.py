"""How long it takes to score every task once: against activeft, and as the number of tasks grows.

    python benchmarks/selection.py --tasks 10 30 100 300 1000 --states 16 --features 257 --threads 2
    python benchmarks/selection.py --advisor 1000 --features 256 --threads 1

Times are the best of a few; ratios are those of one repetition, in which both sides are timed one after the other, and
the tables give the median over `--repeats` repetitions with the smallest and the largest. `activeft` is the dense
reference: it conditions the covariance matrix of all states on one candidate after the other. The product is one
[N, d] x [d, N] matrix product over all N states.
"""

import argparse
import importlib.util
import json
import math
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amf_lightning.selection.advice import advise
from amf_lightning.selection.information_gain import Blocks, Problem, marginal_gains
from amf_lightning.uncertainty.posterior import FeatureSpacePosterior

HORIZON, KAPPA, RIDGE = 200.0, 0.1, 0.1
Repetitions = Sequence[dict[str, float]]
"""One size: what each repetition measured."""
DENSE_LIMIT = 100
"""Tasks above which the dense reference is not run: its matrix grows with the square of the states."""


def problem_of(tasks: int, states: int, features: int, device: str, dtype: torch.dtype) -> Problem:
    """Random states around a centre for each task; the same in both roles."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(tasks, 1, features, generator=generator, dtype=torch.float64)
    points = (centres + 0.5 * torch.randn(tasks, states, features, generator=generator, dtype=torch.float64)) / 16
    ones = torch.ones(tasks, dtype=torch.float64, device=device)
    blocks = Blocks(points.to(device, dtype), torch.arange(tasks, device=device), ones, HORIZON * ones)
    return Problem(blocks, blocks, ones / tasks)


def posterior_of(features: int, device: str) -> FeatureSpacePosterior:
    history = torch.randn(1000, features, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 16
    return FeatureSpacePosterior.prior(features, RIDGE).condition(history.to(device))


def dense_scores(posterior: FeatureSpacePosterior, problem: Problem) -> Tensor:
    """The same scores through `activeft.gaussian.GaussianCovarianceMatrix.condition_on`."""
    states = problem.candidates.points.shape[1]
    rows = problem.targets.points.flatten(0, 1)
    prior = activeft_gaussian().GaussianCovarianceMatrix(rows @ torch.cholesky_solve(rows.T, posterior.factor))
    index = torch.arange(len(rows))
    before, weights = prior[index, index], problem.state_weights.flatten()
    scores = []
    for start in range(0, len(rows), states):
        after = prior.condition_on(index[start : start + states], noise_std=(states / HORIZON) ** 0.5)
        scores.append((weights * 0.5 * torch.log((before + KAPPA) / (after[index, index] + KAPPA))).sum())
    return torch.stack(scores)


def activeft_gaussian() -> Any:
    """The one module of activeft that is needed; importing the package would need faiss."""
    package = importlib.util.find_spec("activeft")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("activeft is not installed: pip install activeft==0.1.1")
    path = Path(package.submodule_search_locations[0]) / "gaussian.py"
    spec = importlib.util.spec_from_file_location("activeft_gaussian", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seconds(run: Callable[[], object], device: str, repetitions: int) -> float:
    """Best time of a few repetitions, after one to warm up."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def measure(tasks: int, states: int, features: int, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Times in seconds for one number of tasks, how they relate, and how far the two ways agree."""
    problem, posterior = problem_of(tasks, states, features, device, dtype), posterior_of(features, device)
    repetitions = 2 if tasks > DENSE_LIMIT else 5
    row = {
        "tasks": float(tasks),
        "score": seconds(lambda: marginal_gains(posterior, problem, KAPPA), device, repetitions),
        # Before the product below, which needs more than the scoring does.
        "peak_gib": peak_gib(device),
    }
    if tasks <= DENSE_LIMIT and dtype == torch.float64 and device == "cpu":
        ours, dense = marginal_gains(posterior, problem, KAPPA), dense_scores(posterior, problem)
        row["dense"] = seconds(lambda: dense_scores(posterior, problem), device, 2)
        row["times_faster"] = row["dense"] / row["score"]
        row["relative_error"] = float(((ours - dense) / dense).abs().max())
        row["same_pick"] = float(ours.argmax() == dense.argmax())
    rows = problem.targets.points.flatten(0, 1)
    row["product"] = seconds(lambda: rows @ rows.T, device, repetitions)
    row["products"] = row["score"] / row["product"]
    return row


def peak_gib(device: str) -> float:
    """Largest memory of the process so far, or of the device."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def exponent(sizes: Sequence[Repetitions]) -> float:
    """Slope of log time against log tasks, over the upper half of the sizes."""
    upper = sizes[len(sizes) // 2 :] if len(sizes) > 3 else sizes
    if len(upper) < 2:
        return math.nan
    x = torch.tensor([math.log(middle(rows, "tasks")) for rows in upper])
    y = torch.tensor([math.log(middle(rows, "score")) for rows in upper])
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def middle(rows: Repetitions, key: str) -> float:
    return median(row[key] for row in rows)


def spread(rows: Repetitions, key: str, digits: int) -> str:
    """Median, smallest and largest."""
    values = [row[key] for row in rows]
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_tables(sizes: Sequence[Repetitions]) -> None:
    """Against activeft, then the growth."""
    if dense := [rows for rows in sizes if "dense" in rows[0]]:
        print("\n| tasks | ours, s | activeft, s | times faster | largest relative difference | same pick |")
        print("|---:|---:|---:|---:|---:|---|")
    for rows in dense:
        same = all(row["same_pick"] for row in rows)
        print(
            f"| {rows[0]['tasks']:.0f} | {middle(rows, 'score'):.4f} | {middle(rows, 'dense'):.3f} "
            f"| {spread(rows, 'times_faster', 0)} | {max(row['relative_error'] for row in rows):.1e} "
            f"| {'yes' if same else 'NO'} |"
        )
    print("\n| tasks | one scoring, s | one matrix product, s | ratio | peak memory, GiB |")
    print("|---:|---:|---:|---:|---:|")
    for rows in sizes:
        # The memory of the first repetition: later ones come after products, which need more than the scoring does.
        print(
            f"| {rows[0]['tasks']:.0f} | {middle(rows, 'score'):.4f} | {middle(rows, 'product'):.4f} "
            f"| {spread(rows, 'products', 2)} | {rows[0]['peak_gib']:.2f} |"
        )
    print(f"\nTime grows like tasks^{exponent(sizes):.2f} (fitted to the upper half; the work is quadratic).")


def advisor_times(tasks: int, features: int, requests: int = 8) -> dict[str, float]:
    """Seconds of the clock and of the processor in which `advise` names requests; half of the tasks were shown once."""
    generator = np.random.default_rng(0)
    centres = {f"task {task:04d}": generator.normal(size=features) for task in range(tasks)}

    def episode(name: str) -> Any:
        return (centres[name] + 0.5 * generator.normal(size=(int(HORIZON), features))).astype(np.float32)

    looks = {name: [episode(name), episode(name)] for name in centres}
    shown = {name: [episode(name)] for name in list(centres)[: tasks // 2]}
    clock, processor = time.perf_counter(), time.process_time()
    advise(looks, shown, count=requests)
    return {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - processor}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[10, 30, 100, 300, 1000])
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--features", type=int, default=257)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--float32", action="store_true", help="points in single precision; factors stay in double")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--advisor", type=int, metavar="TASKS", help="time the advisor with eight requests instead")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.advisor:
        times = advisor_times(arguments.advisor, arguments.features)
        print(
            f"The advisor took {times['seconds']:.2f} s ({times['cpu_seconds']:.2f} s of the processor) for eight "
            f"requests among {arguments.advisor} tasks with {arguments.features} features."
        )
        if arguments.json:
            arguments.json.write_text(json.dumps(times))
        return
    dtype = torch.float32 if arguments.float32 else torch.float64
    sizes = [
        [
            measure(tasks, arguments.states, arguments.features, arguments.device, dtype)
            for _ in range(arguments.repeats)
        ]
        for tasks in sorted(arguments.tasks)
    ]
    print_tables(sizes)
    if arguments.json:
        arguments.json.write_text(json.dumps({"exponent": exponent(sizes), "sizes": sizes}, indent=1))


if __name__ == "__main__":
    main()
