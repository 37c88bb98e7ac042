"""How the learner failed: episodes that ended before their time without a success, by reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.reports.tables import markdown_table
from amf_lightning.tasks.failure import REASONS, WORDS


def failure_section(facts: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The report's part about them, and about a suite that does not repeat; nothing where there is nothing to say.

    Args:
        facts: `evaluation.json`.
        names: of the tasks, [K].
    """
    tasks = facts.get("tasks") or {}
    failures = {name: counts for name in names if (counts := (tasks.get(name) or {}).get("failures"))}
    reasons = [reason for reason in REASONS if any(reason in counts for counts in failures.values())]
    rows = [[name, *(str(counts.get(reason, 0)) for reason in reasons)] for name, counts in failures.items()]
    lines = []
    if rows:
        lines += [
            "Episodes of the last evaluation that ended before their time without a success. Each step that they lack "
            "counts as their worst one.",
            markdown_table(["task", *(WORDS[reason] for reason in reasons)], rows),
        ]
    if facts.get("repeats") is False:
        lines.append(
            "**This suite does not repeat:** the same episode, run twice, went another way. Scores differ from run to "
            "run by more than the seed says, and a run that is resumed is not the run that was never stopped."
        )
    return ["## What failed", *lines] if lines else []


def failure_metrics(evaluations: Sequence[Evaluation], names: Sequence[str]) -> dict[str, float]:
    """`failures/<reason>/<task>` at the last evaluation, of all that there were at any.

    Args:
        evaluations: of the run so far, at least one.
        names: of the tasks, [K].
    """
    ever = {(index, reason) for each in evaluations for index, counts in enumerate(each.failures) for reason in counts}
    last = evaluations[-1].failures
    return {
        f"failures/{reason}/{names[index]}": float(last[index].get(reason, 0) if last else 0)
        for index, reason in sorted(ever)
    }
