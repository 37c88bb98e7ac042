"""Turns a specification into the runs that it takes: their folders, their commands, and how to tell a stale one."""

import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.configuration import SEEDS, first_difference, identity, leaves, read_configuration
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.reading import read_json_mapping
from amf_lightning.studies.specification import Specification, as_arguments

PROGRAM = (sys.executable, "-m", "amf_lightning")
"""How the application is started."""
_BETWEEN_REPEATS = 1_000_003
"""Of the training seeds of two repeats."""


@dataclass(frozen=True)
class Run:
    """One process of `amf fit`."""

    label: str
    seed: int
    folder: Path
    """The folder that holds its results once it is finished."""
    made_in: Path
    """The folder that it runs in: `folder`, or one that is renamed to it when the run is finished."""
    budget: int
    """Demonstrations after which it is finished."""
    command: tuple[str, ...]
    settings: Mapping[str, Any] = field(repr=False, hash=False)
    """The settings that make it this run, by dotted key. A file beside the folder repeats them, so that other settings
    are noticed."""
    needs: "Run | None" = field(default=None, repr=False)
    """The run that makes its pre-trained policy, if the comparison asks for one."""

    @property
    def name(self) -> str:
        """The label and the seed, as messages name the run."""
        return f"{self.label} seed {self.seed}"

    @property
    def log(self) -> Path:
        """The file that everything the process prints goes to."""
        return self.made_in.with_name(f"{self.made_in.name}.log")

    @property
    def settings_file(self) -> Path:
        """The file beside its folder that holds its settings."""
        return self.folder.with_name(f"{self.folder.name}.settings.json")

    @property
    def process_file(self) -> Path:
        """The file beside its folder that holds the facts about its process: seconds and version."""
        return self.folder.with_name(f"{self.folder.name}.made.json")

    @property
    def identity(self) -> dict[str, Any]:
        """Its settings and, under `pretrain.`, those of the run that it needs, as they are read from JSON."""
        needed_settings = self.needs.settings if self.needs else {}
        return {**self.settings, **{f"pretrain.{key}": value for key, value in needed_settings.items()}}

    @property
    def shell_command(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)

    def finished(self) -> bool:
        """Whether its folder holds all results, up to the budget."""
        return RunFolder(self.folder).finished(self.budget)

    def begin(self) -> None:
        """Writes the settings of the run beside its folder, and forgets the facts about an earlier process."""
        self.process_file.unlink(missing_ok=True)
        write_durably(self.settings_file, json.dumps(self.settings, indent=1) + "\n")

    def note_process(self, seconds: float | None, version: str) -> None:
        """Writes the facts about its process beside its folder.

        Args:
            seconds: from the start of the process to its end; None if the run was resumed.
            version: what `source_version` says.
        """
        write_durably(self.process_file, json.dumps({"seconds": seconds, "version": version}) + "\n")

    def process_facts(self) -> dict[str, Any]:
        """The facts that `note_process` wrote; empty if it did not.

        Raises:
            InputError: the file is damaged.
        """
        advice = "Remove it: then the seconds and the version of this run are unknown."
        facts = read_json_mapping(self.process_file, advice) if self.process_file.is_file() else {}
        seconds, version = facts.get("seconds"), facts.get("version")
        if (
            not facts.keys() <= {"seconds", "version"}
            or not isinstance(seconds, int | float | None)
            or not isinstance(version, str | None)
        ):
            raise InputError(f"{self.process_file} says something else than seconds and version. {advice}")
        return facts

    def publish(self) -> bool:
        """Gives the folder of a finished run its final name. Returns whether a finished run has that name now.

        If another process was first, its folder stays and this one is removed.
        """
        if self.made_in != self.folder and RunFolder(self.made_in).finished(self.budget):
            try:
                self.made_in.rename(self.folder)
            except OSError:  # not empty: another process was first
                if self.finished():
                    shutil.rmtree(self.made_in)
        return self.finished()

    def check_settings(self) -> None:
        """Raises InputError if its folder was begun with other settings than this run has."""
        if not (self.settings_file.is_file() and self.made_in.exists() | self.folder.exists()):
            return
        advice = f"Restore it, or delete it with the folder {self.folder}, whose settings it says."
        if difference := first_difference(read_json_mapping(self.settings_file, advice), self.settings):
            key, before, now = difference
            raise InputError(
                f"{self.folder} belongs to a run with {key} = {before!r}, now it is {now!r} (see "
                f"{self.settings_file.name}). Choose another --output or --runs, or delete that folder."
            )


def plan_pretraining(
    specification: Specification, seeds: Sequence[int], output: Path, maker: str = "", program: Sequence[str] = PROGRAM
) -> list[Run]:
    """The runs that make the pre-trained policy of each seed, none if the comparison asks for none.

    Args:
        specification: what is compared.
        seeds: one run each.
        output: folder of the comparison.
        maker: if given, work in a folder of that maker, which is renamed when it is finished. Several processes may
            then need the same policy and start at once without a lock; the first to finish gives it to all.
        program: how the application is started.
    """
    if specification.pretrain is None:
        return []
    return [
        _run("pretrained", seed, specification.pretrain, {}, folder, made_in, program)
        for seed in seeds
        for folder in [output / "pretrained" / f"seed-{seed}"]
        for made_in in [folder.with_name(f"{folder.name}.by-{maker}") if maker else folder]
    ]


def plan_runs(
    specification: Specification, seeds: Sequence[int], output: Path, program: Sequence[str] = PROGRAM
) -> list[Run]:
    """The runs of every strategy and seed, seed by seed: a study that is not finished is balanced all the same.

    Args:
        specification: what is compared.
        seeds: one run of each strategy each.
        output: folder of the run folders.
        program: how the application is started.

    Raises:
        InputError: a configuration does not say its budget, or the budgets differ.
    """
    pretraining = {run.seed: run for run in plan_pretraining(specification, seeds, output, program=program)}
    runs = []
    for seed in seeds:
        needs = pretraining.get(seed)
        pretrained_settings = {"model.pretrained": str(RunFolder(needs.folder).policy)} if needs else {}
        for label, settings in {**specification.strategies, **_repeats(specification, seed)}.items():
            folder = output / "runs" / label / f"seed-{seed}"
            run = _run(label, seed, specification.base, settings, folder, folder, program, pretrained_settings)
            runs.append(replace(run, needs=needs))
    if len(budgets := {run.budget for run in runs}) > 1:
        raise InputError(f"The strategies have different budgets, {sorted(budgets)}: their curves would not compare.")
    return runs


def _repeats(specification: Specification, seed: int) -> dict[str, dict[str, Any]]:
    """Settings of the repeats of a seed: those of the strategy, with training seeds that no run of the seed has."""
    if specification.repeated is None:
        return {}
    settings = specification.strategies[specification.repeated]
    return {
        label: {**settings, "data.training_seed": (seed + number * _BETWEEN_REPEATS) % SEEDS}
        for label, number in specification.repeats.items()
    }


def _run(
    label: str,
    seed: int,
    config: Path,
    settings: Mapping[str, Any],
    folder: Path,
    made_in: Path,
    program: Sequence[str],
    linked: Mapping[str, Any] | None = None,
) -> Run:
    """`settings` make the run what it is; `linked` names files of the comparison, which may be moved as a whole."""
    everything = {**leaves(read_configuration(config)), **leaves(settings), "seed_everything": seed}
    budget = everything.get("active.budget")
    if not isinstance(budget, int):
        raise InputError(
            f"{config} does not say 'active.budget'. A comparison needs it, to see when a run is finished."
        )
    own_settings = {"seed_everything": seed, "trainer.default_root_dir": str(made_in), "reports.animation": False}
    arguments = as_arguments({**(linked or {}), **settings, **own_settings})
    return Run(
        label=label,
        seed=seed,
        folder=folder,
        made_in=made_in,
        budget=budget,
        command=(*program, "fit", f"--config={config}", *arguments),
        settings=identity(everything),
    )
