from typing import Any

import pytest
import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.experts.own import ActorExpert
from amf_lightning.tasks.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.tasks.task import Episode
from tiny import TinyExpert, TinySuite


class Weak:
    """Steers at a fraction of the speed."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return self.gain * torch.clamp((contexts - observations[:, :1]) / 0.2, -1.0, 1.0)


def test_any_class_that_acts_demonstrates() -> None:
    suite = TinySuite()
    asked = [Episode(task, 1) for task in suite.tasks]
    ours = ActorExpert("tiny.Steer").demonstrate(suite, asked)
    theirs = TinyExpert().demonstrate(suite, asked)
    assert [t.actions.tobytes() for t in ours] == [t.actions.tobytes() for t in theirs]
    slow = ActorExpert(f"{__name__}.Weak", {"gain": 0.5}).demonstrate(suite, asked[:1])
    assert abs(slow[0].actions).max() == 0.5


@pytest.mark.parametrize(
    ("actor", "arguments", "reason"),
    [
        ("nothing.Here", {}, "no module 'nothing'"),
        ("tiny.Stear", {}, "'tiny' has no 'Stear'"),
        ("tiny.GOALS", {}, "no class"),
        ("tiny.Steer", {"gain": 1}, "cannot be made with {'gain': 1}"),
        ("tiny.PointEnv", {"horizon": 3}, "has no method act"),
    ],
)
def test_what_does_not_act_is_refused(actor: str, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ActorExpert(actor, arguments)


def test_noise_on_a_choice_is_refused() -> None:
    suite = GymnasiumSuite("CartPole-v1", [GymnasiumTask("stand")], horizon=5, return_threshold=1)
    with pytest.raises(InputError, match=r"expert.noise is 0.1.*discrete"):
        ActorExpert("tiny.Steer", noise=0.1).demonstrate(suite, [Episode(suite.tasks[0], 0)])
