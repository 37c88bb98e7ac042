"""What a GPU is worth: the training step, the choice among many tasks, and whether CPU and GPU choose alike.

    python benchmarks/gpu.py --json gpu.json

Training steps are those of `amf fit` in this process, with rollouts left out: the median over blocks of steps, after a
round that warms up. Selection is one scoring of every task in float64, and the conditioning of the belief on one pick.
The runs are the shipped one, short, on the CPU and twice on the GPU. Where no GPU is at hand, all rows are of the CPU.
"""

import argparse
import json
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import selection
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.command_line.main import main as amf
from amf_lightning.selection.greedy import condition_on_task
from amf_lightning.selection.information_gain import marginal_gains, task_scores

Row = dict[str, Any]
COMPILED = "amf_lightning.fine_tuning.compiled_loss.CompiledLoss"
VARIANTS = {"cpu": ("32-true",), "cuda": ("32-true", "bf16-mixed", "compiled")}
"""Of a training step on each device: a precision of Lightning's, or torch.compile in 32-true."""
QUIET = ("--trainer.enable_progress_bar", "false")
STATES = 16
"""States that stand for a demonstration."""
BUSY = 30.0
"""Seconds after which something is not repeated to be timed better."""


class Clock(Callback):
    """Times the blocks of every round but the first."""

    times: list[float] = []  # noqa: RUF012 - the class is made by `amf fit`
    """Seconds a step, one entry a block."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        synchronise()
        self.steps, self.started = trainer.global_step, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        synchronise()
        if trainer.current_epoch > 0:
            self.times.append((time.perf_counter() - self.started) / (trainer.global_step - self.steps))


def synchronise() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def machine(threads: int) -> Row:
    """What the numbers are of."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def fit(folder: str, device: str, threads: int, *options: str) -> RunFolder:
    """`amf fit` on one device."""
    accelerator = {"cpu": "cpu", "cuda": "gpu"}[device]
    trainer = ("--trainer.accelerator", accelerator, "--trainer.devices", "1", "--trainer.default_root_dir", folder)
    amf(["fit", *options, "--threads", str(threads), "--reports.animation", "false", *QUIET, *trainer])
    return RunFolder(Path(folder))


def step(width: int, device: str, variant: str, steps: int, threads: int) -> Row:
    """Time of an optimiser step on a minibatch of 256 with a network of two hidden layers."""
    # `amf` finds the clock by its dotted path, and so imports this file a second time: it is that one's times.
    import gpu

    gpu.Clock.times.clear()
    compiled, precision = variant == "compiled", "32-true" if variant == "compiled" else variant
    with tempfile.TemporaryDirectory() as folder:
        fit(
            folder,
            device,
            threads,
            *("--config", "configs/base.yaml", "--suite", "Integrator", "--expert", "IntegratorExpert"),
            *("--selector", "RoundRobin", "--retention", "NoRetention", "--evaluation", "NoEvaluation"),
            *("--model.policy", "MLPPolicy", "--model.policy.hidden", f"[{width}, {width}]"),
            *("--active.budget", "2", "--data.batch_size", "256", "--data.steps_per_round", str(steps)),
            *("--trainer.enable_checkpointing", "false", "--trainer.precision", precision),
            *("--trainer.callbacks+", f"{gpu.__name__}.Clock"),
            *(("--trainer.callbacks+", COMPILED) if compiled else ()),
        )
    microseconds = 1e6 * median(gpu.Clock.times)
    return {"width": width, "device": device, "variant": variant, "threads": threads, "microseconds": microseconds}


def training_steps(widths: Sequence[int], steps: int, threads: int) -> list[Row]:
    """Every width on every device in every variant.

    On a CPU a small network is trained on one thread, and a large one on all, for a fifth of the steps.
    """
    return [
        step(width, device, variant, steps, 1)
        if device == "cuda" or width <= 1024
        else step(width, device, variant, -(-steps // 5), threads)
        for width in widths
        for device in devices()
        for variant in VARIANTS[device]
    ]


def choices(tasks: int, features: Sequence[int], threads: int) -> list[Row]:
    """Times in seconds of one scoring and one conditioning, and how far the scores are from the CPU's."""
    torch.set_num_threads(threads)
    rows = []
    for dimension in features:
        expected: Tensor | None = None
        for device in devices():
            problem = selection.problem_of(tasks, STATES, dimension, device, torch.float64)
            posterior = selection.posterior_of(dimension, device)
            start = time.perf_counter()
            scores = task_scores(marginal_gains(posterior, problem, selection.KAPPA), problem.candidates, tasks)
            synchronise()
            score, conditioning = time.perf_counter() - start, float("nan")
            if score < BUSY:
                score = selection.seconds(lambda: marginal_gains(posterior, problem, selection.KAPPA), device, 3)  # noqa: B023
            pick = int(scores.argmax())
            conditioning = selection.seconds(
                lambda: condition_on_task(posterior, problem.candidates, pick),  # noqa: B023
                device,
                3,
            )
            expected = scores if expected is None else expected
            difference = float(((scores - expected) / expected).abs().max())
            rows.append(
                {
                    "tasks": tasks,
                    "features": dimension,
                    "device": device,
                    "score": score,
                    "condition": conditioning,
                    "relative_difference": difference,
                    "same_pick": pick == int(expected.argmax()),
                }
            )
    return rows


def agreement(config: str, budget: int) -> Row:
    """The shipped run on the CPU and on the GPU, and once more on the GPU; its rounds side by side."""
    other = devices()[-1]
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            fit(
                f"{folder}/{number}",
                device,
                1,  # as the shipped runs are
                *("--config", config, "--active.budget", str(budget), "--data.evaluation_episodes", "1"),
            )
            for number, device in enumerate(("cpu", other, other))
        ]
        first, second = (run.read_selections() for run in runs[:2])
        means = [[row.score for row in run.read_curve() if row.task == MEAN] for run in runs]
        same_bits = runs[1].policy.read_bytes() == runs[2].policy.read_bytes()
    rounds = []
    for number, (cpu, gpu) in enumerate(zip(first, second, strict=True)):
        theirs, ours = torch.tensor(cpu.scores), torch.tensor(gpu.scores)
        rounds.append(
            {
                "round": number,
                "cpu": cpu.task,
                "gpu": gpu.task,
                "relative_difference": float(((ours - theirs) / theirs).abs().max()),
                "cpu_score": means[0][number + 1],
                "gpu_score": means[1][number + 1],
            }
        )
    return {"config": config, "other": other, "same_bits": same_bits, "rounds": rounds}


def print_tables(facts: Row) -> None:
    """What has been measured so far."""
    device = facts["device"] or "no GPU is at hand: the rows are of the CPU"
    print(f"\n{device}; {facts['cpu']}, {facts['threads']} threads; torch {facts['torch']}")
    if "steps" in facts:
        print("\n| hidden widths | device | threads | | training step, µs |\n|--:|---|--:|---|--:|")
        for row in facts["steps"]:
            what = (row["width"], row["device"], row["threads"], row["variant"])
            print(f"| {' | '.join(map(str, what))} | {row['microseconds']:.0f} |")
    if "selection" in facts:
        print("\n| tasks | features | device | one scoring, s | one conditioning, s | from the CPU's | same pick |")
        print("|--:|--:|---|--:|--:|--:|---|")
        for row in facts["selection"]:
            print(
                f"| {row['tasks']} | {row['features']} | {row['device']} | {row['score']:.3f} | {row['condition']:.4f} "
                f"| {row['relative_difference']:.0e} | {'yes' if row['same_pick'] else 'NO'} |"
            )
    if "agreement" in facts:
        found = facts["agreement"]
        print(f"\n{found['config']}, cpu and {found['other']}:\n")
        print("| round | pick, cpu | pick, gpu | scores differ by | mean score, cpu | mean score, gpu |")
        print("|--:|---|---|--:|--:|--:|")
        for row in found["rounds"]:
            print(
                f"| {row['round']} | {row['cpu']} | {row['gpu']} | {row['relative_difference']:.0e} "
                f"| {row['cpu_score']:.3f} | {row['gpu_score']:.3f} |"
            )
        print(f"\nTwice on {found['other']}: {'the same bits' if found['same_bits'] else 'OTHER bits'}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="*", default=[256, 4096])
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps of a round")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--features", type=int, nargs="*", default=[257, 2049])
    parser.add_argument("--config", default="configs/halfcheetah.yaml", help="of the run that is compared")
    parser.add_argument("--budget", type=int, default=4, help="demonstrations of that run; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the numbers here too, after each part")
    parser.add_argument("--show", type=Path, help="measure nothing; print the tables of such a file")
    arguments = parser.parse_args()
    if arguments.show:
        print_tables(json.loads(arguments.show.read_text()))
        return
    facts = machine(arguments.threads)
    for name, measure in (
        ("selection", lambda: choices(arguments.tasks, arguments.features, arguments.threads)),
        ("agreement", lambda: agreement(arguments.config, arguments.budget) if arguments.budget else None),
        ("steps", lambda: training_steps(arguments.widths, arguments.steps, arguments.threads)),
    ):
        start = time.perf_counter()
        try:
            if measured := measure():
                facts |= {name: measured, f"{name}_seconds": time.perf_counter() - start}
        except (Exception, SystemExit):  # `amf` exits; the other parts are worth having without this one
            traceback.print_exc()
            facts.setdefault("failed", []).append(name)
        if arguments.json:
            arguments.json.write_text(json.dumps(facts, indent=1))
    print_tables(facts)
    if failed := facts.get("failed"):
        raise SystemExit(f"\nNot measured: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
