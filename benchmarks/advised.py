"""Whether the advisor alone is enough: recordings of Metaworld's MT10, chosen by `advise`, beside `InformationGain`.

    .venv-metaworld/bin/python benchmarks/advised.py --output docs/results/advisor-mt10 --runs runs/advisor-mt10

Thirty recordings of each task are made by the scripts. In all strategies the demonstrations come from them and the same
training follows. `InformationGain` sees the policy, its statistics and rollouts in the simulator. `Advised` sees arrays
alone: features, by the pre-trained policy, of what was demonstrated, of the last two recordings of each task, which
stand for old ones of a laboratory, and of what π0 was trained on, as its file sums it up.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
import yaml

from amf_lightning.configuration import read_configuration
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.experts.recorded import RecordedExpert
from amf_lightning.needs import Need
from amf_lightning.policies.capabilities import embedded
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.selection.advice import advise
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.shipped import shipped_folder
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory

EACH, OLD = 30, 2
"""Recordings of each task, and how many of them, the last, show the advisor what the task looks like."""


class Advised(Selector):
    """Asks `advise` and shows it arrays alone.

    Args:
        folder: of the recordings.
    """

    needs = (Need.PRETRAINING_STATISTICS,)
    instead = "Choose another selector."
    gain_is = "information about the expert, nats"

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._old = {task: shown[-OLD:] for task, shown in RecordedExpert(folder).recordings.items()}

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """The requests of the advice; scores are those before the first of them."""

        def features(trajectory: Trajectory) -> torch.Tensor:
            with torch.no_grad():  # without the 1 for the bias, at the end, which `advise` appends itself
                return embedded(context.pretrained, context.steps_of([trajectory]))[:, :-1]

        demonstrated: dict[str, list[torch.Tensor]] = {}
        for each in context.demonstrations:
            demonstrated.setdefault(each.task, []).append(features(each))
        advice = advise(
            {task: [features(each) for each in shown] for task, shown in self._old.items()},
            demonstrated,
            batch_size,
            context.statistics,
            seed=context.seed,
        )
        names = [task.name for task in context.suite.tasks]
        scores = tuple(advice.scores[name] for name in names)
        picks = tuple(names.index(request.task) for request in advice.requests)
        return Selection(picks, (scores,) * len(picks))


def record(folder: Path) -> None:
    """Has the scripts demonstrate every task; recordings that are there stay."""
    from amf_lightning.experts.metaworld import MetaworldExpert
    from amf_lightning.suites.metaworld import Metaworld

    suite, expert, store = Metaworld("MT10"), MetaworldExpert(), DemonstrationStore(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for task in suite.tasks:
        numbers = [task.index * EACH + number for number in range(EACH)]
        if all((folder / f"{number:06d}.safetensors").exists() for number in numbers):
            continue
        episodes = [Episode(task, keyed_seed(0, Purpose.POOL, number)) for number in numbers]
        for number, shown in zip(numbers, expert.demonstrate(suite, episodes), strict=True):
            store.write(number, shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of the rows and of the summary")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the recordings and of the run folders")
    parser.add_argument("--seeds", default="0:5")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    recordings = arguments.runs / "recordings"
    record(recordings)
    compare = shipped_folder("configs") / "compare"
    expert = {"class_path": "RecordedExpert", "init_args": {"folder": str(recordings)}}
    content = {
        "base": str(compare / "bases" / "metaworld-mt10.yaml"),
        "pretrain": str(compare.parent / "pretrain" / "metaworld-mt10.yaml"),
        "baseline": "InformationGain",
        "seeds": arguments.seeds,
        "strategies": {
            "InformationGain": {"expert": expert},
            "Uniform": {"expert": expert, "selector": "Uniform"},
            "Advised": {
                "expert": expert,
                "selector": {"class_path": "benchmarks.advised.Advised", "init_args": {"folder": str(recordings)}},
            },
        },
    }
    path = arguments.runs / "advised.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    read_configuration(path)
    command = [sys.executable, "-m", "amf_lightning", "compare", f"--config={path}", f"--output={arguments.output}"]
    subprocess.run([*command, f"--runs={arguments.runs}", f"--jobs={arguments.jobs}", "--share-imports"], check=True)


if __name__ == "__main__":
    main()
