"""One choice of a selector: the part of a campaign that it sees, and the requests that it makes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, cast

from torch import Tensor

from amf_lightning.campaign.history import History
from amf_lightning.campaign.learner import Learner
from amf_lightning.campaign.prediction import Prediction, written
from amf_lightning.campaign.request import Request
from amf_lightning.errors import InputError
from amf_lightning.needs import check_needs
from amf_lightning.seeding import Purpose, keyed_global_generators, keyed_seed
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.simulation.outcomes import check_learner
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.start_state import StartState
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.user_code import ends_nothing, refusal

Chosen = tuple[list[Request], dict[str, float], dict[int, str]]  # diagnostics; predictions as the ledger keeps them


def choose(
    n: int,
    suite: TaskSuite,
    selector: Selector,
    history: History,
    learner: Learner | None,
    remaining: tuple[float, ...] | None,
    seed: int,
) -> Chosen:
    """Has the selector choose `n` demonstrations, or as many as can be had.

    Args:
        n: how many.
        suite: whose tasks are chosen from.
        selector: what chooses.
        history: of the campaign.
        learner: what the selector may look at; None if there is nothing.
        remaining: demonstrations of each task that can still be had, those that are pending included, [K]; None if
            there is no end of any.
        seed: of the run.

    Returns:
        The requests, and the selector's diagnostics with `environment_steps`, the simulator steps that it took, and
        `failed_rollouts/<reason>/<task>`, episodes of it that broke off, where there were any; and a `Prediction` of
        each request, by number, as the ledger keeps it.
    """
    count = n if remaining is None else int(min(n, _left(remaining, history.pending)))
    if count <= 0:
        return [], {}, {}
    if learner is not None:
        check_needs({"selector": selector}, learner.missing(suite))
    simulated = _Simulated(suite, learner)
    with keyed_global_generators(seed, Purpose.CHOOSE, history.round, history.chosen):
        selection = _selected(selector, _context(suite, history, learner, remaining, seed, simulated), count)
    # Numbered on from π0's own demonstrations: none of its initial states is demonstrated a second time.
    of_pretraining = sum((learner.pretraining_counts if learner is not None else None) or ())
    requests = _requests(selection, type(selector).__name__, suite, history, of_pretraining, seed)
    lookahead_steps = learner.lookahead.steps if learner is not None and learner.lookahead is not None else 0
    # A selector that says what it costs knows better: after a resumption it may have simulated again.
    diagnostics = {**simulated.diagnostics(lookahead_steps), **selection.diagnostics}
    return requests, diagnostics, _predictions(selection, selector, suite, requests)


def inferred_gaps(suite: TaskSuite, selector: Selector, history: History, learner: Learner, seed: int) -> Tensor | None:
    """See `Selector.gaps`. The rollouts stay with the learner."""
    with keyed_global_generators(seed, Purpose.CHOOSE, history.round, history.chosen):
        return selector.gaps(_context(suite, history, learner, None, seed, _Simulated(suite, learner)))


def _requests(
    selection: Selection, selector: str, suite: TaskSuite, history: History, of_pretraining: int, seed: int
) -> list[Request]:
    """A request for each pick, numbered on from those of the history."""
    first = len(history.requests)
    return [
        Request(
            demonstration=first + position,
            round=history.round,
            task=suite.tasks[task].name,
            task_index=task,
            selector=selector,
            scores=scores,
            seed=keyed_seed(seed, Purpose.DEMONSTRATE, of_pretraining + first + position),
        )
        for position, (task, scores) in enumerate(zip(selection.picks, selection.scores, strict=True))
    ]


def _predictions(
    selection: Selection, selector: Selector, suite: TaskSuite, requests: Sequence[Request]
) -> dict[int, str]:
    """What the selector expects of each request, by number; nothing of one that has no scores."""
    needs: tuple[float, ...] = ()
    if selector.need is not None:
        needs = tuple(selection.diagnostics.get(f"{selector.need}/{task.name}", math.nan) for task in suite.tasks)
    if all(map(math.isnan, needs)):
        needs = ()
    teaches, starts = selection.teaches or ((),) * len(requests), selection.starts or (None,) * len(requests)
    return {
        request.demonstration: written(
            Prediction(
                gain=request.scores[request.task_index],
                gain_is=selector.gain_is,
                need=needs[request.task_index] if needs else None,
                need_is=selector.need_is if needs else "",
                needs=needs,
                teaches=of_request,
                start=start,
            )
        )
        for request, of_request, start in zip(requests, teaches, starts, strict=True)
        if needs or not math.isnan(request.scores[request.task_index])
    }


@ends_nothing
def _selected(selector: Selector, context: SelectionContext, count: int) -> Selection:
    """What the selector chose, which may be less than `count` and nothing else than tasks of the suite."""
    selection: object = selector.select(context, count)
    name, tasks = type(selector).__name__, len(context.suite.tasks)
    if not isinstance(selection, Selection):
        raise refusal(selector, f"{name}.select gave a {type(selection).__name__}", "Let it return a Selection.")
    if not all(isinstance(task, Integral) and 0 <= task < tasks for task in selection.picks):
        raise refusal(selector, f"{name}.select chose {selection.picks}", f"Picks are numbers from 0 to {tasks - 1}.")
    shape = (len(selection.scores), {len(scores) for scores in selection.scores})
    if not 0 < len(selection.picks) <= count or shape != (len(selection.picks), {tasks}):
        raise refusal(
            selector,
            f"{name}.select gave {len(selection.picks)} picks and {shape[0]} rows of scores when asked for {count}",
            f"Let it give with each pick a score of all {tasks} tasks, NaN where there is none.",
        )
    if selection.teaches and [len(row) or tasks for row in selection.teaches] != [tasks] * len(selection.picks):
        raise refusal(
            selector,
            f"{name}.select gave `teaches` of other than {len(selection.picks)} picks and {tasks} tasks",
            "Let it give with each pick a number of every task, or leave it out.",
        )
    if selection.starts and (
        len(selection.starts) != len(selection.picks)
        or not all(start is None or isinstance(start, StartState) for start in selection.starts)
    ):
        raise refusal(
            selector,
            f"{name}.select gave `starts` of other than {len(selection.picks)} picks",
            "Let it give with each pick a StartState or None, or leave it out.",
        )
    numbers = tuple(int(task) for task in selection.picks)
    return replace(selection, picks=numbers, scores=tuple(tuple(map(float, row)) for row in selection.scores))


def _left(remaining: Sequence[float], pending: Sequence[Request]) -> float:
    """Demonstrations of all tasks together that can be had beyond those that are pending."""
    waiting = [request.task_index for request in pending]
    return sum(max(0.0, number - waiting.count(task)) for task, number in enumerate(remaining))


class _Simulated:
    """Runs episodes for the selector and counts their steps as its cost."""

    def __init__(self, suite: TaskSuite, learner: Learner | None) -> None:
        self._suite = suite
        self._rollout = None if learner is None else learner.rollout
        self.steps = 0
        self._failed: Counter[str] = Counter()

    def __call__(self, actor: Acting, episodes: Sequence[Episode]) -> list[Trajectory]:
        run = self._rollout
        trajectories = rollout(actor, self._suite, episodes, may_fail=True) if run is None else run(actor, episodes)
        check_learner(trajectories, "episodes of the selector")
        for trajectory in trajectories:
            if trajectory.failure is not None:
                self._failed[f"failed_rollouts/{trajectory.failure.reason}/{trajectory.task}"] += 1
        self.steps += sum(trajectory.length for trajectory in trajectories)
        return trajectories

    def diagnostics(self, lookahead_steps: int) -> dict[str, float]:
        """Environment steps, the lookahead's too, and how many episodes of each task broke off, by reason."""
        return {"environment_steps": float(self.steps + lookahead_steps)} | {
            k: float(n) for k, n in self._failed.items()
        }


class _Missing:
    """Stands for a part of the learner in a choice without one; using it is an error that says so."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        raise InputError(
            f"The selector looks at the {self._part} policy, but `ask` was given no learner. Give one, e.g. "
            "ask(n, Learner.from_file(path, suite)), or choose a selector that needs none, e.g. RoundRobin."
        )


def _context(
    suite: TaskSuite,
    history: History,
    learner: Learner | None,
    remaining: tuple[float, ...] | None,
    seed: int,
    simulated: _Simulated,
) -> SelectionContext:
    parts: dict[str, Any] = {
        "suite": suite,
        "demonstrations": list(history.demonstrations),
        "round": history.round,
        "seed": seed,
        "rollout": simulated,
        "remaining": remaining,
        "pending": tuple(request.task_index for request in history.pending),
        "skipped": tuple(request.task_index for request in history.skipped if request.asked),
        "chosen": history.chosen,
        "told": tuple(history.told),
        "asked": tuple(map(tuple, history.asked)),
        "errors_before": tuple(history.errors_before),
    }
    if learner is None:
        missing = cast(Any, _Missing)
        return SelectionContext(**parts, policy=missing("current"), pretrained=missing("pre-trained"), statistics=None)
    scores = tuple(evaluation.scores for evaluation in learner.evaluations)
    return SelectionContext(
        **parts,
        policy=learner.policy,
        pretrained=learner.pretrained,
        statistics=learner.statistics,
        pretraining_counts=learner.pretraining_counts,
        scores=scores[-1] if scores else None,
        trainable=learner.trainable,
        score_history=scores,
        evaluated_after=tuple(evaluation.demonstrations for evaluation in learner.evaluations),
        lookahead=learner.lookahead,
        device=learner.device,
        _rollouts=learner.rollouts,
    )
