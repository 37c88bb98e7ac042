"""What it takes to collect demonstrations of Metaworld's fifty tasks, and to choose among them.

    OMP_NUM_THREADS=1 .venv-metaworld/bin/python benchmarks/metaworld_speed.py

One demonstration of each task by the scripted policies, side by side, environments made before; then one choice by
`InformationGain` as shipped, with a policy of 256 x 256 that was never trained: hardly any rollout ends early. The
times are of the processor, on one thread, so that what else runs on the machine counts little. The rollouts are
the simulator's; a round of ten demonstrations needs them once.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from amf_lightning.experts.metaworld import MetaworldExpert
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import build_policy
from amf_lightning.seeding import Purpose, keyed_generator, keyed_seed
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import PolicyRollout
from amf_lightning.simulation.rollout import rollout
from amf_lightning.simulation.simulation import environments
from amf_lightning.suites.metaworld import Metaworld
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.steps import steps_of
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.embeddings import LastLayerFeatures

T = TypeVar("T")
ROUND = 10
LIMITS = {"collect": 30.0, "choose": 2.0}
"""Seconds for a demonstration of each task, and for one choice without the simulator."""


class Clock:
    """Seconds of the processor that were spent within."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def run(self, what: Callable[[], T]) -> T:
        start = time.process_time()
        found = what()
        self.seconds += time.process_time() - start
        return found


def collected(suite: Metaworld) -> tuple[list[Trajectory], float]:
    """A demonstration of each task, and how long they took."""
    episodes = [Episode(task, keyed_seed(1000, Purpose.MEASURE, task.index)) for task in suite.tasks]
    for start in range(0, len(episodes), 32):
        environments(suite, episodes[start : start + 32])
    clock = Clock()
    return clock.run(lambda: MetaworldExpert().demonstrate(suite, episodes)), clock.seconds


def context_of(suite: Metaworld, demonstrations: list[Trajectory], simulator: Clock) -> SelectionContext:
    """The second round of a run whose π0 knows the first half of the tasks, each shown once."""
    policy = build_policy(MLPPolicy, suite.dimensions, keyed_generator(1000, Purpose.INITIALISE)).eval()
    half = demonstrations[: len(demonstrations) // 2]
    steps = steps_of(half, suite)
    policy.fit_normaliser(steps)
    statistics = feature_statistics(policy, steps, {shown.task: 1 for shown in half})

    def run(acting: Acting, episodes: Sequence[Episode]) -> list[Trajectory]:
        return simulator.run(lambda: rollout(acting, suite, episodes))

    return SelectionContext(suite, policy, policy, statistics, demonstrations[-1:], round=1, seed=1000, rollout=run)


def measure(tasks: str | list[str], horizon: int | None) -> dict[str, float]:
    """Seconds of each part, and what they were spent on."""
    suite = Metaworld(tasks, horizon, reference=None)
    demonstrations, collect = collected(suite)
    simulator, all_of_it = Clock(), Clock()
    selector = InformationGain(LastLayerFeatures(tolerance=0.1), PolicyRollout())
    context = context_of(suite, demonstrations, simulator)
    with torch.no_grad():
        first = all_of_it.run(lambda: selector.select(context, 1))  # also makes environments and reference rollouts
        simulator.seconds = all_of_it.seconds = 0.0
        later = replace(context, _rollouts={})  # a context simulates the rollouts of the policy once
        again = all_of_it.run(lambda: selector.select(later, 1))
    assert first.picks == again.picks
    return {
        "tasks": float(len(suite.tasks)),
        "demonstrated_steps": float(sum(shown.length for shown in demonstrations)),
        "collect": collect,
        "rollout_steps": again.diagnostics["environment_steps"],
        "rollouts": simulator.seconds,
        "choose": all_of_it.seconds - simulator.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", help="instead of all fifty")
    parser.add_argument("--horizon", type=int, help="of every task")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    row = measure(arguments.tasks or "MT50", arguments.horizon)
    print(f"| {row['tasks']:.0f} tasks | seconds | environment steps | limit |\n|---|---:|---:|---:|")
    print(
        f"| a demonstration of each | {row['collect']:.1f} | {row['demonstrated_steps']:,.0f} | {LIMITS['collect']} |"
    )
    print(f"| a choice among them | {row['choose']:.2f} | | {LIMITS['choose']} |")
    print(f"| the rollouts that it looks at | {row['rollouts']:.1f} | {row['rollout_steps']:,.0f} | |")
    each = row["choose"] + row["rollouts"] / ROUND
    print(f"| both, each of a round of {ROUND} | {each:.2f} | | {LIMITS['choose']} |")
    missed = [name for name, limit in LIMITS.items() if row[name] > limit]
    print(f"\nThe limits are {'MISSED: ' + ', '.join(missed) if missed else 'met'}.")
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
