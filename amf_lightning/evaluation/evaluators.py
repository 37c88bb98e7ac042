"""Evaluators say how good a policy is: by simulated episodes, by what a person reports, or not at all."""

import math
from abc import ABC
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation, check_scorable, weighted_mean
from amf_lightning.evaluation.trial_reports import REPORTED, read_trial_reports
from amf_lightning.needs import Need, Part
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.tasks.task import Episode, EvaluationJob, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory


class Evaluator(Part, ABC):
    """Says how good the policy is after each round, or that nobody knows. The base class knows nothing."""

    def check(self, suite: TaskSuite) -> None:
        """Raises InputError if tasks of this suite cannot be scored this way."""

    def episodes(self, suite: TaskSuite, per_task: int, seed: int) -> list[EvaluationJob]:
        """Episodes to be run after each round: none."""
        return []

    def at_ends(self, per_task: int) -> int:
        """Episodes of each task in the first and the last evaluation of a run, where others have `per_task`.

        Raises:
            InputError: they would be fewer.
        """
        return per_task

    judged_by_people: ClassVar[bool] = False
    """Whether people try each policy, so that it has to be on the disk."""

    def reported(self, folder: Path, demonstrations: int, suite: TaskSuite) -> Evaluation | None:
        """What is known without running anything of the policy after so many demonstrations of a run; None: nothing."""
        return None

    def ask(self, folder: Path, demonstrations: int, suite: TaskSuite, per_task: int, policy: Path) -> None:
        """Called where people judge, once the policy after so many demonstrations of a run is on the disk.

        Args:
            folder: of the run.
            demonstrations: that the policy was trained on.
            suite: whose tasks are tried.
            per_task: trials of each, `data.evaluation_episodes`.
            policy: its file.
        """

    def measured(
        self, policy: Policy, suite: TaskSuite, held_out: Mapping[str, Sequence[Trajectory]], demonstrations: int
    ) -> Evaluation:
        """What recordings say of a policy; called only of one that needs `Need.HELD_OUT`.

        Args:
            policy: frozen, on the CPU.
            suite: of the run.
            held_out: recordings of each task, by its name, that the policy was not trained on.
            demonstrations: that the policy was trained on.
        """
        raise NotImplementedError

    @property
    def method(self) -> str:
        """How scores come about, for reports: a clause."""
        return "nobody has evaluated the policy"

    @property
    def unscored(self) -> str:
        """What the report of a run without any score says about it: why there is none, and what to do."""
        return (
            "nobody has evaluated the policy. Runs that begin with `evaluation: ReportedEpisodes` take scores from "
            "trials that people report."
        )


class SimulatedEpisodes(Evaluator):
    """The same episodes of every task after each round, `data.evaluation_episodes` each; scores are normalised returns.

    A score of 0 is the return of random actions, 1 that of the expert.

    Args:
        first_and_last: episodes of each task in the first and the last evaluation of a run, at least as many as the
            others have, whose episodes are among them; None: as many. The last one of a run that a rule ends, or an
            expert who has no more, is one, too. What rounds are judged by, selectors included, stays the same.
    """

    needs = (Need.SIMULATOR,)
    instead = "Set evaluation: ReportedEpisodes or NoEvaluation."

    def __init__(self, first_and_last: int | None = None) -> None:
        if first_and_last is not None and first_and_last < 1:
            raise InputError(f"SimulatedEpisodes: first_and_last is {first_and_last}; it must be at least 1.")
        self.first_and_last = first_and_last

    def at_ends(self, per_task: int) -> int:
        if self.first_and_last is not None and self.first_and_last < per_task:
            raise InputError(
                f"SimulatedEpisodes: first_and_last is {self.first_and_last}, and the evaluations after rounds have "
                f"{per_task} episodes of each task (data.evaluation_episodes). Set it to {per_task} or more."
            )
        return self.first_and_last or per_task

    def check(self, suite: TaskSuite) -> None:
        """Raises InputError if the suite has no reference returns, or some that say nothing."""
        check_scorable(suite)

    def episodes(self, suite: TaskSuite, per_task: int, seed: int) -> list[EvaluationJob]:
        """Task by task, from initial states keyed by (seed, task, number)."""
        return [
            (number, Episode(task, keyed_seed(seed, Purpose.EVALUATE, task.index, number)))
            for task in suite.tasks
            for number in range(per_task)
        ]

    @property
    def method(self) -> str:
        return "scores are normalised returns of simulated episodes: 0 is random actions, 1 the expert"


class NoEvaluation(Evaluator):
    """Nobody evaluates: a run chooses, collects and trains, and its report says that what it gained is unknown."""


class ReportedEpisodes(Evaluator):
    """What a person saw: the share of successes of each task, read from `outcomes.jsonl` in the run folder.

    `amf score` writes them. Each line is one report, `{"demonstrations": 6, "task": "pick", "success": 7, "episodes":
    10}`: of the policy after 6 demonstrations, 7 of 10 trials of `pick` succeeded. Several lines of the same task and
    policy add up. The policy after n demonstrations counts as evaluated once every task has at least one trial. A score
    is a share of successes.
    A line of ours carries its `sha256`; who corrects one takes it out.
    The policy after 6 demonstrations is `judged/000006.safetensors` in the run folder.
    """

    judged_by_people = True

    def ask(self, folder: Path, demonstrations: int, suite: TaskSuite, per_task: int, policy: Path) -> None:
        print(f"The policy after {demonstrations} demonstrations is {policy}; trials go into {REPORTED}.", flush=True)

    def reported(self, folder: Path, demonstrations: int, suite: TaskSuite) -> Evaluation | None:
        """The shares of successes, once every task has a trial.

        Raises:
            InputError: a line of the file is not a report; names it.
        """
        trials = {task.name: [0, 0] for task in suite.tasks}
        for report in read_reports(folder / REPORTED, suite):
            if report["demonstrations"] == demonstrations:
                trials[report["task"]][0] += report["success"]
                trials[report["task"]][1] += report["episodes"]
        if any(episodes == 0 for _, episodes in trials.values()):
            return None
        shares = tuple(success / episodes for success, episodes in trials.values())
        unknown = (math.nan,) * len(shares)
        mean = weighted_mean(shares, suite.distribution.tolist())
        tried = tuple(episodes for _, episodes in trials.values())
        return Evaluation(demonstrations, unknown, successes=shares, scores=shares, mean_score=mean, episodes=tried)

    @property
    def method(self) -> str:
        return "scores are shares of successful trials that somebody reported"

    @property
    def unscored(self) -> str:
        return (
            f"nobody has reported a trial of every task yet. Report trials with `amf score`, which go into "
            f"`{REPORTED}` in this folder, and call the same command again."
        )


def reported_evaluations(
    evaluator: Evaluator, folder: Path, rounds: Sequence[int], suite: TaskSuite
) -> list[Evaluation]:
    """What is known without simulation of π0 and of the policy after each round of a run.

    Args:
        evaluator: knows it.
        folder: of the run.
        rounds: the round of each demonstration so far, [N].
        suite: of the run.
    """
    counts = accumulate(rounds.count(number) for number in sorted(set(rounds)))
    reports = [evaluator.reported(folder, count, suite) for count in (0, *counts)]
    return [evaluation for evaluation in reports if evaluation is not None]


def read_reports(path: Path, suite: TaskSuite) -> list[dict[str, Any]]:
    """The reports in a file that hold, see `read_trial_reports`; none if there is no file.

    Raises:
        InputError: a line is not a report of a task of the suite; names it.
    """
    keys = ("demonstrations", "task", "success", "episodes")
    return [{key: getattr(each, key) for key in keys} for each in read_trial_reports(path, suite.task)]
