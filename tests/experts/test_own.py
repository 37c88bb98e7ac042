from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.experts.own import ActorExpert
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
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


class Arrays(Weak):
    def act(self, observations: Tensor, contexts: Tensor) -> Any:
        return super().act(observations, contexts).numpy()


class Lists(Weak):
    def act(self, observations: Tensor, contexts: Tensor) -> Any:
        return super().act(observations, contexts).tolist()


class Silent(Weak):
    def act(self, observations: Tensor, contexts: Tensor) -> Any:
        return None


def test_arrays_and_lists_are_actions_too() -> None:
    suite = TinySuite()
    asked = [Episode(task, 1) for task in suite.tasks]
    wanted = ActorExpert(f"{__name__}.Weak", {"gain": 1.0}).demonstrate(suite, asked)
    for kind in ("Arrays", "Lists"):
        shown = ActorExpert(f"{__name__}.{kind}", {"gain": 1.0}).demonstrate(suite, asked)
        assert [t.actions.tobytes() for t in shown] == [t.actions.tobytes() for t in wanted]
    with pytest.raises(UserCodeError, match=r"Silent.act\(.*\) gave a NoneType"):
        ActorExpert(f"{__name__}.Silent", {"gain": 1.0}).demonstrate(suite, asked)


class Scores:
    """Worth of the two choices, all above 1."""

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.tensor([[2.0, 5.0]]).repeat(len(observations), 1)


def test_the_largest_score_is_the_choice() -> None:
    suite = GymnasiumSuite("CartPole-v1", [GymnasiumTask("stand")], horizon=5, return_threshold=1)
    (shown,) = ActorExpert(f"{__name__}.Scores").demonstrate(suite, [Episode(suite.tasks[0], 0)])
    assert shown.actions.tolist() == [[0.0, 1.0]] * 5
    assert shown.state[-1, 1] > shown.state[0, 1], "the cart was pushed to the right"


class Elsewhere(torch.nn.Module):
    """A network on another device than the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, device="meta"))

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        assert not self.training
        assert observations.device == contexts.device == self.weight.device
        return torch.zeros(len(observations), 1)


def test_a_module_is_asked_on_its_device_and_not_in_training() -> None:
    suite = TinySuite()
    expert = ActorExpert(f"{__name__}.Elsewhere", successes_only=False)
    assert not expert.demonstrate(suite, [Episode(suite.tasks[0], 0)])[0].actions.any()


def test_a_module_that_fails_is_named_with_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unfinished.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "undefined.py").write_text("\nnothing_here\n")
    (tmp_path / "moody.py").write_text("class Moody:\n    act = print\n    def __init__(self):\n        {}['a']\n")
    for actor, reason in {
        "unfinished.Actor": r"SyntaxError: .*unfinished\.py, line 2",
        "undefined.Actor": r"NameError: .*undefined\.py, line 2",
        "moody.Moody": r"cannot be made with {}: KeyError: 'a' \(.*moody\.py, line 4",
        "Moody": "give an import path, module.Class",
        ".Moody": "give an import path, module.Class",
    }.items():
        with pytest.raises(InputError, match=reason):
            ActorExpert(actor)
