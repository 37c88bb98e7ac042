"""How much memory a run with a large policy takes: it trains, selects and exports, in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/large_policy.py

A perceptron of 100 million parameters is made and written into a file, and fine-tuned from it by `amf fit` on the
integrator: two rounds, chosen by `InformationGain` in features of π0, with checkpoints and the exported file. The peak
is the largest resident memory of the run's process. A run of this optimiser cannot do with less than the weights twice
(as π0 and as what is trained), gradients and the two moments of AdamW; a checkpoint is serialised beside them.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import save_policy
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.steps import Steps

LIMIT = 24.0
"""GiB that the run may take."""
GIB = 2**30


def write_policy(path: Path, hidden: list[int]) -> int:
    """Writes π0 with statistics of made-up states of the first task; its parameters."""
    suite = Integrator()
    torch.manual_seed(0)
    policy = MLPPolicy(suite.observation, suite.context_dim, suite.action_dim, hidden=hidden)
    tasks = torch.zeros(256, dtype=torch.int64)
    steps = Steps({"state": torch.randn(256, suite.observation["state"].shape[0])}, tasks, suite.contexts[tasks])
    policy.fit_normaliser(steps)
    covers = {suite.tasks[0].name: 8}
    save_policy(path, policy, suite.signature(), feature_statistics(policy, steps, covers), covers)
    return sum(weight.numel() for weight in policy.parameters())


def measure(parameters: float) -> dict[str, float]:
    """Parameters, the least that such a run takes, and its peak, in GiB."""
    width = max(8, round(parameters**0.5))
    hidden = [width, width, 64]
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start.safetensors"
        count = write_policy(start, hidden)
        before = time.perf_counter()
        command = [
            *(sys.executable, "-m", "amf_lightning", "fit", "--config", "configs/integrator.yaml"),
            *("--model.policy", "MLPPolicy", "--model.policy.hidden", json.dumps(hidden)),
            *("--model.pretrained", str(start), "--retention", "NoRetention", "--selector", "InformationGain"),
            *("--selector.embedding", "LastLayerFeatures"),
            *("--active.budget", "2", "--data.steps_per_round", "3", "--data.batch_size", "32"),
            *("--data.evaluation_episodes", "1", "--reports.animation", "false"),
            *("--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(Path(folder) / "run")),
        ]
        root = Path(__file__).resolve().parents[1]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        exported = (Path(folder) / "run" / "policy.safetensors").stat().st_size
        assert exported > 4 * count
        seconds = time.perf_counter() - before
    weights = 4 * count / GIB
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GIB
    return {
        "parameters": float(count),
        "weights": weights,
        "least": 5 * weights,
        "peak": peak,
        "ratio": peak / (5 * weights),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=1e8)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    given = parser.parse_args()
    row = measure(given.parameters)
    print(f"| a run with {row['parameters'] / 1e6:.1f} M parameters | GiB | of the least |\n|---|---:|---:|")
    print(f"| the weights | {row['weights']:.2f} | |")
    print(f"| π0, what is trained, gradients, AdamW | {row['least']:.2f} | 1.00 |")
    print(f"| peak | {row['peak']:.2f} | {row['ratio']:.2f} |")
    print(f"\nThe limit is {LIMIT:.0f} GiB: {'met' if row['peak'] <= LIMIT else 'MISSED'}; {row['seconds']:.0f} s.")
    if given.json:
        given.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
