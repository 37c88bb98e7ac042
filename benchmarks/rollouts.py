"""Environment steps per second of a policy's rollouts, beside gymnasium's own loop without a policy.

    OMP_NUM_THREADS=1 python benchmarks/rollouts.py

Thirty HalfCheetah episodes side by side with a 256 x 256 policy, on one core. The bare loop repeats the actions that
the policy chose, episode by episode, in the stock environment: the same physics, and nothing but `step`. Episodes of
the integrator, which are rows of one array, stand beside the same ones stepped by their environments. The times are of
the processor and the best of all repetitions, which take turns, so that what else runs on the machine counts little.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import torch

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import build_policy, load_policy
from amf_lightning.seeding import Purpose, keyed_generator, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.suites.integrator import Integrator
from amf_lightning.suites.velocity import make_mujoco
from amf_lightning.tasks.task import Episode, Task
from amf_lightning.tasks.trajectory import Trajectory

LIMIT = 0.7
"""Least share of the bare loop's steps per second."""


class ThroughGymnasium(HalfCheetahVelocity):
    """The same suite; what is not exactly `HalfCheetahVelocity` is stepped by its environments."""


def policy_of(suite: HalfCheetahVelocity) -> MLPPolicy:
    """The shipped π0 of the mismatched start."""
    policy = build_policy(MLPPolicy, suite.dimensions, keyed_generator(0, Purpose.INITIALISE))
    load_policy("halfcheetah/mismatched").load_into(policy)
    assert isinstance(policy, MLPPolicy)
    return policy


class IntegratorThroughGymnasium(Integrator):
    """Makes its environments by a method of its own, so gymnasium steps them."""

    def make(self, task: Task, render_mode: str | None = None) -> gymnasium.Env[np.ndarray, np.ndarray]:
        return super().make(task, render_mode)


class BareLoop:
    """Repeats trajectories in the stock environment, one after the other."""

    def __init__(self, trajectories: list[Trajectory]) -> None:
        self.trajectories = trajectories
        self.env: gymnasium.Env[np.ndarray, np.ndarray] = make_mujoco(
            "HalfCheetah-v5", len(trajectories[0].actions), None
        )

    def seconds(self) -> float:
        """Of all steps; resets are left out."""
        spent = 0.0
        for trajectory in self.trajectories:
            self.env.reset(seed=trajectory.seed)
            start = time.process_time()
            for action in trajectory.actions:
                observation, _, _, _, _ = self.env.step(action)
            spent += time.process_time() - start
            assert np.array_equal(observation.astype(np.float32), trajectory.state[-1]), "not the same physics"
        return spent


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(episodes_per_task: int, repetitions: int) -> dict[str, float]:
    """Environment steps per second of each way, and their share of the bare loop's."""
    suite, stock = HalfCheetahVelocity(), ThroughGymnasium()
    policy = policy_of(suite)
    episodes = [
        Episode(task, keyed_seed(0, Purpose.MEASURE, task.index, number))
        for task in suite.tasks
        for number in range(episodes_per_task)
    ]
    trajectories = rollout(policy, suite, episodes)
    bare = BareLoop(trajectories)
    rollout(policy, stock, episodes)  # makes its environments
    ways: dict[str, Callable[[], float]] = {
        "bare": bare.seconds,
        "gymnasium": lambda: seconds(lambda: rollout(policy, stock, episodes)),
        "ours": lambda: seconds(lambda: rollout(policy, suite, episodes)),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(repetitions):
        for name, way in ways.items():
            best[name] = min(best[name], way())
    steps = sum(trajectory.length for trajectory in trajectories)
    rates = {name: steps / spent for name, spent in best.items()}
    return {**rates, "gymnasium_ratio": rates["gymnasium"] / rates["bare"], "ratio": rates["ours"] / rates["bare"]}


def measure_integrator(episodes_per_task: int, repetitions: int) -> dict[str, float]:
    """Seconds of processor time that the integrator's episodes take, and those through gymnasium; the best of each."""
    suites = {"integrator": Integrator(), "integrator_gymnasium": IntegratorThroughGymnasium()}
    policy = build_policy(MLPPolicy, Integrator().dimensions, keyed_generator(0, Purpose.INITIALISE))
    best = dict.fromkeys(suites, float("inf"))
    for _ in range(repetitions + 1):  # the first makes the environments
        for name, suite in suites.items():
            episodes = [Episode(task, number) for number in range(episodes_per_task) for task in suite.tasks]
            best[name] = min(best[name], seconds(partial(rollout, policy, suite, episodes)))
    return {**best, "integrator_ratio": best["integrator"] / best["integrator_gymnasium"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=3, help="of each of ten tasks, side by side")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    row = measure(arguments.episodes, arguments.repetitions)
    row |= measure_integrator(arguments.episodes, arguments.repetitions)
    print("| | environment steps/s | of the bare loop |\n|---|---:|---:|")
    print(f"| gymnasium, one environment, no policy | {row['bare']:,.0f} | 1.00 |")
    print(f"| `rollout`, stepped by gymnasium | {row['gymnasium']:,.0f} | {row['gymnasium_ratio']:.2f} |")
    print(f"| `rollout` | {row['ours']:,.0f} | {row['ratio']:.2f} |")
    print(f"\nThe limit is {LIMIT}: {'met' if row['ratio'] >= LIMIT else 'MISSED'}.")
    print(
        f"\nThe integrator's episodes take {row['integrator']:.4f} s, "
        f"through gymnasium {row['integrator_gymnasium']:.4f} s: {row['integrator_ratio']:.2f}."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
