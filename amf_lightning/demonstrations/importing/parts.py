"""A long recording of several tasks in a row, cut into demonstrations of one task each.

FrankaKitchen's recordings (D4RL, arXiv 2004.07219) open the microwave, move the kettle and switch the light in one
episode, with what is reached and what should be beside the observations.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from amf_lightning.demonstrations.importing.reading import Subgoals
from amf_lightning.demonstrations.importing.recorded import AGAIN, Recorded
from amf_lightning.errors import InputError


def parts(where: str, recorded: Recorded, subgoals: Subgoals | None) -> Iterator[tuple[str, Recorded]]:
    """The recording as it is, or, for sub-goals, its parts: each ends with the observation in which one is reached.

    Its task is the name of the sub-goal, and it is a success. What is reached already at the start ends no part; of
    several that are reached at once the first by name counts; what comes after the last is left out, and so is a
    recording that reaches none. Only the first part starts where the episode did and keeps its seed.

    Args:
        where: file and episode, for messages.
        recorded: T actions, T + 1 observations.
        subgoals: None to leave it whole.

    Raises:
        InputError: rows are missing, or a sub-goal has another shape than what is reached.
    """
    if subgoals is None:
        yield where, recorded
        return
    _check_rows(where, recorded)
    begin, facts = 0, recorded.facts
    for end, name in sorted((row, name) for name, row in _reached(where, recorded, subgoals.within).items()):
        if end > begin:
            seed = recorded.seed if begin == 0 else None
            yield (
                f"{where}, steps {begin} to {end - 1}",
                replace(
                    recorded,
                    observations={key: entry[begin : end + 1] for key, entry in recorded.observations.items()},
                    actions=recorded.actions[begin:end],
                    rewards=None if recorded.rewards is None else recorded.rewards[begin:end],
                    task=name,
                    seed=seed,
                    success=True,
                    metrics={},
                    # What our exporter noted is of the whole.
                    facts=facts and replace(facts, task=name, seed=seed, success=True, metrics={}),
                    subgoals={},
                ),
            )
            begin = end


def _check_rows(where: str, recorded: Recorded) -> None:
    """Raises InputError where the whole could not be used; its parts would hide it."""
    steps = len(recorded.actions)
    rows = {name: (len(entry), steps + 1) for name, entry in recorded.observations.items()}
    if recorded.rewards is not None:
        rows["rewards"] = (len(recorded.rewards), steps)
    for name, (number, wanted) in rows.items():
        if number != wanted:
            raise InputError(
                f"{where}: '{name}' has {number} rows beside {steps} actions; to be cut it needs {wanted}. {AGAIN}"
            )


def _reached(where: str, recorded: Recorded, within: float) -> dict[str, int]:
    """The first row in which each sub-goal is reached, of those that are reached and were not at the start."""
    rows = {}
    for name, (achieved, desired) in recorded.subgoals.items():
        if achieved.shape != desired.shape or len(achieved) != len(recorded.actions) + 1:
            raise InputError(
                f"{where}: sub-goal '{name}' has shape {list(desired.shape)}, what is reached {list(achieved.shape)}, "
                f"and there are {len(recorded.actions)} actions. Both need a row for each observation. {AGAIN}"
            )
        off = (achieved.astype(np.float64) - desired.astype(np.float64)).reshape(len(achieved), -1)
        if not np.isfinite(off).all():
            raise InputError(f"{where}: sub-goal '{name}' has numbers that are not finite. {AGAIN}")
        distances = np.linalg.norm(off, axis=1)
        near = np.flatnonzero(distances < within)
        if len(near) and near[0] > 0:
            rows[name] = int(near[0])
    return rows
