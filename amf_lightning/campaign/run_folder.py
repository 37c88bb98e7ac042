"""The folder of a run: the only place that knows its file names, columns and what may be overwritten."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amf_lightning.campaign.curve import CURVE_COLUMNS, MEAN, CurveRow, curve_table, is_header, row_from, rows_of
from amf_lightning.campaign.facts import ADVICE, FINISHED, SEAL, read_facts, sealed
from amf_lightning.campaign.prediction import Outcome
from amf_lightning.campaign.request import Request, scores_from_json, scores_to_json
from amf_lightning.configuration import plain
from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.reading import read_text, read_yaml_mapping

if TYPE_CHECKING:  # it imports torch, which reading the folder of a run can do without
    from amf_lightning.evaluation.scores import Evaluation


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
        self.calibration_picture = path / "calibration.png"
        self.animation = path / "policy.gif"
        self.policy = path / "policy.safetensors"

    def write_config(self, text: str) -> None:
        """Writes the resolved configuration, as YAML. It is the first file of a run: see `check_identity`."""
        write_durably(self.config, text)

    def write_selections(self, jobs: Sequence[Request], outcomes: Mapping[int, Outcome] | None = None) -> None:
        """Writes `selections.jsonl`, a line a job with the names of its fields; a score of NaN is null.

        Args:
            jobs: in the order in which they were trained on.
            outcomes: what was expected of them and what they did, by number: keys that follow those of the job.
        """
        known = outcomes or {}
        rows = [
            asdict(job) | {"scores": scores_to_json(job.scores)} | known.get(job.demonstration, Outcome()).to_json()
            for job in jobs
        ]
        lines = [json.dumps(row, allow_nan=False) for row in rows]
        write_durably(self.selections, "".join(f"{line}\n" for line in lines))

    def read_selections(self) -> list[Request]:
        """The jobs in `selections.jsonl`; none if it does not exist.

        Raises:
            InputError: a line is not one of ours; names it. Or the file is not the one that the run ended with.
        """
        return [job for job, _ in self.read_outcomes()]

    def read_outcomes(self) -> list[tuple[Request, Outcome]]:
        """The jobs in `selections.jsonl` with what was expected of them and what they did; see `read_selections`."""
        lines = self._table(self.selections).splitlines()
        return [self._job(line, number) for number, line in enumerate(lines, start=1)]

    def write_curve(
        self, evaluations: Sequence["Evaluation"], task_names: Sequence[str], weights: Sequence[float] | None = None
    ) -> None:
        """Writes `curve.csv`: for each evaluation a row a task, then the row `mean`; see `curve_table`.

        Args:
            evaluations: in increasing numbers of demonstrations.
            task_names: in the order of the suite, [K].
            weights: μ up to a factor, [K], as in `TaskSuite.weights`: None is uniform. Return and success of the row
                `mean` are averaged with it; its score is `mean_score`.

        Raises:
            InputError: a task is called `mean`.
            ValueError: the weights are not those of `mean_score`.
        """
        rows = [row for evaluation in evaluations for row in rows_of(evaluation, task_names, weights)]
        write_durably(self.curve, curve_table(rows))

    def write_forgetting(self, table: str) -> None:
        """Writes `forgetting.csv`; see `forgetting_table`."""
        write_durably(self.forgetting, table)

    def read_curve(self) -> list[CurveRow]:
        """The rows of `curve.csv`; none if it does not exist.

        Raises:
            InputError: a line is not one of ours; names it. Or the file is not the one that the run ended with.
        """
        try:
            lines = list(csv.reader(io.StringIO(self._table(self.curve), newline="")))
        except csv.Error as error:
            raise InputError(f"{self.curve} is not a table ({error}). Remove it.") from error
        if lines and not is_header(lines[0]):
            raise InputError(f"{self.curve} has the columns {lines[0]} instead of {list(CURVE_COLUMNS)}. Remove it.")
        return [self._curve_row(line, number, len(lines[0])) for number, line in enumerate(lines[1:], start=2)]

    def write_evaluation(
        self,
        evaluation: "Evaluation | None",
        task_names: Sequence[str],
        weights: Sequence[float] | None = None,
        **facts: Any,
    ) -> None:
        """Writes `evaluation.json`: `{demonstrations, tasks: {NAME: {return, success, score}}, mean: {…}, FACT: …}`.

        Beside a score stand `episodes` and `score_of_rounds` as in `CurveRow`, where there is something to say. A task
        of which evaluation episodes ended before their time without a success has `failures`, too: how many, by reason.

        Args:
            evaluation: of one policy; None if nobody has evaluated it: then there are no tasks and no mean.
            task_names: in the order of the suite, [K].
            weights: as in `write_curve`.
            facts: further entries of plain types, e.g. the seed. They come after ours and cannot replace them.
        """
        rows = [] if evaluation is None else list(rows_of(evaluation, task_names, weights))
        tasks = {row.task: plain(_measured(row), strict=True) for row in rows}
        mean = tasks.pop(MEAN, None)
        for name, failures in zip(task_names, evaluation.failures if evaluation else (), strict=False):
            tasks[name] |= {"failures": dict(failures)} if failures else {}
        number = facts.get("trained_on", 0) if evaluation is None else evaluation.demonstrations
        own_facts = {"demonstrations": number, "tasks": tasks, "mean": mean}
        content = {**own_facts, **plain(facts, strict=True), **own_facts}
        self._write_facts(content)

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
        from amf_lightning.campaign.run_identity import check_identity

        check_identity(self, config)

    def entries(self) -> list[Path]:
        """Everything that a run puts into its folder, with what this process logs; files before their folders."""
        paths = [value for value in vars(self).values() if isinstance(value, Path) and value != self.path]
        return [*paths, *self.logged(), self.checkpoint.parent]

    def logged(self) -> list[Path]:
        """What TensorBoard's writers of this process put into the folder."""
        return [self.path / "hparams.yaml", *self.event_files(f"*.{os.getpid()}.*")]

    def event_files(self, which: str = "*") -> list[Path]:
        """The event files of TensorBoard that are there, of all processes unless a pattern of their names is given."""
        return sorted(path for path in self.path.glob(f"events.out.tfevents.{which}") if path.is_file())

    def reopen(self) -> None:
        """Notes that the results are about to be replaced. They stay until what replaces them is on the disk."""
        if (facts := self.read_facts()) and facts.get(FINISHED, 0) is not None:
            self._write_facts({**facts, FINISHED: None, SEAL: {}})

    def seal(self, demonstrations: int) -> None:
        """Notes that all results are written, and the SHA-256 of the tables: a later change of them is noticed.

        Args:
            demonstrations: what the results are about.
        """
        hashes = {path.name: _sha256(path) for path in (self.curve, self.selections) if path.is_file()}
        self._write_facts({**self.read_facts(), FINISHED: demonstrations, SEAL: hashes})

    def finished(self, budget: int) -> bool:
        """Whether the run has written what it writes at its end, after `budget` demonstrations or stopped before."""
        if not all(path.exists() for path in (self.policy, self.report, self.evaluation, self.selections)):
            return False
        facts = self.read_facts()
        stopped = facts.get("stopped") is not None
        if FINISHED in facts:  # which version 0.2 did not write
            reached = -1 if facts[FINISHED] is None else facts[FINISHED]
            if reached < 0 or (reached < budget and not (stopped and facts.get("budget", 0) >= budget)):
                return False
            if reached == budget:
                # Also where nobody has tried the last policy, so that the curve ends before it, or any.
                return self.curve.exists() or facts.get("mean") is None
        if stopped or any(row.demonstrations == budget for row in self.read_curve()):
            return True
        return facts.get("trained_on") == budget and facts.get("mean") is None  # nobody evaluates such a run

    @property
    def stopped(self) -> str | None:
        """Why the run ended before its budget was spent, as `evaluation.json` says; None if it did not."""
        reason = self.read_facts().get("stopped")
        return None if reason is None else str(reason)

    def read_facts(self) -> dict[str, Any]:
        """The contents of `evaluation.json`; empty if there is none.

        Raises:
            InputError: it is damaged.
        """
        return read_facts(self.evaluation)

    def read_config(self) -> dict[str, Any]:
        """The contents of `config.yaml`, which is there.

        Raises:
            InputError: it is damaged.
        """
        advice = "It says which run this is: restore it, or choose another folder with --trainer.default_root_dir."
        return read_yaml_mapping(self.config, advice)

    def _write_facts(self, facts: Mapping[str, Any]) -> None:
        write_durably(self.evaluation, json.dumps(sealed(facts), indent=2, allow_nan=False) + "\n")

    def _table(self, path: Path) -> str:
        """The text of a table, empty if there is none."""
        if not path.exists():
            return ""
        for _ in range(2):  # a run may end between the two reads
            text, sealed = read_text(path, ADVICE), self.read_facts().get(SEAL, {}).get(path.name)
            if sealed in (None, hashlib.sha256(text.encode()).hexdigest()):
                return text
        raise InputError(f"{path} was changed after the run ended: evaluation.json has another SHA-256. {ADVICE}")

    def taken(self) -> list[Path]:
        """Files and folders that are there under a name of ours."""
        paths = [value for value in vars(self).values() if isinstance(value, Path) and value != self.path]
        tops = sorted({self.path / path.relative_to(self.path).parts[0] for path in paths})
        return [top for top in tops if (any(top.iterdir()) if top.is_dir() else top.exists())]

    def _job(self, line: str, number: int) -> tuple[Request, Outcome]:
        try:
            values = json.loads(line)
            outcome = Outcome.from_json(values)
            values["scores"] = scores_from_json(values["scores"])
            return Request(**{field.name: values[field.name] for field in fields(Request)}), outcome
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{self.selections}, line {number} is not a selection ({error!r}). Remove it.") from error

    def _curve_row(self, line: Sequence[str], number: int, columns: int) -> CurveRow:
        try:
            return row_from(line, columns)
        except ValueError as error:
            raise InputError(f"{self.curve}, line {number} is not a row of a curve ({error}). Remove it.") from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _measured(row: CurveRow) -> dict[str, float]:
    numbers = {"return": row.episode_return, "success": row.success, "score": row.score}
    further = {"episodes": row.episodes, "score_of_rounds": row.score_of_rounds}
    return numbers | {name: number for name, number in further.items() if number is not None}
