"""A line about each round, for people who read a log: where there is no terminal, there is no progress bar."""

import os
import sys
from collections import Counter
from collections.abc import Sequence

from amf_lightning.campaign.request import Request
from amf_lightning.evaluation.scores import Evaluation

_NAMED = 4
"""Tasks that a line names at most."""


def say(line: str) -> None:
    """Prints at once. Whoever stopped reading, e.g. `head`, does not end the run."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - it stays open as long as the process


def start_line(evaluation: Evaluation | None, task_names: Sequence[str], budget: int, demonstrations: int) -> str:
    """How good the policy is before the first round of a process.

    >>> start_line(Evaluation(0, (1.0, 9.0), (0.0, 1.0), (0.125, 0.75), 0.4375), ["left", "right"], 5, 0)
    'start: 0 of 5 demonstrations; mean score 0.438, lowest left 0.125'
    """
    parts = [f"start: {demonstrations} of {budget} demonstrations"]
    if evaluation is not None:
        lowest = min(range(len(task_names)), key=lambda index: evaluation.scores[index])
        parts.append(
            f"mean score {evaluation.mean_score:.3f}, lowest {task_names[lowest]} {evaluation.scores[lowest]:.3f}"
        )
    return "; ".join(parts)


def round_line(
    number: int,
    asked: Sequence[Request],
    demonstrations: int,
    budget: int,
    before: Evaluation | None,
    after: Evaluation | None,
    seconds: float,
    kept_after: int | None = None,
) -> str:
    """What was asked in a round, and what it gained.

    Args:
        number: of the round, from 0.
        asked: the demonstrations of the round.
        demonstrations: of all rounds so far.
        budget: N.
        before: the evaluation before the round, or the last one before that.
        after: the evaluation after the round; None if there was none.
        seconds: that the round took.
        kept_after: demonstrations that the deployed policy was trained on, if it is not the latest.

    >>> earlier = Evaluation(0, (0.0, 0.0), (0.0, 0.0), (0.5, 0.5), 0.5)
    >>> later = Evaluation(1, (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), 1.0)
    >>> round_line(0, [Request(0, 0, "right", 1, "Uniform", (), 7)], 1, 5, earlier, later, 2.04)
    'round 0: asked right; 1 of 5 demonstrations; mean score 1.000 (+0.500), right 0.500 to 1.000; 2.0 s'
    """
    counts = Counter((request.task_index, request.task) for request in asked).most_common()
    names = [f"{name} x{count}" if count > 1 else name for (_, name), count in counts[:_NAMED]]
    more = [f"{len(counts) - _NAMED} other tasks"] if len(counts) > _NAMED else []
    parts = [f"asked {', '.join([*names, *more])}", f"{demonstrations} of {budget} demonstrations"]
    if after is None:
        parts.append("not evaluated")
    elif before is None:
        parts.append(f"mean score {after.mean_score:.3f}")
    else:
        change = f"mean score {after.mean_score:.3f} ({after.mean_score - before.mean_score:+.3f})"
        each = [
            f"{name} {before.scores[index]:.3f} to {after.scores[index]:.3f}" for (index, name), _ in counts[:_NAMED]
        ]
        parts.append(", ".join([change, *each]))
    if kept_after is not None:
        parts.append(f"the policy after {kept_after} stays deployed")
    return f"round {number}: {'; '.join(parts)}; {seconds:.1f} s"
