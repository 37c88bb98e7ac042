"""Reference returns of a suite as a file: between which returns scores are normalised, and how they were measured."""

import math
from collections.abc import Mapping, Sequence

from amf_lightning.errors import InputError
from amf_lightning.reading import read_json_mapping
from amf_lightning.shipped import checkpoint_path
from amf_lightning.tasks.task import ReferenceReturns, Task


def load_reference(name: str, suite: str, tasks: Sequence[Task]) -> ReferenceReturns:
    """Reads the shipped file `name` (or a path) and picks the rows of `tasks`, in their order.

    Raises:
        InputError: the file belongs to another suite or horizon, or a task was not measured.
    """
    path = checkpoint_path(name, suffix=".json")
    content = read_json_mapping(path, "Measure the returns again with `amf measure`.")
    try:
        rows, horizon, measured_suite = dict(content["tasks"]), content["horizon"], content["suite"]
        command = str(content["command"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a file of reference returns ({error!r}).") from error
    advice = (
        "Measure it with `amf measure` and name that file as the suite's `reference`, "
        "or set `reference: null` (then nothing can be scored)."
    )
    if measured_suite != suite:
        raise InputError(f"The reference returns in {path} belong to suite '{measured_suite}', not '{suite}'. {advice}")
    for task in tasks:
        if task.name not in rows:
            raise InputError(f"{path} has no reference returns of task '{task.name}'. {advice}")
        for part in ("random", "expert", "spread"):
            number = rows[task.name].get(part) if isinstance(rows[task.name], dict) else None
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise InputError(f"{path}: `{part}` of task '{task.name}' is {number!r}, no number. {advice}")
        steps = horizon.get(task.name) if isinstance(horizon, dict) else horizon
        if task.horizon != steps:
            raise InputError(
                f"{path} holds returns of {steps}-step episodes, task '{task.name}' has {task.horizon}. {advice}"
            )
    return ReferenceReturns(
        random=tuple(rows[task.name]["random"] for task in tasks),
        expert=tuple(rows[task.name]["expert"] for task in tasks),
        spread=tuple(rows[task.name]["spread"] for task in tasks),
        command=command,
    )


def given_reference(rows: Mapping[str, Mapping[str, float]], tasks: Sequence[Task]) -> ReferenceReturns:
    """Reference returns that the user knows: for each task, by name, `random`, `expert` and perhaps `spread` (else 0).

    Raises:
        InputError: a task has none, or something else is there.
    """
    if unknown := sorted(set(rows) - {task.name for task in tasks}):
        raise InputError(
            f"There are reference returns of {', '.join(unknown)}, but no such task. The tasks are "
            f"{', '.join(task.name for task in tasks)}."
        )
    for task in tasks:
        row = rows.get(task.name, {})
        if not {"random", "expert"} <= set(row) <= {"random", "expert", "spread"}:
            raise InputError(
                f"The reference returns of task '{task.name}' are {dict(row)}; give `random`, `expert` and, if known, "
                "`spread`, the standard deviation of the expert's return over episodes."
            )
    return ReferenceReturns(
        random=tuple(float(rows[task.name]["random"]) for task in tasks),
        expert=tuple(float(rows[task.name]["expert"]) for task in tasks),
        spread=tuple(float(rows[task.name].get("spread", 0.0)) for task in tasks),
        command="given in the configuration",
    )
