"""The expert, which is asked for demonstrations."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Acting, Controlled, Controller, Memoryless
from amf_lightning.tasks.task import Episode, TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.user_code import refusal


class Expert(Part, ABC):
    """Demonstrates tasks on request."""

    side_by_side: bool = False
    """Whether it is asked for all demonstrations of a round in one call, which is faster where they are simulated. Else
    it is asked for one at a time, and each is on the disk before the next one begins: a person shows nothing twice."""

    @property
    def card_text(self) -> str:
        """What the expert is and how it was made, in Markdown: the end of a sentence on its card, `expert.md`."""
        return f"{type(self).__name__}."

    @abstractmethod
    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> Sequence[Trajectory | None]:
        """One entry for each requested episode, in the same order: the demonstration, or None if there is none yet.

        None is the answer of an expert who needs time, e.g. a person: the run then ends in good order, and the same
        command goes on with it. An expert that is asked for several episodes and cannot show one of them raises; it
        is then asked for each alone, so that the others are not lost.

        Args:
            suite: where the tasks come from.
            episodes: task and seed of each demonstration; equal requests get equal demonstrations.
            on_step: called with the number of environment steps just taken, if there is an environment.

        Raises:
            InputError: a demonstration cannot be had; the message says of which task, why, and what to do.
        """

    def remaining(self, suite: TaskSuite, given: Sequence[int]) -> list[float]:
        """How many more demonstrations of each task can be had, [K]; infinity, the default, if there is no end.

        A task of which none is left is not chosen. Called before every round, and once when the configuration is read.

        Args:
            suite: where the tasks come from.
            given: demonstrations of each task that the run has had, [K].

        Raises:
            InputError: the expert does not fit the suite.
        """
        return [math.inf] * len(suite.tasks)

    def begin(self, seed: int) -> None:
        """Told the seed of the run before anything else; an expert whose episodes carry seeds of their own does
        nothing."""

    def held_out(self, suite: TaskSuite) -> Mapping[str, Sequence[Trajectory]]:
        """Demonstrations of every task of the suite, by its name, that are never given, to judge by; {}: it has none.

        Raises:
            InputError: it has some, but not of every task.
        """
        return {}

    def leave_out(self, suite: TaskSuite, known: Collection[str]) -> None:
        """Told, before a run asks for anything, what π0 was trained on; an expert that makes demonstrations anew does
        nothing.

        Args:
            suite: where the tasks come from.
            known: `fingerprint` of each of those demonstrations, as π0's file has them.
        """


class ActingExpert(Expert):
    """An expert that is a policy itself and demonstrates by acting in the suite's environments.

    Args:
        noise: executed noise, the standard deviation of what is added to the executed actions (Gaussian) while the
            clean ones are recorded, so that demonstrations show how to recover (the idea of DART, arXiv 1703.09327).
        successes_only: try again, from another initial state, until the suite calls the episode a success.
        max_attempts: tries for each demonstration if only successes count.

    Raises:
        InputError: noise is negative or no attempt is allowed.
    """

    side_by_side = True
    needs = (Need.SIMULATOR,)
    instead = "Choose RecordedExpert, or an expert of yours that demonstrates without one."

    def __init__(self, noise: float = 0.0, successes_only: bool = True, max_attempts: int = 5) -> None:
        if noise < 0 or max_attempts < 1:
            raise InputError(f"An expert needs noise >= 0 and max_attempts >= 1, got {noise} and {max_attempts}.")
        self.noise, self.successes_only, self.max_attempts = noise, successes_only, max_attempts

    @abstractmethod
    def actor(self, suite: TaskSuite) -> Acting:
        """The actor, controller or policy that demonstrates. An actor is given the suite's `goals` as contexts; a
        controller, or a policy, gets steps with the contexts that policies get, and the tasks' numbers."""

    def demonstrate(
        self, suite: TaskSuite, episodes: Sequence[Episode], on_step: Callable[[int], None] | None = None
    ) -> list[Trajectory]:
        """Runs all episodes side by side; those that fail are tried again with seeds keyed by (seed, attempt).

        Raises:
            InputError: an episode never succeeded, or cannot be run.
        """
        if suite.discrete and self.noise:
            raise InputError(f"expert.noise is {self.noise}, but the actions of suite '{suite.name}' are discrete.")
        acting = self.actor(suite)
        if not callable(getattr(acting, "act", None)):
            wrong = f"{type(self).__name__}.actor gave a {type(acting).__name__}"
            raise refusal(self, wrong, "Let it return what has a method act(observations, contexts).")
        controller = on_goals(acting, suite)
        open_episodes = dict(enumerate(episodes))
        demonstrations: dict[int, Trajectory] = {}
        for attempt in range(self.max_attempts):
            if not open_episodes:
                break
            tries = [_retry(episode, attempt) for episode in open_episodes.values()]
            trajectories = rollout(controller, suite, tries, noise=self.noise, on_step=on_step)
            # Episodes that failed are run again without the others: an episode does not depend on what runs beside it.
            successes = {
                index: trajectory
                for index, trajectory in zip(open_episodes, trajectories, strict=True)
                if trajectory.success or not self.successes_only
            }
            demonstrations |= successes
            open_episodes = {index: episode for index, episode in open_episodes.items() if index not in successes}
        if open_episodes:
            episode = next(iter(open_episodes.values()))
            raise InputError(
                f"{type(self).__name__} did not succeed at task '{episode.task.name}' of suite '{suite.name}' in "
                f"{self.max_attempts} attempts (first seed {episode.seed}). Raise expert.max_attempts, lower "
                "expert.noise, set expert.successes_only to false, or leave the task out of the suite."
            )
        return [demonstrations[index] for index in range(len(episodes))]


def on_goals(acting: Acting, suite: TaskSuite) -> Acting:
    """An expert's actor that is told the suite's goals; what is more than an actor stays as it is."""
    return acting if isinstance(acting, Controller | Controlled) else Memoryless(acting, suite.goals)


def _retry(episode: Episode, attempt: int) -> Episode:
    if attempt == 0:
        return episode
    return replace(episode, seed=keyed_seed(episode.seed, Purpose.DEMONSTRATE, attempt))
