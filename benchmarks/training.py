"""How much a training step through `amf fit` costs beside the same step in a bare loop.

    OMP_NUM_THREADS=1 python benchmarks/training.py

Runs `amf fit` in this process as a user would, with checkpoints, TensorBoard, reports and progress bar. After every
block of 50 of its steps a bare loop takes 50 too: the same network, rows, batch size and optimiser (fused AdamW). Times
are of the processor, of which all is one thread's here, and the best of all such windows, so that what else runs on the
machine counts for neither. Options that are not known here, e.g. `--trainer.enable_progress_bar false`, are given to
`amf fit`.

Two more rows say where the difference comes from. "Our step" is the module's own minibatches, loss and optimiser in a
bare loop, without Lightning. "Lightning" is the bare loop's step as a LightningModule of ten lines in a Trainer with
everything off, beside which bare steps are taken as above: nobody who uses a Trainer is below that.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from amf_lightning.command_line.main import main as amf
from amf_lightning.demonstrations.batches import BLOCK, RoundBatches, Rows, Shards, demonstration_rows
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.round import take_steps

LIMIT = 1.45
"""How many times as long a step may take."""
WINDOW = BLOCK
"""Steps between two looks at the clock: a batch to Lightning. The log and the progress bar are written once in each."""


class BareLoop:
    """The least code that trains 18-256-256-6 on some rows with fused AdamW."""

    def __init__(self, inputs: Tensor, actions: Tensor, batch_size: int) -> None:
        self.inputs, self.actions, self.batch_size = inputs, actions, batch_size
        layers = [nn.Linear(inputs.shape[1], 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(256, actions.shape[1]), nn.Tanh())
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)

    def steps(self, count: int) -> None:
        for index in torch.randint(len(self.inputs), (count, self.batch_size)):
            loss = nn.functional.mse_loss(self.net(self.inputs[index]), self.actions[index])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()


class Clock(Callback):
    """Times the steps of every round but the first, and those of a bare loop between them."""

    times: dict[str, list[float]] = {"amf": [], "bare": []}  # noqa: RUF012 - the class is made by `amf fit`
    """Microseconds a step, one entry a window."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started: float | None = None
        self.steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        whole = trainer.global_step - self.steps == WINDOW  # the last block of a round may be shorter
        if whole and self.started is not None and trainer.current_epoch > 0:
            self.times["amf"].append((time.process_time() - self.started) / WINDOW * 1e6)
            start = time.process_time()
            self.bare.steps(WINDOW)
            self.times["bare"].append((time.process_time() - start) / WINDOW * 1e6)
        self.steps, self.started = trainer.global_step, time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = demonstration_rows(data.demonstrations, data.suite)
        steps = rows.everything()
        self.bare = BareLoop(torch.cat([steps.state, steps.contexts], dim=1), steps.shown_actions, data.batch_size)
        self.bare.steps(WINDOW)  # to warm up
        if trainer.current_epoch == 0:
            self.times["step"] = times_of_step(pl_module, rows, data.batch_size)  # type: ignore[arg-type]
            self.times["lightning"], self.times["beside"] = times_of_lightning(self.bare)


def times_of_step(module: BehaviouralCloning, rows: Rows, batch_size: int) -> list[float]:
    """Microseconds of a step with our minibatches, losses and optimiser, without Lightning, an entry a window."""
    policy = copy.deepcopy(module.policy)
    optimizer = module.optimizer_for(policy)
    times = []
    for window in range(21):
        blocks = RoundBatches(lambda: {"new": rows}, lambda: window, batch_size, WINDOW, Shards(1, (0,)), seed=0)  # noqa: B023
        start = time.process_time()
        for block in blocks:
            losses = lambda part: module.losses(policy, part)  # noqa: E731
            take_steps(block, losses, block.factors, optimizer, seeds=block.seeds)
        times.append((time.process_time() - start) / WINDOW * 1e6)
    return times[1:]


class BareModule(LightningModule):
    """The bare loop's step, as little of a LightningModule as can be."""

    def __init__(self, bare: BareLoop) -> None:
        super().__init__()
        self.net = copy.deepcopy(bare.net)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.net.parameters(), lr=1e-3, weight_decay=0.0, fused=True)


class BareClock(Callback):
    """Times the steps of a `BareModule`, and of the bare loop between them."""

    def __init__(self, bare: BareLoop) -> None:
        self.bare, self.times, self.beside = bare, list[float](), list[float]()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = time.process_time()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % WINDOW == 0:
            middle = time.process_time()
            self.times.append((middle - self.started) / WINDOW * 1e6)
            self.bare.steps(WINDOW)
            self.started = time.process_time()
            self.beside.append((self.started - middle) / WINDOW * 1e6)


class BareBatches:
    """The bare loop's minibatches."""

    def __init__(self, bare: BareLoop, steps: int) -> None:
        self.bare, self.count = bare, steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randint(len(self.bare.inputs), (self.count, self.bare.batch_size)):
            yield self.bare.inputs[index], self.bare.actions[index]

    def __len__(self) -> int:
        return self.count


def times_of_lightning(bare: BareLoop) -> tuple[list[float], list[float]]:
    """Microseconds of a step of `BareModule` in a Trainer that does nothing else, and of the bare loop beside it."""
    clock = BareClock(bare)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(BareModule(bare), BareBatches(bare, 20 * WINDOW))
    return clock.times[1:], clock.beside[1:]


def measure(rounds: int, steps: int, batch_size: int, options: list[str]) -> dict[str, float]:
    """Best microseconds a step of each, and the ratios to the bare loop."""
    # `amf` finds the clock by its dotted path, and so imports this file a second time: it is that one's times.
    import training

    with tempfile.TemporaryDirectory() as folder:
        amf(
            [
                *("fit", "--config", "configs/halfcheetah.yaml", "--selector", "RoundRobin"),
                *("--retention", "NoRetention", "--active.budget", str(rounds), "--data.steps_per_round", str(steps)),
                *("--data.batch_size", str(batch_size), "--data.evaluation_episodes", "1"),
                *("--reports.animation", "false", "--trainer.default_root_dir", folder),
                *("--trainer.callbacks+", f"{training.__name__}.Clock", *options),
            ]
        )
    best = {name: min(times) for name, times in training.Clock.times.items()}
    floor = best["lightning"] / best.pop("beside")
    return {
        **best,
        "ratio": best["amf"] / best["bare"],
        "step_ratio": best["step"] / best["bare"],
        "lightning_ratio": floor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="demonstrations of the run, of which the first warms up")
    parser.add_argument("--steps", type=int, default=1000, help="optimiser steps of a round")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    arguments, options = parser.parse_known_args()
    torch.set_num_threads(1)
    row = measure(arguments.rounds, arguments.steps, arguments.batch_size, options)
    print("\n| training step | µs | ratio |\n|---|---:|---:|")
    for name, key, ratio in (
        ("bare loop", "bare", 1.0),
        ("our step, without Lightning", "step", row["step_ratio"]),
        ("Lightning, with a bare step and nothing else", "lightning", row["lightning_ratio"]),
        ("`amf fit`", "amf", row["ratio"]),
    ):
        print(f"| {name} | {row[key]:.0f} | {ratio:.2f} |")
    print(f"\nThe limit is {LIMIT}: {'met' if row['ratio'] <= LIMIT else 'MISSED'}.")
    if arguments.json:
        arguments.json.write_text(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
