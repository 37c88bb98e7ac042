"""Whether an environment does the same again: one short episode, run twice."""

import numpy as np
from numpy.typing import NDArray

from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.gymnasium_simulation import GymnasiumSimulation, simulate
from amf_lightning.tasks.task import Episode, TaskSuite

_STEPS = 20


def repeats(suite: TaskSuite, seed: int) -> bool | None:
    """Whether the same actions from the same seed give the same observations, rewards and ends, bit for bit.

    The same environment runs both, so that one that keeps something over a reset is found, like one that ignores the
    seed. Nobody counts these steps, at most 40.

    Args:
        suite: whose first task is tried, by actions drawn from the seed.
        seed: of the run.

    Returns:
        None where nobody can tell: the suite has no simulator, one of its own, or one robot (`parallel_episodes` 1),
        which nobody moves about for this.
    """
    if suite.simulator is None or suite.parallel_episodes == 1:
        return None
    episode = Episode(suite.tasks[0], keyed_seed(seed, Purpose.EVALUATE, suite.tasks[0].index))
    actions = np.random.default_rng(episode.seed).uniform(-1, 1, (_STEPS, suite.action_dim)).astype(np.float32)
    if suite.discrete:
        actions = np.eye(suite.action_dim, dtype=np.float32)[actions.argmax(axis=1)]
    courses = []
    for _ in range(2):
        simulation = simulate(suite, [episode], may_fail=True)
        if not isinstance(simulation, GymnasiumSimulation):
            return None
        courses.append(_course(simulation, actions))
        simulation.discard(simulation.failures)
    return courses[0] == courses[1]


def _course(simulation: GymnasiumSimulation, actions: NDArray[np.float32]) -> list[bytes]:
    """Everything that an episode showed, in order."""
    observations, ended = simulation.reset(), bool(simulation.failures)
    shown = [entry.tobytes() for entry in observations.values()]
    for action in actions:
        if ended:
            break
        observations, ends = simulation.step(np.array([0]), action[None])
        ended = bool(ends[0])
        shown += [entry.tobytes() for entry in observations.values()]
    rewards = np.array(simulation.rewards(0))
    return [*shown, rewards.tobytes(), bytes([ended])]
