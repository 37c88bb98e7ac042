"""Success rates from a few trials: how sure they are, and whether trials or demonstrations are what is missing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from amf_lightning.evaluation.statistics import clopper_pearson
from amf_lightning.evaluation.trial_reports import TrialReport

TARGET, LEVEL = 0.8, 0.9
"""The success rate that a task should reach, and the probability mass of intervals."""
_MORE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)


@dataclass(frozen=True)
class Rate:
    """The trials of one task by one policy, with the exact interval of its success rate."""

    task: str
    successes: int
    trials: int
    low: float
    high: float
    reasons: tuple[tuple[str, int], ...] = ()
    """Why trials failed, and how many each, the most frequent first."""

    @property
    def is_known(self) -> bool:
        """Whether the trials tell if the target is reached."""
        return not self.low < TARGET <= self.high


def rates(reports: Sequence[TrialReport], task_names: Sequence[str]) -> list[Rate]:
    """The rates of the tasks that were tried, in the order of the suite.

    Args:
        reports: of one policy.
        task_names: of the suite.
    """
    found = []
    for task in task_names:
        its = [report for report in reports if report.task == task]
        if trials := sum(report.episodes for report in its):
            successes = sum(report.success for report in its)
            reasons = Counter(reason for report in its for reason in report.reasons).most_common()
            found.append(Rate(task, successes, trials, *clopper_pearson(successes, trials, LEVEL), tuple(reasons)))
    return found


def more_trials(rate: Rate) -> int | None:
    """How many more trials, if they go like those so far, would tell whether the target is reached; rounded up.

    0 if it is known; None if a thousand would not.
    """
    if rate.is_known:
        return 0
    for more in _MORE:
        trials = rate.trials + more
        successes = round(rate.successes / rate.trials * trials)
        low, high = clopper_pearson(successes, trials, LEVEL)
        if not low < TARGET <= high:
            return more
    return None


def verdict(rates: Sequence[Rate]) -> list[str]:
    """Sentences on what is missing: demonstrations, trials, or nothing."""
    below = [rate.task for rate in rates if rate.high < TARGET]
    reached = [rate.task for rate in rates if rate.low >= TARGET]
    unknown = [rate for rate in rates if not rate.is_known]
    sentences = []
    if reached:
        sentences.append(f"A success rate of {TARGET} is reached on {', '.join(reached)}.")
    if below:
        sentences.append(f"It is not reached on {', '.join(below)}: there, demonstrations are what is missing.")
    if unknown:
        needed = [f"{rate.task} ({_needed(rate)})" for rate in unknown]
        sentences.append(
            f"Whether {TARGET} is reached cannot be told of {', '.join(needed)}: what is missing there is more trials, "
            "not more demonstrations."
        )
    if below and not reached:
        sentences[0] = sentences[0].replace("It is", f"A success rate of {TARGET} is", 1)
    return sentences


def _needed(rate: Rate) -> str:
    more = more_trials(rate)
    return "more than 1000 trials would be needed" if more is None else f"about {more} more would tell"
