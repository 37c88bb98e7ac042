"""The folder of a run: the only place that knows its file names, columns and what may be overwritten."""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from amf_lightning.campaign.request import Request, scores_from_json, scores_to_json
from amf_lightning.configuration import differences, identity, plain
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError

if TYPE_CHECKING:  # it imports torch, which reading the folder of a run can do without
    from amf_lightning.evaluation.scores import Evaluation

MEAN = "mean"
"""What stands in the column `task` of the row that averages over tasks."""
CURVE_COLUMNS = ("demonstrations", "task", "return", "success", "score")


@dataclass(frozen=True)
class CurveRow:
    """One line of `curve.csv`."""

    demonstrations: int
    task: str
    """Name of a task, or `mean`."""
    episode_return: float
    success: float
    score: float


class RunFolder:
    """Names, writes and reads the files of one run. Every write is atomic and durable; floats keep their bits.

    Args:
        path: created at the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.ledger = path / "ledger.sqlite"
        self.demonstrations = path / "demonstrations"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.selections = path / "selections.jsonl"
        self.curve = path / "curve.csv"
        self.forgetting = path / "forgetting.csv"
        self.evaluation = path / "evaluation.json"
        self.report = path / "report.md"
        self.curve_picture = path / "curve.png"
        self.allocation_picture = path / "allocation.png"
        self.animation = path / "policy.gif"
        self.policy = path / "policy.safetensors"

    def write_config(self, text: str) -> None:
        """Writes the resolved configuration, as YAML. It is the first file of a run: see `check_identity`."""
        write_durably(self.config, text)

    def write_selections(self, jobs: Sequence[Request]) -> None:
        """Writes `selections.jsonl`, a line a job with the names of its fields; a score of NaN is null."""
        lines = [json.dumps(asdict(job) | {"scores": scores_to_json(job.scores)}, allow_nan=False) for job in jobs]
        write_durably(self.selections, "".join(f"{line}\n" for line in lines))

    def read_selections(self) -> list[Request]:
        """The jobs in `selections.jsonl`; none if it does not exist.

        Raises:
            InputError: a line is not one of ours; names it.
        """
        return [self._job(line, number) for number, line in enumerate(_text(self.selections).splitlines(), start=1)]

    def write_curve(
        self, evaluations: Sequence["Evaluation"], task_names: Sequence[str], weights: Sequence[float] | None = None
    ) -> None:
        """Writes `curve.csv`: for each evaluation a row a task, then the row `mean`.

        Args:
            evaluations: in increasing numbers of demonstrations.
            task_names: in the order of the suite, [K].
            weights: μ up to a factor, [K], as in `TaskSuite.weights`: None is uniform. Return and success of the row
                `mean` are averaged with it; its score is `mean_score`.

        Raises:
            InputError: a task is called `mean`.
            ValueError: the weights are not those of `mean_score`.
        """
        rows = [row for evaluation in evaluations for row in _rows(evaluation, task_names, weights)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CURVE_COLUMNS)
        writer.writerows(
            (row.demonstrations, row.task, repr(row.episode_return), repr(row.success), repr(row.score)) for row in rows
        )
        write_durably(self.curve, text.getvalue())

    def write_forgetting(self, table: str) -> None:
        """Writes `forgetting.csv`; see `forgetting_table`."""
        write_durably(self.forgetting, table)

    def read_curve(self) -> list[CurveRow]:
        """The rows of `curve.csv`; none if it does not exist.

        Raises:
            InputError: a line is not one of ours; names it.
        """
        try:
            lines = list(csv.reader(io.StringIO(_text(self.curve), newline="")))
        except csv.Error as error:
            raise InputError(f"{self.curve} is not a table ({error}). Remove it.") from error
        if lines and tuple(lines[0]) != CURVE_COLUMNS:
            raise InputError(f"{self.curve} has the columns {lines[0]} instead of {list(CURVE_COLUMNS)}. Remove it.")
        return [self._curve_row(line, number) for number, line in enumerate(lines[1:], start=2)]

    def write_evaluation(
        self,
        evaluation: "Evaluation | None",
        task_names: Sequence[str],
        weights: Sequence[float] | None = None,
        **facts: Any,
    ) -> None:
        """Writes `evaluation.json`: `{demonstrations, tasks: {NAME: {return, success, score}}, mean: {…}, FACT: …}`.

        A task of which evaluation episodes ended before their time without a success has `failures`, too: how many, by
        reason.

        Args:
            evaluation: of one policy; None if nobody has evaluated it: then there are no tasks and no mean.
            task_names: in the order of the suite, [K].
            weights: as in `write_curve`.
            facts: further entries of plain types, e.g. the seed. They come after ours and cannot replace them.
        """
        rows = [] if evaluation is None else list(_rows(evaluation, task_names, weights))
        tasks = {
            row.task: plain({"return": row.episode_return, "success": row.success, "score": row.score}, strict=True)
            for row in rows
        }
        mean = tasks.pop(MEAN, None)
        for name, failures in zip(task_names, evaluation.failures if evaluation else (), strict=False):
            tasks[name] |= {"failures": dict(failures)} if failures else {}
        number = facts.get("trained_on", 0) if evaluation is None else evaluation.demonstrations
        own_facts = {"demonstrations": number, "tasks": tasks, "mean": mean}
        content = {**own_facts, **plain(facts, strict=True), **own_facts}
        write_durably(self.evaluation, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def check_identity(self, config: Mapping[str, Any]) -> None:
        """Makes sure that this folder is empty of runs, or holds the run of this configuration.

        A folder without `config.yaml` may hold files of others (they are left alone), but none under a name that a
        run writes: it would be overwritten. So `config.yaml` must be the first file that a run writes.

        Args:
            config: the resolved configuration in plain types; `identity` says what of it is compared.

        Raises:
            InputError: another run is in the folder (names the keys that differ, with both values), or something
                that is not a run.
        """
        if not self.config.exists():
            if foreign := self._taken():
                raise InputError(
                    f"{self.path} has no config.yaml but {', '.join(path.name for path in foreign)}, which a run would "
                    "overwrite. Choose another folder with --trainer.default_root_dir, or move these files away."
                )
            return
        there, here = self._identity(), identity(config)
        if keys := [key for key, _, _ in differences(there, here)]:
            values = "; ".join(f"{key} is {_show(there, key)} there and {_show(here, key)} here" for key in keys[:3])
            more = f"; and {len(keys) - 3} more keys differ" if len(keys) > 3 else ""
            raise InputError(
                f"{self.path} holds a run of another configuration: {values}{more}. "
                "Choose another folder with --trainer.default_root_dir, or give the configuration that began the run."
            )

    def entries(self) -> list[Path]:
        """Everything that a run puts into its folder, with what this process logs; files before their folders."""
        paths = [value for value in vars(self).values() if isinstance(value, Path) and value != self.path]
        logged = [self.path / "hparams.yaml", *self.path.glob(f"events.out.tfevents.*.{os.getpid()}.*")]
        return [*paths, *logged, self.checkpoint.parent]

    def remove_results(self) -> None:
        """Removes what a run writes at its end, before it goes on with a larger budget."""
        for path in (self.policy, self.report, self.animation):
            path.unlink(missing_ok=True)

    def finished(self, budget: int) -> bool:
        """Whether the run has written what it writes at its end, after `budget` demonstrations or stopped before."""
        if not self.policy.exists() or not self.report.exists():
            return False
        if any(row.demonstrations == budget for row in self.read_curve()) or self.stopped is not None:
            return True
        facts = self.read_facts()
        return facts.get("trained_on") == budget and facts.get("mean") is None  # nobody evaluates such a run

    @property
    def stopped(self) -> str | None:
        """Why the run ended before its budget was spent, as `evaluation.json` says; None if it did not."""
        reason = self.read_facts().get("stopped")
        return None if reason is None else str(reason)

    def read_facts(self) -> dict[str, Any]:
        """The contents of `evaluation.json`; empty if there is none.

        Raises:
            InputError: it is not JSON.
        """
        try:
            facts = json.loads(_text(self.evaluation) or "{}")
        except ValueError as error:
            raise InputError(f"{self.evaluation} is not valid JSON ({error}). Remove it and run again.") from error
        return facts if isinstance(facts, dict) else {}

    def _taken(self) -> list[Path]:
        """Files and folders that are there under a name of ours."""
        paths = [value for value in vars(self).values() if isinstance(value, Path) and value != self.path]
        tops = sorted({self.path / path.relative_to(self.path).parts[0] for path in paths})
        return [top for top in tops if (any(top.iterdir()) if top.is_dir() else top.exists())]

    def _identity(self) -> dict[str, Any]:
        """What the configuration in this folder says that makes the run what it is."""
        try:
            config = yaml.safe_load(self.config.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{self.config} cannot be read as YAML, so its folder is refused: {error}") from error
        if not isinstance(config, dict):
            raise InputError(f"{self.config} is not the configuration of a run. Choose another folder.")
        return identity(config)

    def _job(self, line: str, number: int) -> Request:
        try:
            values = json.loads(line)
            values["scores"] = scores_from_json(values["scores"])
            return Request(**{field.name: values[field.name] for field in fields(Request)})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.selections}, line {number} is not a selection ({error!r}). Remove it.") from error

    def _curve_row(self, line: Sequence[str], number: int) -> CurveRow:
        try:
            demonstrations, task, episode_return, success, score = line
            return CurveRow(int(demonstrations), task, float(episode_return), float(success), float(score))
        except ValueError as error:
            raise InputError(f"{self.curve}, line {number} is not a row of a curve ({error}). Remove it.") from error


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode() if path.exists() else ""
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text. Remove it.") from error


def _rows(evaluation: "Evaluation", task_names: Sequence[str], weights: Sequence[float] | None) -> Iterator[CurveRow]:
    from amf_lightning.evaluation.scores import weighted_mean  # imports torch, which who only reads does without

    if MEAN in task_names:
        raise InputError(f"A task cannot be called '{MEAN}': tables keep that name for the mean over tasks.")
    weights = (1.0,) * len(task_names) if weights is None else weights
    if not math.isclose(weighted_mean(evaluation.scores, weights), evaluation.mean_score, rel_tol=1e-9, abs_tol=1e-12):
        raise ValueError(f"weights {weights} do not give the mean score {evaluation.mean_score}")
    number = evaluation.demonstrations
    columns = (evaluation.returns, evaluation.successes, evaluation.scores)
    for name, *values in zip(task_names, *columns, strict=True):
        yield CurveRow(number, name, *values)
    means = (weighted_mean(evaluation.returns, weights), weighted_mean(evaluation.successes, weights))
    yield CurveRow(number, MEAN, *means, evaluation.mean_score)


def _show(leaves: Mapping[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else "not set"
