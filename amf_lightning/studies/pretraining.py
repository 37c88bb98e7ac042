"""What the pre-trained policies of a comparison have seen: the same for every seed, or forgetting would not compare."""

from collections.abc import Iterable, Sequence

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.configuration import leaves, read_configuration
from amf_lightning.errors import InputError
from amf_lightning.studies.archive import Archive
from amf_lightning.studies.plan import Run
from amf_lightning.studies.specification import Specification

_FIXED = "FixedSchedule"
"""The selector that asks for the same tasks with every seed."""


def differs_by_seed(specification: Specification, runs: Sequence[Run]) -> bool:
    """Whether policies of several seeds may be pre-trained on different tasks, so that one looks before runs begin."""
    if specification.pretrain is None or len({run.seed for run in runs if run.needs}) < 2:
        return False
    settings = leaves(read_configuration(specification.pretrain))
    selector = settings.get("selector.class_path", settings.get("selector"))
    return str(selector).rpartition(".")[2] != _FIXED


def check_pretraining(archive: Archive, runs: Sequence[Run]) -> None:
    """Compares what the policies that are there were pre-trained on, seed by seed.

    Args:
        archive: of the comparison.
        runs: of the comparison.

    Raises:
        InputError: they differ; names two seeds, or a file of a run is damaged.
    """
    for label in dict.fromkeys(run.label for run in runs):
        entries = [entry for entry in archive.entries if entry.curve.strategy == label]
        known = {entry.curve.seed: entry.facts.pretraining_tasks for entry in entries if entry.facts}
        _compare(label, ((seed, None if tasks is None else set(tasks)) for seed, tasks in known.items()))
    made = {run.needs.seed: run.needs for run in runs if run.needs and run.needs.finished()}
    _compare("pretrained", ((seed, _seen(run)) for seed, run in made.items()))


def _seen(run: Run) -> set[str]:
    """Names of the tasks that the policy which a run has made was trained on in all its life."""
    folder = RunFolder(run.folder)
    return {*(job.task for job in folder.read_selections()), *(folder.read_facts().get("pretraining_tasks") or ())}


def _compare(label: str, seen: Iterable[tuple[int, set[str] | None]]) -> None:
    first: tuple[int, set[str] | None] | None = None
    for seed, tasks in seen:
        if first is None:
            first = seed, tasks
        elif tasks != first[1]:
            raise InputError(
                f"The pre-trained policies of '{label}' have seen different tasks: {_told(*first)}, "
                f"{_told(seed, tasks)}. What was forgotten would not compare. Let the file under 'pretrain' name its "
                f"tasks (selector: {_FIXED}), and choose another --output and --runs or delete these seeds' folders."
            )


def _told(seed: int, tasks: set[str] | None) -> str:
    return f"with seed {seed} {'unknown ones' if tasks is None else ', '.join(sorted(tasks)) or 'none'}"
