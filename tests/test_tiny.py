"""The tests' own world must be what the tests take it for."""

from amf_lightning.tasks.task import Episode
from tiny import TinyExpert, TinySuite


def test_the_expert_reaches_every_goal() -> None:
    suite = TinySuite()
    demonstrations = TinyExpert().demonstrate(suite, [Episode(task, 3) for task in suite.tasks])
    assert [demonstration.success for demonstration in demonstrations] == [True] * 4
