"""Reference returns of a suite as a file: between which returns scores are normalised, and how they were measured."""

import json
from collections.abc import Sequence

from amf_lightning.errors import InputError
from amf_lightning.shipped import checkpoint_path
from amf_lightning.tasks.task import ReferenceReturns, Task


def load_reference(name: str, suite: str, tasks: Sequence[Task]) -> ReferenceReturns:
    """Reads the shipped file `name` (or a path) and picks the rows of `tasks`, in their order.

    Raises:
        InputError: the file belongs to another suite or horizon, or a task was not measured.
    """
    path = checkpoint_path(name, suffix=".json")
    try:
        content = json.loads(path.read_text())
        rows, horizon, measured_suite = dict(content["tasks"]), content["horizon"], content["suite"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a file of reference returns ({error!r}).") from error
    advice = (
        "Measure it with `python -m amf_lightning.experts.measure` and name that file as the suite's `reference`, "
        "or set `reference: null` (then nothing can be scored)."
    )
    if measured_suite != suite:
        raise InputError(f"The reference returns in {path} belong to suite '{measured_suite}', not '{suite}'. {advice}")
    for task in tasks:
        if task.name not in rows:
            raise InputError(f"{path} has no reference returns of task '{task.name}'. {advice}")
        if task.horizon != horizon:
            raise InputError(
                f"{path} holds returns of {horizon}-step episodes, task '{task.name}' has {task.horizon}. {advice}"
            )
    return ReferenceReturns(
        random=tuple(rows[task.name]["random"] for task in tasks),
        expert=tuple(rows[task.name]["expert"] for task in tasks),
        spread=tuple(rows[task.name]["spread"] for task in tasks),
        command=content["command"],
    )
