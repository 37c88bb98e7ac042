"""Real runs of `amf` in the tiny world: each in a process of its own, forked from one that has imported everything."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
import yaml
from forks import PROCESSES

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.command_line.main import main
from amf_lightning.configuration import merge

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TINY: dict[str, Any] = {
    "config": str(CONFIGS / "base.yaml"),
    "suite": {"class_path": "tiny.TinySuite"},
    "expert": {"class_path": "tiny.TinyExpert"},
    "model": {
        "policy": {"class_path": "MLPPolicy", "init_args": {"hidden": [16, 16]}},
        "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01, "weight_decay": 0.1}},
    },
    "data": {"batch_size": 16, "steps_per_round": 12, "evaluation_episodes": 2},
    "reports": {"animation": False},
    "trainer": {"log_every_n_steps": 4},
}
PRETRAINING: dict[str, Any] = {
    "selector": {"class_path": "FixedSchedule", "init_args": {"tasks": {"goal=-1": 2, "goal=-0.5": 2}}},
    "retention": {"class_path": "NoRetention"},
    "data": {"steps_per_round": 300},
    "active": {"budget": 4, "batch_size": 4},
}
FINE_TUNING: dict[str, Any] = {
    "selector": {"class_path": "InformationGain"},
    "retention": {
        "class_path": "CombinedRetention",
        "init_args": {
            "parts": [
                {"class_path": "FreezeByImportance", "init_args": {"fraction": 0.3}},
                {"class_path": "SelfDistillation"},
            ]
        },
    },
    "model": {"average": 0.5},
    "active": {"budget": 5, "batch_size": 2},
    "trainer": {"gradient_clip_val": 0.5},
}
"""Three rounds of 2, 2 and 1 demonstrations, with everything that could go wrong when a run is repeated."""


def fine_tuning_of(pretrained: Path, *changes: Mapping[str, Any]) -> dict[str, Any]:
    """`FINE_TUNING` from a policy file, with what differs, the later changes over the earlier."""
    settings = merge(FINE_TUNING, {"model": {"pretrained": str(pretrained)}})
    for change in changes:
        settings = merge(settings, change)
    return settings


def nothing() -> None:
    """Leaves the process as it is."""


@dataclass(frozen=True)
class Run:
    """One configuration in one folder: the identical command, however often it is started."""

    path: Path
    changes: Mapping[str, Any]
    """What differs from `TINY`, as YAML would say it."""
    options: tuple[str, ...] = ()
    """Further options of the command line."""
    base: Mapping[str, Any] = field(default_factory=lambda: TINY)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    @property
    def log(self) -> Path:
        """What all starts of this run printed."""
        return self.path.with_name(f"{self.path.name}.log")

    @property
    def command(self) -> list[str]:
        """Arguments of `amf`."""
        file = self.path.with_name(f"{self.path.name}.yaml")
        file.write_text(yaml.safe_dump(merge(self.base, self.changes)))
        return ["fit", "--config", str(file), "--trainer.default_root_dir", str(self.path), *self.options]

    def start(self, before: Callable[..., None] = nothing, *arguments: Any) -> ForkServerProcess:
        """Starts it in a process in which `before(*arguments)` is called first."""
        process = PROCESSES.Process(target=_amf, args=(self.command, self.log, before, arguments), daemon=True)
        process.start()
        return process

    def finish(self, before: Callable[..., None] = nothing, *arguments: Any) -> int:
        """Starts it, waits, and returns the exit code; -9 after a SIGKILL."""
        process = self.start(before, *arguments)
        process.join(timeout=120)
        assert process.exitcode is not None, self.log.read_text()
        return process.exitcode

    def complete(self, before: Callable[..., None] = nothing, *arguments: Any) -> "Run":
        """Starts it and makes sure that it ends well."""
        assert self.finish(before, *arguments) == 0, self.log.read_text()
        return self


def _amf(command: list[str], log: Path, before: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    with log.open("a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    before(*arguments)
    main(command)


def outcome(run: Run) -> dict[str, bytes]:
    """Name and content of every file that must not depend on how the run came about."""
    folder = run.folder
    files = [folder.selections, folder.curve, folder.evaluation, folder.policy, folder.report]
    files += sorted(folder.demonstrations.glob("[!.]*"))
    return {str(file.relative_to(folder.path)): file.read_bytes() for file in files}


def checkpoint(run: Run) -> dict[str, Any]:
    """The run's last checkpoint."""
    content: dict[str, Any] = torch.load(run.folder.checkpoint, weights_only=True)
    return content


def same(first: Any, second: Any) -> bool:
    """Whether two nests of mappings, sequences, tensors and plain values agree bit for bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def assert_same_outcome(run: Run, reference: Run) -> None:
    """Picks, demonstrations, tables, and the weights in policy.safetensors and in the checkpoint are equal."""
    got, expected = outcome(run), outcome(reference)
    assert got.keys() == expected.keys()
    assert [name for name in expected if got[name] != expected[name]] == []
    mine, theirs = checkpoint(run), checkpoint(reference)
    for key in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert same(mine[key], theirs[key]), key
