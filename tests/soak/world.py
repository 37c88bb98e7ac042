"""What the cases share: a pre-trained policy, runs and a study that nobody interrupted, made when first wanted."""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tiny_runs import FINE_TUNING, PRETRAINING, Run, nothing
from tiny_runs import TINY as TINY_RUN

from amf_lightning.configuration import merge
from soak.moments import count_moments, write_moments
from soak.program import PATIENCE, Program

T = TypeVar("T")
BASE: dict[str, Any] = {
    **TINY_RUN,
    "suite": {"class_path": "Integrator", "init_args": {"angles": [0, 90, 180, 270], "horizon": 12}},
    "expert": {"class_path": "soak.parts.NotingExpert"},
    "trainer": {"log_every_n_steps": 4, "enable_progress_bar": False},
}
START: dict[str, Any] = merge(
    PRETRAINING, {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["angle=0", "angle=90"] * 2}}}
)
SHARDS = {"trainer": {"accumulate_grad_batches": 2}}
"""One process that trains on the minibatches of two."""
BUDGET: int = FINE_TUNING["active"]["budget"]
WAITING: dict[str, Any] = {"expert": {"class_path": "soak.parts.LateExpert"}}


class World:
    """Makes each shared thing once, in a folder that no case works in.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Any] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._lock = threading.Lock()

    def once(self, name: str, make: Callable[[Path], T]) -> T:
        """What `make` gave for a folder of that name; others who want it meanwhile wait for it."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            if name not in self._made:
                folder = self.folder / name.replace("/", "-")
                shutil.rmtree(folder, ignore_errors=True)  # of a try that failed
                folder.mkdir(parents=True)
                self._made[name] = make(folder)
            made: T = self._made[name]
            return made

    @property
    def pretrained(self) -> Path:
        """π0, which knows two of the four goals."""
        return self.once("pretrained", lambda folder: complete(Run(folder / "run", START, base=BASE)).folder.policy)

    def run(self, folder: Path, changes: Mapping[str, Any] | None = None, options: tuple[str, ...] = ()) -> Run:
        """A fine-tuning of π0 in three rounds, in `folder/run`."""
        start = merge(FINE_TUNING, {"model": {"pretrained": str(self.pretrained)}})
        return Run(folder / "run", merge(start, changes or {}), options, base=BASE)

    def reference(self, name: str = "fit", changes: Mapping[str, Any] | None = None) -> Run:
        """The run with these changes that nobody interrupted."""
        return self.once(f"reference/{name}", lambda folder: complete(self.run(folder, changes)))

    @property
    def moments(self) -> Counter[str]:
        """How many signs of life such a run gives, by phase."""
        return self.once("moments", self._count)

    def _count(self, folder: Path) -> Counter[str]:
        complete(self.run(folder), write_moments, folder / "moments")
        return count_moments(folder / "moments")

    def study(self, folder: Path) -> list[str]:
        """Lays a comparison of two strategies into a folder; the arguments of `amf` for it, without --output."""
        run = self.run(folder, {"active": {"budget": 2, "batch_size": 1}, "data": {"steps_per_round": 6}})
        (folder / "base.yaml").write_text(yaml.safe_dump(merge(run.base, run.changes)))
        pretraining = merge(BASE, merge(START, {"data": {"steps_per_round": 6}}))
        (folder / "pretrain.yaml").write_text(yaml.safe_dump(pretraining))
        comparison = {
            "base": "base.yaml",
            "pretrain": "pretrain.yaml",
            "baseline": "Uniform",
            "strategies": {"RoundRobin": {"selector": "RoundRobin"}, "Uniform": {"selector": "Uniform"}},
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(comparison, sort_keys=False))
        return ["compare", "--config=study.yaml", "--seeds=0:2", "--jobs=2"]


def complete(run: Run, before: Callable[..., None] = nothing, *values: Any) -> Run:
    """Runs it to its end, in the folder that its own folder lies in."""
    ending = Program(run.command, run.path.parent, run.log, before, *values).wait(4 * PATIENCE.seconds)
    if ending.code:
        raise RuntimeError(f"a run that nobody disturbs fails: {ending}")
    return run


def copy_of(folder: Path, to: Path) -> Path:
    """A copy of a folder, links and times included."""
    return Path(shutil.copytree(folder, to, symlinks=True))
