"""What is logged of a run, and under which tags; docs/tensorboard.md lists them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from amf_lightning.campaign.prediction import Outcome, Prediction
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.forgetting import FrozenShare, forgetting_metrics, frozen_shares, total
from amf_lightning.evaluation.scores import (
    Evaluation,
    area_under_curve,
    demonstrations_to,
    forgetting,
    matched,
    weighted_mean,
)
from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.needs import uses_of
from amf_lightning.reports.animation import thinned
from amf_lightning.reports.board import Board, Setting
from amf_lightning.reports.calibration import SCORE, calibrations
from amf_lightning.reports.failures import failure_metrics
from amf_lightning.reports.tables import uses_phrase
from amf_lightning.retention.retention import CombinedRetention, Retention
from amf_lightning.tasks.task import TaskSuite

THRESHOLD = 0.8
RESULTS = ("score", "area_under_curve", f"demonstrations_to_{THRESHOLD}", "forgetting", "demonstrations")
"""What `final/…` may have."""


def pretrained_on(module: BehaviouralCloning) -> list[bool]:
    """Whether π0 was trained on each task, [K], as its file says."""
    return [count > 0 for count in module.pretraining_counts or [0] * len(module.suite.tasks)]


def frozen_of(module: BehaviouralCloning) -> dict[str, FrozenShare]:
    """How much of each parameter of the policy is frozen."""
    sizes = {name: parameter.numel() for name, parameter in module.policy.named_parameters()}
    return frozen_shares(sizes, module.trainable())


def log_evaluation(board: Board, evaluations: Sequence[Evaluation], module: BehaviouralCloning, rounds: int) -> None:
    """The last of some evaluations: what all tasks have together, and every task by the number of demonstrations.

    Rounds have an axis of their own for what all tasks have together; a task's curves would only be there twice.

    Args:
        board: gets it.
        evaluations: of the run so far.
        module: as it was evaluated.
        rounds: that are finished.
    """
    evaluations = [each.of_rounds for each in evaluations]  # a curve is of policies, not of numbers of episodes
    now, suite, pretrained = evaluations[-1], module.suite, pretrained_on(module)
    names, weights = [task.name for task in suite.tasks], suite.distribution.tolist()
    lower, upper = np.quantile(now.scores, (0.25, 0.75)).tolist()
    together = {
        "score": now.mean_score,
        "score_lowest": min(now.scores),
        "success": weighted_mean(now.successes, weights),
    }
    together |= {"score_lower_quartile": lower, "score_upper_quartile": upper}
    by_round = {"score/mean": now.mean_score, "retention/frozen": total(frozen_of(module)).share}
    if any(pretrained):
        both = forgetting(evaluations[0].scores, now.scores, pretrained)
        together |= {"forgetting": both.signed, "forgetting_losses_only": both.positive}
        by_round |= {"forgetting/signed": both.signed, "forgetting/positive": both.positive}
    each = {"score": now.scores, "success": now.successes, "return": now.returns}
    metrics = {f"{kind}/{name}": value for kind, of in each.items() for name, value in zip(names, of, strict=True)}
    metrics |= forgetting_metrics(evaluations[0], now, names, pretrained)
    metrics |= failure_metrics(evaluations, names)
    board.numbers("all_tasks", together, now.demonstrations)
    board.numbers("by_demonstrations", {**metrics, **by_round}, now.demonstrations)
    board.numbers("by_round", by_round, rounds)


def log_choices(
    board: Board,
    jobs: Sequence[Request],
    round: int,
    diagnostics: Mapping[str, float],
    suite: TaskSuite,
    predictions: Mapping[int, Prediction],
) -> None:
    """Every choice of a round by the number of its demonstration, with a sentence, and what was asked so far.

    Args:
        board: gets it.
        jobs: of all rounds so far.
        round: whose choices are logged.
        diagnostics: what the selector said of itself in that round.
        suite: the tasks.
        predictions: of the selector, by number of the demonstration.
    """
    names, chosen = [task.name for task in suite.tasks], [job for job in jobs if job.round == round]
    for job in chosen:
        scores = {f"score/{name}": score for name, score in zip(names, job.scores, strict=True)}
        known = {name: score for name, score in scores.items() if not math.isnan(score)}
        board.numbers("selection", known, job.demonstration)
        board.sentence("selection/choice", job.why(names), job.demonstration)
        if (predicted := predictions.get(job.demonstration)) is not None:
            pair = {"predicted_gain": predicted.gain, "predicted_need": predicted.need}
            numbers = {name: value for name, value in pair.items() if value is not None and math.isfinite(value)}
            board.numbers("selection", numbers, job.demonstration)
    counts = {f"count/{task.name}": float(sum(job.task_index == task.index for job in jobs)) for task in suite.tasks}
    board.numbers("selection", counts, len(jobs))
    if chosen:
        board.numbers("selection", diagnostics, chosen[0].demonstration)


def log_realised(board: Board, jobs: Sequence[Request], outcomes: Mapping[int, Outcome]) -> None:
    """The policy's error on each demonstration of a round before it was trained on it and after."""
    for job in jobs:
        if (realised := outcomes[job.demonstration].realised) is not None:
            values = {name: value for name, value in asdict(realised).items() if math.isfinite(value)}
            board.numbers("selection", values, job.demonstration)


def log_calibration(board: Board, outcomes: Sequence[Outcome]) -> None:
    """What was expected of the demonstrations since the evaluation before the last, and what they did to the score.

    Args:
        board: gets it.
        outcomes: of all demonstrations, in the order in which they were trained on.
    """
    for each in calibrations(outcomes):
        if each.realised_is == SCORE and each.after[-1] == len(outcomes):
            values = {"predicted_gain": each.predicted[-1], "realised_gain": each.realised[-1]}
            board.numbers("all_tasks", values, each.after[-1])


def log_start(board: Board, active: ActiveSampling, module: BehaviouralCloning, step: int) -> None:
    """What the selector uses, as text, and the settings of the run."""
    name, uses = type(active.selector).__name__, uses_phrase(uses_of(active.selector))
    board.sentence("selection/uses", f"{name} uses beyond the demonstrations: {uses}.", 0)
    settings: dict[str, Setting] = {
        "budget": active.budget,
        "retention": _phrase(module.retention),
        "seed": active.seed,
        "selector": name,
        "suite": module.suite.name,
        # TensorBoard sorts by name and shows five columns unless told otherwise.
        "training/batch_size": active.batch_size,
        "training/policy": type(module.policy).__name__,
        "training/pretraining_demonstrations": sum(module.pretraining_counts or ()),
    }
    board.settings(settings, RESULTS, step)


def _phrase(retention: Retention) -> str:
    """The classes of a retention, in a word or several."""
    parts = retention.parts if isinstance(retention, CombinedRetention) else [retention]
    return " + ".join(type(part).__name__ for part in parts)


def log_end(board: Board, folder: RunFolder, active: ActiveSampling, module: BehaviouralCloning) -> None:
    """The pictures of the report, and what the run came to."""
    step = len(active.jobs)
    for path in (folder.curve_picture, folder.allocation_picture, folder.calibration_picture):
        if path.is_file():
            board.picture(f"report/{path.stem}", path.read_bytes(), step)
    if folder.animation.is_file():
        board.picture("report/animation", thinned(folder.animation.read_bytes()), step)
    board.results(final_figures(active.evaluations, pretrained_on(module), step), step)


def final_figures(
    evaluations: Sequence[Evaluation], pretrained: Sequence[bool], demonstrations: int
) -> dict[str, float]:
    """What a run came to, as far as it is known: some of `RESULTS`.

    Args:
        evaluations: of the run.
        pretrained: whether π0 was trained on each task, [K].
        demonstrations: that were made.

    >>> def evaluation(demonstrations: int, score: float) -> Evaluation:
    ...     return Evaluation(demonstrations, (0.0,), (0.0,), (score,), score)
    >>> final_figures([evaluation(0, 0.25), evaluation(1, 0.75)], [True], 1)
    {'demonstrations': 1.0, 'score': 0.75, 'forgetting': -0.5, 'area_under_curve': 0.5}
    """
    figures = {"demonstrations": float(demonstrations)}
    if not evaluations:
        return figures
    first, last = matched(evaluations[0], evaluations[-1])
    figures["score"] = evaluations[-1].mean_score
    if any(pretrained):
        figures["forgetting"] = forgetting(first.scores, last.scores, pretrained).signed
    if first.demonstrations == 0:
        counts, scores = zip(*((each.demonstrations, each.mean_score) for each in evaluations), strict=True)
        figures["area_under_curve"] = area_under_curve(counts, scores, counts[-1])
        if (reached := demonstrations_to(THRESHOLD, counts, scores, counts[-1])) <= counts[-1]:
            figures[f"demonstrations_to_{THRESHOLD}"] = float(reached)
    return figures
