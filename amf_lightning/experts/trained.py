"""An expert that was trained by reinforcement learning, here or by the user."""

from amf_lightning.experts.expert import ActingExpert
from amf_lightning.experts.goal_actor import load_goal_actor
from amf_lightning.tasks.controller import Actor
from amf_lightning.tasks.task import TaskSuite


class TrainedExpert(ActingExpert):
    """A goal-conditioned actor from a file that `amf train-expert` made.

    Args:
        weights: name of shipped weights, or a path.
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(
        self,
        weights: str = "halfcheetah/expert",
        noise: float = 0.0,
        successes_only: bool = True,
        max_attempts: int = 5,
    ) -> None:
        super().__init__(noise, successes_only, max_attempts)
        self.weights = weights
        self._actor, self.facts = load_goal_actor(weights)

    @property
    def card_text(self) -> str:
        return (
            "a goal-conditioned actor (a = tanh of a ReLU network of observation and goal),\n"
            "trained by soft actor-critic at random targets, best of the training by evaluation, run deterministically."
            f' On torch\nalone: `TrainedExpert(weights="{self.weights}")`.'
        )

    def actor(self, suite: TaskSuite) -> Actor:
        """The actor, after a check that it was trained for `suite`."""
        self._actor.check_suite(suite, f"'{self.weights}'")
        return self._actor
