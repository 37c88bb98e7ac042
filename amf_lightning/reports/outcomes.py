"""What each demonstration was expected to do and did, put together from the ledger and the evaluations."""

from collections.abc import Sequence

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import (
    Outcome,
    ScoreChange,
    predictions_of,
    realised_of,
)
from amf_lightning.campaign.request import Request
from amf_lightning.evaluation.scores import Evaluation, matched


def outcomes_of(ledger: Ledger, jobs: Sequence[Request], evaluations: Sequence[Evaluation]) -> dict[int, Outcome]:
    """By number of the demonstration.

    Args:
        ledger: of the run.
        jobs: in the order in which they were trained on.
        evaluations: of the run, in increasing numbers of demonstrations.
    """
    predicted, realised = predictions_of(ledger), realised_of(ledger)
    return {
        job.demonstration: Outcome(
            predicted.get(job.demonstration),
            realised.get(job.demonstration),
            score_change(place, job.task_index, evaluations),
        )
        for place, job in enumerate(jobs)
    }


def score_change(place: int, task: int, evaluations: Sequence[Evaluation]) -> ScoreChange | None:
    """What the scores did between the evaluations around a demonstration; None if there are not both.

    Args:
        place: how many demonstrations were trained on before it.
        task: its index.
        evaluations: in increasing numbers of demonstrations.
    """
    earlier = [each for each in evaluations if each.demonstrations <= place]
    later = [each for each in evaluations if each.demonstrations > place]
    if not (earlier and later):
        return None
    before, after = matched(earlier[-1], later[0])
    return ScoreChange(
        (before.demonstrations, after.demonstrations),
        (before.scores[task], after.scores[task]),
        (before.mean_score, after.mean_score),
    )
