"""The forgetting of each task at each evaluation, with the retention's numbers: `forgetting.csv`, and curves."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from amf_lightning.evaluation.scores import Evaluation, forgetting, matched

_COLUMNS = ("demonstrations", "task", "pretrained", "score", "forgotten", "lost")
ALL_TASKS = "mean"
"""What stands in the column `task` of the row about all tasks of the pre-training."""


@dataclass(frozen=True)
class FrozenShare:
    """How much of one parameter, or of a whole policy, fine-tuning cannot change."""

    entries: int
    frozen: int

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.frozen / self.entries if self.entries else 0.0


def frozen_shares(sizes: Mapping[str, int], trainable: Mapping[str, Tensor]) -> dict[str, FrozenShare]:
    """Of each parameter, by name.

    Args:
        sizes: number of entries of every parameter.
        trainable: which entries are trained, bool; parameters that are not named are trained whole.
    """
    return {
        name: FrozenShare(size, int((~trainable[name]).sum()) if name in trainable else 0)
        for name, size in sizes.items()
    }


def total(shares: Mapping[str, FrozenShare]) -> FrozenShare:
    """All parameters together."""
    return FrozenShare(sum(each.entries for each in shares.values()), sum(each.frozen for each in shares.values()))


def forgetting_metrics(
    first: Evaluation, now: Evaluation, names: Sequence[str], pretrained: Sequence[bool]
) -> dict[str, float]:
    """Numbers for curves: `forgetting/signed`, `forgetting/positive`, `forgetting/<task>` for each pre-training task.

    Args:
        first: of π0.
        now: of the policy.
        names: of the tasks, [K].
        pretrained: which of them π0 was trained on, [K]. Without any there is nothing to forget, and no number.
    """
    measures = {f"retention/{name}": value for name, value in now.retention.items()}
    if not any(pretrained):
        return measures
    first, now = matched(first, now)
    both = forgetting(first.scores, now.scores, pretrained)
    tasks = zip(names, first.scores, now.scores, pretrained, strict=True)
    each = {f"forgetting/{name}": old - new for name, old, new, is_pretrained in tasks if is_pretrained}
    return {"forgetting/signed": both.signed, "forgetting/positive": both.positive, **each, **measures}


def forgetting_table(
    evaluations: Sequence[Evaluation], names: Sequence[str], pretrained: Sequence[bool], frozen: float
) -> str:
    """`forgetting.csv`: for each evaluation a row a task, and one of the means over the tasks of the pre-training.

    `forgotten` is the score of π0 less the score now, `lost` its positive part; then follows a column for each number
    that the retention measures of every task (`Retention.measure`), and `frozen`, the share of weights that cannot
    change.

    Args:
        evaluations: the first is that of π0; without any there are no rows.
        names: of the tasks, [K].
        pretrained: which of them π0 was trained on, [K].
        frozen: share of the policy's weights.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measures = list(dict.fromkeys(name for each in evaluations for name in measures_of(each, names)))
    writer.writerow((*_COLUMNS, *measures, "frozen"))
    for now in evaluations:
        (first, now), values = matched(evaluations[0], now), measures_of(now, names)
        for name, is_pretrained, old, new in zip(names, pretrained, first.scores, now.scores, strict=True):
            row = (now.demonstrations, name, int(is_pretrained), repr(new), repr(old - new), repr(max(old - new, 0.0)))
            numbers = (_or_empty(values.get(measure, {}).get(name)) for measure in measures)
            writer.writerow((*row, *numbers, repr(frozen)))
        if any(pretrained):
            both = forgetting(first.scores, now.scores, pretrained)
            scores = [score for score, is_pretrained in zip(now.scores, pretrained, strict=True) if is_pretrained]
            mean = math.fsum(scores) / len(scores)
            row = (now.demonstrations, ALL_TASKS, 1, repr(mean), repr(both.signed), repr(both.positive))
            writer.writerow((*row, *("" for _ in measures), repr(frozen)))
    return text.getvalue()


def measures_of(evaluation: Evaluation, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """What the retention measured of tasks at an evaluation: for each measure the number of every task that has one.

    >>> evaluation = Evaluation(3, (0.0,), (1.0,), (0.5,), 0.5, {"alpha/run": 0.25, "norm": 2.0})
    >>> measures_of(evaluation, ["run"])
    {'alpha': {'run': 0.25}}
    """
    measures: dict[str, dict[str, float]] = {}
    for key, value in evaluation.retention.items():
        measure, _, task = key.partition("/")
        if task in names:
            measures.setdefault(measure, {})[task] = value
    return measures


def _or_empty(value: float | None) -> str:
    return "" if value is None else repr(value)
