"""One evaluation by simulated episodes: from the policy that acts to its scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from amf_lightning.evaluation.journal import EvaluationJournal
from amf_lightning.evaluation.metric import EpisodeMetric, Measured
from amf_lightning.evaluation.scores import Evaluation, evaluate_returns
from amf_lightning.simulation.outcomes import EpisodeResult, refuse, result_of, warn_of_failures
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.failure import Failure, FailureReason
from amf_lightning.tasks.task import EvaluationJob, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

_EPISODES = "evaluation episodes"


class KnownEpisodes:
    """What episodes of the policy that was evaluated last came to, on this process.

    The episodes of an evaluation are the same in every round, so a policy that stays deployed does the same in them.
    """

    def __init__(self) -> None:
        self._policy, self._results = "", dict[EvaluationJob, EpisodeResult]()

    def of(self, policy: str) -> dict[EvaluationJob, EpisodeResult]:
        """Those of the policy with this `weights_hash`, to be added to; all others are forgotten."""
        if policy != self._policy:
            self._policy, self._results = policy, {}
        return self._results


class SimulatedEvaluation:
    """Runs this process's episodes of one evaluation, and puts together what those of all processes came to.

    Args:
        suite: whose tasks they are of.
        acting: who is evaluated.
        episodes: of each task.
        journal: keeps each episode that is over, and knows those that were; None keeps nothing.
        on_step: called with the number of environment steps just taken.
        device: of the processes' common sums, where they are on GPUs.
        rounds: how many of them evaluations after rounds have, if that is fewer.
        known: what episodes of the same policy came to in earlier evaluations; they are not run again, and what others
            come to is added.
    """

    def __init__(
        self,
        suite: TaskSuite,
        acting: Acting,
        episodes: int,
        journal: EvaluationJournal | None = None,
        on_step: Callable[[int], None] | None = None,
        device: torch.device | None = None,
        rounds: int | None = None,
        known: dict[EvaluationJob, EpisodeResult] | None = None,
    ) -> None:
        self._known = {} if known is None else known
        self._suite, self._acting, self._journal, self._on_step = suite, acting, journal, on_step
        self._metric = EpisodeMetric(len(suite.tasks), episodes, device, rounds)
        self._episodes, self._rounds = episodes, rounds
        self._broken: list[Trajectory] = []
        self._count = 0

    def run(self, jobs: Sequence[EvaluationJob]) -> None:
        """Runs some episodes side by side; those that are known, or that the journal has, are not run again."""
        if self._journal is not None:
            kept = {job: self._journal.result(*job) for job in jobs}
            self._known |= {job: result for job, result in kept.items() if result is not None}
        due = [job for job in jobs if job not in self._known]
        trajectories = rollout(
            self._acting, self._suite, [episode for _, episode in due], may_fail=True, on_step=self._on_step
        )
        fresh = {
            job: result_of(trajectory, job[1].task, self._suite)
            for job, trajectory in zip(due, trajectories, strict=True)
        }
        if self._journal is not None:
            self._journal.keep(fresh)
        self._count += len(jobs)
        self._broken += [trajectory for trajectory in trajectories if trajectory.failure is not None]
        self._known |= fresh
        self._metric.update(
            [self._known[job] for job in jobs],
            [episode.task.index for _, episode in jobs],
            [number for number, _ in jobs],
        )

    def finish(self, demonstrations: int, retention: Mapping[str, float] | None = None) -> Evaluation:
        """What is known of the policy after so many demonstrations, once all its episodes were run.

        Args:
            demonstrations: that it was trained on.
            retention: what the retention says of it.

        Raises:
            InputError, UserCodeError: every episode broke off at its first step; see `refuse`.
        """
        measured = self._metric.compute()
        first = next((each.failure for each in self._broken if each.failure is not None), None)
        if not measured.begun:  # on every process, as what they measured was gathered
            refuse(first or Failure(FailureReason.EXCEPTION, "An episode broke off"), _EPISODES)
        warn_of_failures(self._broken, _EPISODES, self._count)

        def evaluation(of: Measured, episodes: int) -> Evaluation:
            known = evaluate_returns(demonstrations, of.returns, of.successes, self._suite, of.failures)
            return replace(known, retention=retention or {}, episodes=(episodes,) * len(self._suite.tasks))

        whole = evaluation(measured, self._episodes)
        if measured.first is None or self._rounds is None:
            return whole
        return replace(whole, fewer=evaluation(measured.first, self._rounds))
