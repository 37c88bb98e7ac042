"""`amf compare`: strategies against each other over seeds."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from amf_lightning.configuration import user_path
from amf_lightning.durable import remove_leftovers
from amf_lightning.errors import ExitCode, InputError
from amf_lightning.studies.archive import Archive
from amf_lightning.studies.claims import alone_in
from amf_lightning.studies.plan import PROGRAM, Run, plan_pretraining, plan_runs
from amf_lightning.studies.pretraining import check_pretraining, differs_by_seed
from amf_lightning.studies.processes import Forked, Spawn, cold
from amf_lightning.studies.report import write_from_rows, write_summary
from amf_lightning.studies.runner import Failure, execute, with_needs
from amf_lightning.studies.specification import Specification, parse_seeds, read_specification
from amf_lightning.writable import check_folder


def add_compare_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `amf compare`."""
    parser.add_argument("--config", type=str, required=True, help="what is compared, e.g. configs/compare/NAME.yaml")
    parser.add_argument(
        "--output", type=str, required=True, help="folder of the rows and of the summary, to be committed"
    )
    parser.add_argument(
        "--runs", type=str, default=None, help="folder of the run folders, not to be committed (default: OUTPUT)"
    )
    parser.add_argument("--seeds", type=str, default=None, help="A:B, the seeds A to B - 1; default: those of the file")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, one thread each (default: 1)")
    parser.add_argument(
        "--share-imports", action="store_true", help="import once for all runs: seconds less for each, on one machine"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands of what is missing, run nothing")
    parser.add_argument(
        "--array-index",
        type=int,
        default=None,
        help="run only this one of the seeds × strategies, e.g. $SLURM_ARRAY_TASK_ID; counted from 0, all strategies "
        "of the first seed first",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="drop rows in OUTPUT of other settings than the runs have now, instead of refusing them",
    )
    parser.add_argument(
        "--from-curves",
        action="store_true",
        help="only summarise the rows in OUTPUT/curves again, whatever their settings",
    )


def run_compare(args: Namespace, program: Sequence[str] = PROGRAM) -> int:
    """Runs what is not finished, then writes the summary. Returns the exit code.

    A run is finished if its rows are in the output folder, or its run folder is complete. The summary is of all rows
    in the output folder, also of seeds that are not asked for now, but not of strategies that the file does not name.

    Args:
        args: as `add_compare_arguments` has them parsed.
        program: how the application is started.

    Raises:
        InputError: the comparison file, the seeds or the output folder cannot be used, or there are rows of other
            settings in it.
    """
    specification, output = read_specification(Path(args.config)), user_path(args.output, "--output")
    archive = Archive(output, specification.labels)
    seeds = parse_seeds(args.seeds) if args.seeds else specification.seeds
    if args.from_curves:
        return _summarise_again(output, specification, archive, seeds)
    if seeds is None:
        raise InputError(f"Give --seeds A:B, or write seeds into {args.config}.")
    if args.jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {args.jobs}.")
    folder = output if args.runs is None else user_path(args.runs, "--runs")

    def planned() -> list[Run]:
        return plan_runs(specification, sorted({*seeds, *archive.seeds}), folder, program)

    every = planned()
    requested = [run for run in every if run.seed in seeds]
    alone = args.array_index is not None
    runs = [_picked(specification, requested, args, program, folder)] if alone else requested
    check_rows(archive, every, runs, args.replace)
    if args.dry_run:
        for run in with_needs([run for run in runs if not (archive.has(run) or run.finished())]):
            print(f"OMP_NUM_THREADS=1 {run.shell_command}")
        return 0
    for place in (output, folder):
        check_folder(place)
    for place in {output, *(run.made_in.parent for run in every)}:
        remove_leftovers(place, place / "curves")
    check_pretraining(archive, every)
    spawn: Spawn = Forked if args.share_imports else cold
    failures = make_missing(specification, archive, every, runs, output, args.jobs, spawn, alone)
    if not alone:
        take_in(archive, output, planned(), failures)
    _summarise(output, specification, archive, planned, requested, alone)
    if failures:
        print(f"{len(failures)} failed: {', '.join(failure.run.name for failure in failures)}. See the logs.")
    return ExitCode.RUNS_FAILED if failures else ExitCode.FINISHED


def make_missing(
    specification: Specification,
    archive: Archive,
    every: Sequence[Run],
    runs: Sequence[Run],
    output: Path,
    jobs: int,
    spawn: Spawn,
    alone: bool = False,
) -> list[Failure]:
    """Makes those of `runs` that are not finished, and takes in the rows of each as it ends; which of them failed.

    Args:
        specification: what is compared.
        archive: has the rows, in `output`.
        every: all runs of the comparison: the rows of those that are finished already are taken in at first.
        runs: those to make now.
        output: folder of the rows.
        jobs: processes at once.
        spawn: starts a process.
        alone: leave the rows to others, and say nothing about what others make.
    """
    unfinished = [run for run in runs if not (archive.has(run) or run.finished())]
    if not alone:
        take_in(archive, output, every)
    if len(unfinished) < len(runs):
        print(f"{len(runs) - len(unfinished)} of {len(runs)} runs are finished already")
    failures: list[Failure] = []
    if not alone and differs_by_seed(specification, unfinished):
        failures = execute([run.needs for run in unfinished if run.needs], jobs, spawn=spawn)
        check_pretraining(archive, every)
    done = None if alone else lambda run: take_in(archive, output, [run])
    startable = [run for run in unfinished if _can_begin(run, failures)]
    return failures + execute(startable, jobs, spawn=spawn, done=done)


def _picked(
    specification: Specification, runs: Sequence[Run], args: Namespace, program: Sequence[str], folder: Path
) -> Run:
    """The run of an array index. It makes its pre-trained policy in a folder of its own: others may need it now."""
    index: int = args.array_index
    if not 0 <= index < len(runs):
        raise InputError(f"--array-index must lie between 0 and {len(runs) - 1} (seeds × strategies), got {index}.")
    run = runs[index]
    if run.needs is None or args.dry_run:
        return run
    (needs,) = plan_pretraining(specification, [run.seed], folder, run.label, program)
    return replace(run, needs=needs)


def check_rows(archive: Archive, every: Sequence[Run], runs: Sequence[Run], drop: bool) -> None:
    """Refuses, or drops, rows of other settings under the names of the runs; refuses such folders."""
    for run in every:
        if conflict := archive.conflict(run):
            if not drop:
                raise InputError(
                    f"{conflict}. Choose another --output, or add --replace to drop such rows and make them anew."
                )
            archive.drop(run)
    for run in runs:
        run.check_settings()
        if run.needs and not archive.has(run):
            run.needs.check_settings()


def _can_begin(run: Run, failures: Sequence[Failure]) -> bool:
    return all(run.needs != failure.run for failure in failures)


def take_in(archive: Archive, output: Path, runs: Sequence[Run], failures: Sequence[Failure] = ()) -> None:
    """Writes the rows of finished run folders that are not in the output folder yet, and which runs failed."""
    new = [run for run in runs if not archive.has(run) and run.finished()]
    if not (new or failures or output.is_dir()):
        return
    with alone_in(output):  # others may write rows of theirs
        archive.reload()
        for run in new:
            archive.add(run)
        for failure in failures:
            for run in runs:
                if failure.run in (run, run.needs):
                    archive.note_failure(run, failure.reason)
        archive.write()


def _summarise(
    output: Path,
    specification: Specification,
    archive: Archive,
    planned: Callable[[], list[Run]],
    requested: Sequence[Run],
    alone: bool,
) -> None:
    finished = [run for run in requested if archive.has(run) or run.finished()]
    if alone and len(finished) == len(requested):  # the runs of an array write at once, so only the last ones may
        take_in(archive, output, planned())
    with alone_in(output) if output.is_dir() else nullcontext():  # the last of those who write knows the rows of all
        archive.reload()
        every = planned()
        entries = archive.entries_of(every)
        if len(finished) < len(requested) and (
            alone or all(entry.curve.strategy != specification.baseline for entry in entries)
        ):
            print(f"{len(finished)} of {len(requested)} runs are finished; the summary is written when all are.")
            return
        missing = [run.name for run in every if not archive.has(run)]
        print(f"Summary: {write_summary(output, entries, specification, every[0].budget, missing, archive.failed)}")


def _summarise_again(output: Path, specification: Specification, archive: Archive, seeds: Sequence[int] | None) -> int:
    if not archive.entries:
        raise InputError(f"There are no rows of these strategies in {output / 'curves'}. Run the comparison first.")
    there = {(entry.curve.strategy, entry.curve.seed) for entry in archive.entries}
    named = {*(seeds or ()), *archive.seeds, *(seed for _, seed in archive.rowless)}
    pairs = [(label, seed) for seed in sorted(named) for label in specification.labels]
    missing = [f"{label} seed {seed}" for label, seed in pairs if (label, seed) not in there]
    print(f"Summary: {write_from_rows(output, archive.entries, specification, missing, archive.failed)}")
    return 0
