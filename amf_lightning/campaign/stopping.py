"""How long a run goes on asking: until its budget is spent, or until there is little left to learn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from amf_lightning.campaign.request import Request
from amf_lightning.errors import InputError


@dataclass(frozen=True)
class StopRule:
    """Ends a run once the largest score of a round was below a threshold for some rounds in a row (ours).

    It looks at what the ledger says of the rounds collected so far and at nothing else: a run that was killed stops
    where it would have stopped. For `InformationGain` scores are gains in nats, divided by the cost of the task where
    the selector has `costs`: the threshold is then the least that a unit of cost has to bring. It never stops a
    selector without scores. `LossGradient` and `ProjectedGradient` divide each round's scores by that round's mean: a
    threshold on them says how unequal tasks are, not how little there is to learn.

    Args:
        below: the threshold.
        rounds: m, rounds in a row that must be below it.
    """

    below: float
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"active.stop.rounds is {self.rounds}; it must be at least 1.")
        if math.isnan(self.below):
            raise InputError("active.stop.below is not a number.")

    def reached(self, jobs: Sequence[Request]) -> bool:
        """Whether the last m rounds of these jobs, in order of demonstration, were all below the threshold."""
        largest: dict[int, float] = {}
        for job in jobs:  # the first choice of a round was made with nothing conditioned on
            largest.setdefault(job.round, max((s for s in job.scores if not math.isnan(s)), default=math.inf))
        last = list(largest.values())[-self.rounds :]
        return len(last) == self.rounds and all(value < self.below for value in last)

    @property
    def reason(self) -> str:
        """The sentence that tells a person why the run ended."""
        rounds = "in the last round" if self.rounds == 1 else f"in each of the last {self.rounds} rounds"
        return f"the largest score was below {self.below:g} {rounds}"


def rounds_of(budget: int, batch_size: int) -> int:
    """Rounds that it takes to collect `budget` demonstrations, `batch_size` a round: ⌈N / B⌉.

    Raises:
        InputError: the budget is not positive, or the batch is not positive or larger than the budget.
    """
    if budget < 1:
        raise InputError(f"active.budget is {budget}; it is the number of demonstrations in all, at least 1.")
    if not 1 <= batch_size <= budget:
        raise InputError(f"active.batch_size is {batch_size}; it must lie between 1 and the budget, which is {budget}.")
    return -(-budget // batch_size)
