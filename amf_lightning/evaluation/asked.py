"""Trials by a person who sits at the terminal: one question each, and each answer kept as it comes."""

import sys
from pathlib import Path

from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import ReportedEpisodes, read_reports
from amf_lightning.evaluation.trial_reports import REPORTED, TrialReport, add_report
from amf_lightning.tasks.task import TaskSuite

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False}


class AskedEpisodes(ReportedEpisodes):
    """Asks whoever runs the command, after each evaluated round, for `data.evaluation_episodes` trials of every task.

    A question names the file of the policy. An answer is a line of `outcomes.jsonl` before the next question comes; a
    run that was stopped asks only what was not answered. What others report there counts, too.
    """

    def ask(self, folder: Path, demonstrations: int, suite: TaskSuite, per_task: int, policy: Path) -> None:
        """Asks for the trials that are missing.

        Raises:
            InputError: nobody is there to answer.
        """
        path = folder / REPORTED
        reports = [each for each in read_reports(path, suite) if each["demonstrations"] == demonstrations]
        for task in suite.tasks:
            done = sum(report["episodes"] for report in reports if report["task"] == task.name)
            for number in range(done, per_task):
                success = _answer(f"Run {policy} on '{task.name}', trial {number + 1} of {per_task}. Success? [y/n] ")
                add_report(path, TrialReport(demonstrations, task.name, int(success), episodes=1))

    @property
    def method(self) -> str:
        return "scores are shares of successful trials that somebody answered for"

    @property
    def unscored(self) -> str:
        return "nobody has answered for a trial of every task yet. Call the same command again, at a terminal."


def _answer(question: str) -> bool:
    while True:
        print(question, end="", file=sys.stderr, flush=True)
        if not (line := sys.stdin.readline()):
            raise InputError(
                f"evaluation: AskedEpisodes: nobody answers '{question.strip()}'. Earlier answers are kept. Call the "
                f"same command at a terminal, or write trials into {REPORTED} in the run folder."
            )
        if (answer := _ANSWERS.get(line.strip().lower())) is not None:
            return answer
