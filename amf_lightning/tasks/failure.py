"""How an episode of a learner may break off: not an error of the program, but an outcome with a reason."""

from dataclasses import dataclass
from enum import StrEnum


class FailureReason(StrEnum):
    """Why an episode ended before its time without a success."""

    ACTION = "action"
    """What acts gave an action that is not finite."""
    OBSERVATION = "observation"
    """The environment gave an observation that is not finite."""
    REWARD = "reward"
    """The environment gave a reward that is not finite."""
    EXCEPTION = "exception"
    """The environment raised at a step."""
    RESET = "reset"
    """The environment could not begin this episode, while it can begin others of the task."""
    EARLY = "early"
    """The environment ended the episode before its horizon: a fall, a crash, a learner that leaves."""


REASONS = tuple(FailureReason)
"""In the order in which tables show them."""
WORDS = {
    FailureReason.ACTION: "action not finite",
    FailureReason.OBSERVATION: "observation not finite",
    FailureReason.REWARD: "reward not finite",
    FailureReason.EXCEPTION: "environment raised",
    FailureReason.RESET: "could not begin",
    FailureReason.EARLY: "ended early",
}
"""Heads of the columns of such tables."""


@dataclass(frozen=True)
class Failure:
    """Why an episode broke off."""

    reason: FailureReason
    told: str
    """Task, seed, step and what happened there, for a message: no full stop."""
