"""`amf compare`: strategies against each other over seeds."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from amf_lightning.errors import InputError
from amf_lightning.studies.comparison import Comparison, parse_seeds, read_comparison
from amf_lightning.studies.comparison_report import write_from_curves, write_from_runs
from amf_lightning.studies.plan import PROGRAM, Run, plan_pretraining, plan_runs
from amf_lightning.studies.processes import Forked, Spawn, cold
from amf_lightning.studies.runner import execute


def add_compare_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `amf compare`."""
    parser.add_argument("--config", type=str, required=True, help="what is compared, e.g. configs/compare/NAME.yaml")
    parser.add_argument("--output", type=str, required=True, help="folder of the runs and of the summary")
    parser.add_argument("--seeds", type=str, default=None, help="A:B, the seeds A to B - 1; default: those of the file")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, one thread each (default: 1)")
    parser.add_argument(
        "--share-imports", action="store_true", help="import once for all runs: seconds less for each, on one machine"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")
    parser.add_argument(
        "--array-index",
        type=int,
        default=None,
        help="run only this one of the strategies × seeds, counted from 0, e.g. $SLURM_ARRAY_TASK_ID",
    )
    parser.add_argument(
        "--from-curves", action="store_true", help="only summarise OUTPUT/curves.csv again, without the run folders"
    )


def run_compare(args: Namespace, program: Sequence[str] = PROGRAM) -> int:
    """Runs what is not finished, then writes the summary. Returns the exit code, 1 if a run failed.

    Args:
        args: as `add_compare_arguments` has them parsed.
        program: how the application is started.

    Raises:
        InputError: the comparison file, the seeds or the output folder cannot be used.
    """
    comparison, output = read_comparison(Path(args.config)), Path(args.output)
    if args.from_curves:
        print(f"Summary: {write_from_curves(output, comparison.baseline)}")
        return 0
    seeds = parse_seeds(args.seeds) if args.seeds else comparison.seeds
    if seeds is None:
        raise InputError(f"Give --seeds A:B, or write seeds into {args.config}.")
    if args.jobs < 1:
        raise InputError(f"--jobs must be at least 1, got {args.jobs}.")
    every = plan_runs(comparison, seeds, output, program)
    runs = every if args.array_index is None else [_picked(every, args.array_index)]
    pretraining = _pretraining(comparison, runs, output, args, program)
    if args.dry_run:
        for run in (*pretraining, *runs):
            print(f"OMP_NUM_THREADS=1 {run.shell_command}")
        return 0
    for run in (*pretraining, *runs):
        run.check_settings()
    spawn: Spawn = Forked if args.share_imports else cold
    failures = execute(pretraining, args.jobs, spawn=spawn)
    if without_policy := {failure.run.seed for failure in failures}:
        runs = [run for run in runs if run.seed not in without_policy]
        print(f"Left out for want of a pre-trained policy: seeds {', '.join(map(str, sorted(without_policy)))}")
    failures += execute(runs, args.jobs, spawn=spawn)
    _summarise(output, every, comparison.baseline, alone=args.array_index is not None)
    if failures:
        print(f"{len(failures)} failed: {', '.join(failure.run.name for failure in failures)}. See the logs.")
    return 1 if failures else 0


def _picked(runs: Sequence[Run], index: int) -> Run:
    if not 0 <= index < len(runs):
        raise InputError(f"--array-index must lie between 0 and {len(runs) - 1} (strategies × seeds), got {index}.")
    return runs[index]


def _pretraining(
    comparison: Comparison, runs: Sequence[Run], output: Path, args: Namespace, program: Sequence[str]
) -> list[Run]:
    """The pre-training that the runs need. A run of an array works apart: others may need the same policy now."""
    apart = args.array_index is not None and not args.dry_run
    seeds = list(dict.fromkeys(run.seed for run in runs))
    return plan_pretraining(comparison, seeds, output, runs[0].label if apart else "", program)


def _summarise(output: Path, runs: Sequence[Run], baseline: str, alone: bool) -> None:
    finished = [run.finished() for run in runs]
    if all(finished) or (
        not alone and any(done for run, done in zip(runs, finished, strict=True) if run.label == baseline)
    ):
        print(f"Summary: {write_from_runs(output, runs, baseline)}")
    else:
        print(f"{sum(finished)} of {len(runs)} runs are finished; the summary is written when all are.")
