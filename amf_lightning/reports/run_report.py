"""The report of one run: what was asked, why, what it gained, what it cost. Read from the run folder's files alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from amf_lightning.campaign.curve import MEAN, CurveRow
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.durable import write_durably
from amf_lightning.evaluation.scores import Evaluation, area_under_curve, demonstrations_to, forgetting, largest_setback
from amf_lightning.evaluation.statistics import clopper_pearson
from amf_lightning.reports.calibration import Calibration, calibration_figure, calibration_section, calibrations
from amf_lightning.reports.failures import failure_section
from amf_lightning.reports.figures import allocation_figure, curve_figure, png
from amf_lightning.reports.outlook import outlook_section
from amf_lightning.reports.tables import markdown_table, number, percent, plural, uses_phrase
from amf_lightning.reports.trials import trials_section
from amf_lightning.tasks.task import TaskSuite

# A table of choices longer than both together loses its middle; selections.jsonl has all of it.
_FIRST_CHOICES, _LAST_CHOICES = 30, 10
_NUMBERS_SHOWN = 12

Curve = Mapping[int, Mapping[str, CurveRow]]
"""Rows by number of demonstrations and name of task."""


def write_report(folder: RunFolder, suite: TaskSuite) -> None:
    """Writes `report.md`, `curve.png`, `allocation.png` and, where predictions were held against something,
    `calibration.png`.

    Args:
        folder: has `curve.csv` and `selections.jsonl`; of `evaluation.json`, if it is there, are read: `selector`,
            `uses`, `environment_steps`, `pretraining_tasks` (names), `budget`, `seed`, `stopped` (why), `retention`,
            `frozen` (entries of each parameter), `measures` (of the retention, of each task), `scored_by` (how scores
            came about), `unscored` (why there are no scores, and what to do about it), `repeats` (whether the suite
            does), and of each task `failures`.
        suite: the tasks.

    Raises:
        InputError: the folder holds a damaged file.
    """
    curve, rows, facts = read_by_task(folder), folder.read_outcomes(), folder.read_facts()
    jobs, calibrated = [job for job, _ in rows], calibrations([outcome for _, outcome in rows])
    names = [task.name for task in suite.tasks]
    pretrained = [name for name in facts.get("pretraining_tasks") or () if name in names]
    selector = facts.get("selector") or ", ".join(dict.fromkeys(job.selector for job in jobs)) or "No selector"
    _write_pictures(folder, curve, jobs, names, pretrained, calibrated)
    sections = [
        f"# {selector} on {suite.name}: {plural(len(jobs), 'demonstration')}",
        *_gained(folder, curve, jobs, names, facts),
        *outlook_section([row for of_tasks in curve.values() for row in of_tasks.values()], jobs),
        *trials_section(folder.path, names, suite.task),
        f"![Which task was asked when]({folder.allocation_picture.name})",
        *_animation(folder),
        "## Why",
        *_choices(jobs, names, selector),
        *calibration_section(calibrated, selector, folder.calibration_picture.name),
        *_retention(curve, pretrained, facts),
        *failure_section(facts, names),
        "## What it cost",
        _cost(jobs, facts),
    ]
    write_durably(folder.report, "\n\n".join(sections) + "\n")


def setback_fact(evaluations: Sequence[Evaluation]) -> dict[str, float | int | None]:
    """`setback` in `evaluation.json`: the largest fall of the mean score from one evaluation to the next, and when."""
    counts = [each.demonstrations for each in evaluations]
    return dict(largest_setback(counts, [each.of_rounds.mean_score for each in evaluations])._asdict())


def read_by_task(folder: RunFolder) -> Curve:
    """The rows of `curve.csv` by number of demonstrations and task; none if nobody has evaluated the run."""
    curve: dict[int, dict[str, CurveRow]] = {}
    for row in folder.read_curve():
        curve.setdefault(row.demonstrations, {})[row.task] = row
    return curve


def _write_pictures(
    folder: RunFolder,
    curve: Curve,
    jobs: Sequence[Request],
    names: Sequence[str],
    pretrained: Sequence[str],
    calibrated: Sequence[Calibration],
) -> None:
    if counts := sorted(curve):
        scores = {name: [curve[count][name].score for count in counts] for name in names}
        means = [curve[count][MEAN].score for count in counts]
        write_durably(folder.curve_picture, png(curve_figure(counts, means, scores), small=True))
    picks, rounds = [job.task_index for job in jobs], [job.round for job in jobs]
    allocation = allocation_figure(picks, rounds, names, frozenset(pretrained))
    write_durably(folder.allocation_picture, png(allocation, small=True))
    if calibrated:
        write_durably(folder.calibration_picture, png(calibration_figure(calibrated), small=True))


def _gained(
    folder: RunFolder, curve: Curve, jobs: Sequence[Request], names: Sequence[str], facts: Mapping[str, Any]
) -> list[str]:
    """What the demonstrations gained, or that nobody knows."""
    if curve:
        return [
            _summary(curve, jobs, names, facts),
            f"![Mean score against demonstrations]({folder.curve_picture.name})",
            "## What was asked, and what it gained",
            _gain_table(curve, jobs, names),
        ]
    numbers_of_tasks = [(name, [job.demonstration + 1 for job in jobs if job.task == name]) for name in names]
    stopped = f" The run **stopped early**: {facts['stopped']}." if facts.get("stopped") else ""
    return [
        f"**What the demonstrations gained is unknown:** {facts.get('unscored', 'nobody has evaluated the policy.')} "
        "This report cannot know scores, successes, or whether anything was forgotten; it says what was asked and why."
        f"{stopped}",
        "## What was asked",
        markdown_table(
            ["task", "asked as number", "asked"],
            [[name, _numbers(numbers), str(len(numbers))] for name, numbers in numbers_of_tasks],
            left=2,
        ),
    ]


def _summary(curve: Curve, jobs: Sequence[Request], names: Sequence[str], facts: Mapping[str, Any]) -> str:
    budget, stopped = facts.get("budget"), facts.get("stopped")
    counts = sorted(curve)
    first, last = curve[counts[0]][MEAN], curve[counts[-1]][MEAN]
    scores = [curve[count][MEAN].score for count in counts]
    times = {name: sum(job.task == name for job in jobs) for name in names}
    most = sorted((name for name in names if times[name]), key=lambda name: -times[name])[:3]
    never = [name for name in names if not times[name]]
    meaning = "0 is random actions, 1 the expert" if math.isfinite(last.episode_return) else facts.get("scored_by", "")
    gained = (
        f"**Mean score {number(first.score)} → {number(last.score)}** over {plural(len(names), 'task')} "
        f"({meaning}) after {plural(last.demonstrations, 'demonstration')}"
    )
    if counts[0] == 0:
        reached = [_reached(threshold, counts, scores) for threshold in (0.8, 0.9)]
        lines = [
            f"{gained}; area under the curve {number(area_under_curve(counts, scores, counts[-1]), 3)}.",
            f"A mean score of 0.8 {reached[0]}, 0.9 {reached[1]}.",
        ]
    else:
        lines = [f"{gained}. The policy before the first demonstration was not evaluated."]
    fall, after = largest_setback(counts, [curve[count][MEAN].matched_score for count in counts])
    if after is not None:
        lines.append(f"Largest setback: the mean score fell by {number(fall, 3)} to the evaluation after {after}.")
    if (kept := facts.get("deployed_after")) is not None:
        lines.append(f"Deployed is the policy after {plural(kept, 'demonstration')}; no later one looked better.")
    if most:
        lines.append(f"Asked most: {', '.join(f'{name} ({times[name]}×)' for name in most)}.")
    if most and never:
        few = len(never) <= _NUMBERS_SHOWN
        lines.append(f"Never asked: {', '.join(never) if few else f'{len(never)} of {len(names)} tasks'}.")
    if stopped and budget is not None:
        lines.append(f"**Stopped early**, after {last.demonstrations} of {plural(budget, 'demonstration')}: {stopped}.")
    elif budget is not None and last.demonstrations < budget:
        lines.append(f"**Not finished:** evaluated after {last.demonstrations} of {plural(budget, 'demonstration')}.")
    return "\n".join(lines)


def _reached(threshold: float, counts: Sequence[int], scores: Sequence[float]) -> str:
    count = demonstrations_to(threshold, counts, scores, counts[-1])
    if count == 0:
        return "was there from the start"
    return "was not reached" if count > counts[-1] else f"was reached after {plural(count, 'demonstration')}"


def _gain_table(curve: Curve, jobs: Sequence[Request], names: Sequence[str]) -> str:
    first, last = curve[min(curve)], curve[max(curve)]
    rows = []
    for name in [*names, MEAN]:
        old, new = first[name], last[name]
        numbers = [job.demonstration + 1 for job in jobs if name in (job.task, MEAN)]
        row = [
            name,
            "" if name == MEAN else _numbers(numbers),
            str(len(numbers)),
            f"{number(old.episode_return, 1)} → {number(new.episode_return, 1)}",
            f"{percent(old.success).removesuffix(' %')} → {percent(new.success)}{_exact(new)}",
            f"{number(old.score)} → {number(new.score)}",
            number(new.score - old.score, signed=True),
        ]
        rows.append([f"**{cell}**" if cell and name == MEAN else cell for cell in row])
    header = ["task", "asked as number", "asked", "return", "success", "score", "change"]
    table = markdown_table(header, rows, left=2)
    if not any(_exact(last[name]) for name in names):
        return table
    before, after = ({of[name].episodes for name in names} for of in (first, last))
    brackets = "Brackets: exact 90 % intervals of the last evaluation (Clopper and Pearson, 1934)"
    if len(before) > 1 or len(after) > 1:  # people report as many trials as they made
        return f"{table}\n\n{brackets}."
    [count], others = after, "as many" if before == after else before.pop()
    return f"{table}\n\n{brackets}, over {count} episodes of each task; {others} at the first."


def _exact(row: CurveRow) -> str:
    """The interval of a task's success rate; nothing for the mean over tasks, and where nobody counted episodes."""
    if row.task == MEAN or not row.episodes:
        return ""
    low, high = clopper_pearson(round(row.success * row.episodes), row.episodes)
    return f" [{100 * low:.0f}, {100 * high:.0f}]"


def _numbers(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers[:_NUMBERS_SHOWN]))
    return f"{text}, …" if len(numbers) > _NUMBERS_SHOWN else text


def _animation(folder: RunFolder) -> list[str]:
    if not folder.animation.exists():
        return []
    return [f"![Some tasks before and after]({folder.animation.name})"]


def _choices(jobs: Sequence[Request], names: Sequence[str], selector: str) -> list[str]:
    if all(math.isnan(score) for job in jobs for score in job.scores):
        return [f"{selector} gave no scores to tasks in this run."]
    rows = [_choice(job, names) for job in jobs]
    if len(rows) > _FIRST_CHOICES + _LAST_CHOICES:
        rows = [*rows[:_FIRST_CHOICES], ["…"] * len(rows[0]), *rows[-_LAST_CHOICES:]]
    return [
        f"{selector} gives every task a score before each choice. Scores of all tasks are in `selections.jsonl`.",
        markdown_table(["number", "round", "asked", "its score", "runner-up", "its score", "lead"], rows, left=0),
    ]


def _choice(job: Request, names: Sequence[str]) -> list[str]:
    """A line of the table: the choice, and the best of the others."""
    other_scores = [(score, i) for i, score in enumerate(job.scores) if i != job.task_index and not math.isnan(score)]
    score = job.scores[job.task_index]
    second, runner_up = max(other_scores, default=(math.nan, -1), key=lambda pair: pair[0])
    lead = f"{100 * (score - second) / abs(score):+.0f} %" if score and math.isfinite(score - second) else "–"
    return [
        str(job.demonstration + 1),
        str(job.round),
        job.task,
        _score(score),
        names[runner_up] if runner_up >= 0 else "–",
        _score(second),
        lead,
    ]


def _score(score: float) -> str:
    return "–" if math.isnan(score) else f"{score:.3g}"


def _retention(curve: Curve, pretrained: Sequence[str], facts: Mapping[str, Any]) -> list[str]:
    if not (pretrained and curve):
        return _measures(facts)
    first, last = ([curve[count][name].score for name in pretrained] for count in (min(curve), max(curve)))
    loss = forgetting(first, last, [True] * len(pretrained))
    drop, name = max((old - new, name) for old, new, name in zip(first, last, pretrained, strict=True))
    worst = f"Most was lost on {name}: {number(drop)}." if drop > 0 else "None of them got worse."
    by = f" Protected by {facts['retention']}." if facts.get("retention", "NoRetention") != "NoRetention" else ""
    return [
        "## What was kept",
        f"On the {plural(len(pretrained), 'task')} of the pre-training ({', '.join(pretrained)}) the mean score went "
        f"from {number(sum(first) / len(first))} to {number(sum(last) / len(last))}: forgetting "
        f"{number(loss.signed, 3, signed=True)}, counting losses only {number(loss.positive, 3)}. {worst}{by}",
        *_frozen(facts.get("frozen") or {}),
        *_measures(facts),
    ]


def _frozen(frozen: Mapping[str, Sequence[int]]) -> list[str]:
    """How much of each parameter cannot change; nothing if all can."""
    fixed, entries = (sum(pair[i] for pair in frozen.values()) for i in (0, 1))
    if not fixed:
        return []
    rows = [[name, f"{size:,}", f"{100 * part / size:.1f} %"] for name, (part, size) in frozen.items()]
    rows.append(["**all**", f"{entries:,}", f"{100 * fixed / entries:.1f} %"])
    return [markdown_table(["weights", "entries", "frozen"], rows)]


def _measures(facts: Mapping[str, Any]) -> list[str]:
    """What the retention measured of each task (`Retention.measure`); nothing if it measures nothing."""
    measures: Mapping[str, Mapping[str, float]] = facts.get("measures") or {}
    tasks = list(dict.fromkeys(task for of in measures.values() for task in of))
    rows = [[task, *(number(of.get(task)) for of in measures.values())] for task in tasks]
    title = f"What {facts.get('retention', 'the retention')} measured of each task:"
    return [title, markdown_table(["task", *measures], rows)] if rows else []


def _cost(jobs: Sequence[Request], facts: Mapping[str, Any]) -> str:
    rounds = len({job.round for job in jobs})
    lines = [f"- demonstrations: {len(jobs):,} in {plural(rounds, 'round')}"]
    if "uses" in facts:
        lines.append(f"- used by the selector beyond the demonstrations: {uses_phrase(facts['uses'])}")
    if facts.get("environment_steps") is not None:
        lines.append(f"- environment steps beyond the demonstrations: {number(facts['environment_steps'], 0)}")
    if "seed" in facts:
        lines.append(f"- seed: {facts['seed']}")
    return "\n".join(lines)
