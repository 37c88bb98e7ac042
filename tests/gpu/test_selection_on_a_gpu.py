"""Belief and criterion on a GPU say what they say on the CPU: the mathematics is the same, and it is in float64."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from pretend_gpu import pretend_gpu
from selection_world import context_of, demonstrate, mlp, statistics_of
from torch import Tensor

from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.selection import information_gain
from amf_lightning.selection.context import Selection
from amf_lightning.selection.information_gain import Joint, Variance
from amf_lightning.selection.informed import InformationGain, InformedSelector, UncertaintySampling
from amf_lightning.selection.occupancies import Demonstrated, ImportanceWeighted
from amf_lightning.tasks.steps import steps_of
from amf_lightning.uncertainty.embeddings import LastLayerFeatures, LossGradient
from amf_lightning.uncertainty.kernels import Kernel
from amf_lightning.uncertainty.policy_belief import PolicyBelief
from amf_lightning.uncertainty.projected_gradient import ProjectedGradient
from tiny import TinySuite

SUITE = TinySuite(horizon=4)
SHOWN = demonstrate(SUITE, [0, 1, 1, 2])


@contextmanager
def gpu(kind: str) -> Iterator[None]:
    """A GPU to select on: the one that is there, or one that is pretended."""
    if kind == "pretended":
        with pretend_gpu() as pretended:
            yield
        assert pretended.seen > 10
    else:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        yield
        assert torch.cuda.max_memory_allocated() > before


def gpus() -> list[Any]:
    missing = pytest.mark.skipif(not torch.cuda.is_available(), reason="runs on a pretended GPU instead")
    return [pytest.param("real", marks=missing), pytest.param("pretended")]


def half(policy: Policy) -> dict[str, Tensor]:
    """A mask that lets every other entry of the last layer be trained, and all below it."""
    weight = dict(policy.named_parameters())["head.weight"]
    return {"head.weight": torch.arange(weight.numel()).reshape(weight.shape) % 2 == 0}


def isolated() -> IsolatedPolicy:
    return IsolatedPolicy.of(mlp(SUITE), SUITE.contexts, [0, 1, 1, 2], SUITE.dimensions)


def fitted() -> GaussianProcessPolicy:
    policy = GaussianProcessPolicy(SUITE.observation, SUITE.context_dim, SUITE.action_dim, capacity=64)
    policy.refit(GaussianProcessPolicy(SUITE.observation, SUITE.context_dim, SUITE.action_dim), steps_of(SHOWN, SUITE))
    return policy


def selection(selector: InformedSelector, policy: Policy, device: str, **known: Any) -> Selection:
    """A batch of three in the second round, while a demonstration is pending."""
    statistics = None if isinstance(policy, GaussianProcessPolicy) else statistics_of(policy, SUITE, SHOWN[:2])
    facts = {"statistics": statistics, "demonstrations": SHOWN, "round": 1, "pending": (3,), "device": device, **known}
    return selector.select(context_of(SUITE, policy, **facts), 3)


CASES: dict[str, Any] = {
    "features": lambda: (InformationGain(), mlp(SUITE), {}),
    "first round": lambda: (InformationGain(), mlp(SUITE), {"demonstrations": [], "round": 0}),
    "no statistics": lambda: (
        InformationGain(LastLayerFeatures(statistics=False)),
        mlp(SUITE),
        {"demonstrations": [], "statistics": None},
    ),
    "forgetting": lambda: (
        InformationGain(LastLayerFeatures(tolerance=0.01)),
        mlp(SUITE, seed=1),
        {"pretrained": mlp(SUITE), "statistics": statistics_of(mlp(SUITE), SUITE, SHOWN[:2])},
    ),
    "remade moments": lambda: (InformationGain(LastLayerFeatures(unit_norm=True)), mlp(SUITE), {}),
    "masked": lambda: (InformationGain(), mlp(SUITE), {"trainable": half(mlp(SUITE))}),
    "separate parts": lambda: (InformationGain(), isolated(), {}),
    "joint, noise and costs": lambda: (
        InformationGain(aggregate=Joint(), noise={"goal=1": 4.0}, costs={"goal=-1": 2.0}),
        mlp(SUITE),
        {},
    ),
    "variance": lambda: (InformationGain(occupancy=Demonstrated(), aggregate=Variance()), mlp(SUITE), {}),
    "gradients": lambda: (
        InformationGain(LossGradient(condition_on_history=True), ImportanceWeighted()),
        mlp(SUITE),
        {},
    ),
    "masked gradients": lambda: (
        InformationGain(LossGradient(condition_on_history=True), ImportanceWeighted()),
        mlp(SUITE),
        {"trainable": half(mlp(SUITE))},
    ),
    "projected gradients": lambda: (
        InformationGain(ProjectedGradient(dimension=16, condition_on_history=True), Demonstrated()),
        mlp(SUITE),
        {},
    ),
    "kernel": lambda: (InformationGain(Kernel(), noise={"goal=-1": 2.0}), mlp(SUITE), {}),
    "belief of the policy": lambda: (InformationGain(PolicyBelief()), fitted(), {}),
    "uncertainty": lambda: (UncertaintySampling(), mlp(SUITE), {}),
}


@pytest.mark.filterwarnings("ignore:Variance is unbounded", "ignore:The largest variance of the belief")
@pytest.mark.parametrize("kind", gpus())
@pytest.mark.parametrize("case", CASES)
def test_picks_and_scores_are_those_of_the_cpu(case: str, kind: str) -> None:
    selector, policy, known = CASES[case]()
    expected = selection(selector, policy, "cpu", **known)
    selector, policy, known = CASES[case]()
    with gpu(kind):
        got = selection(selector, policy, "cuda", **known)
    assert got.picks == expected.picks
    assert torch.allclose(torch.tensor(got.scores), torch.tensor(expected.scores), rtol=1e-8, equal_nan=True)
    assert got.diagnostics.keys() == expected.diagnostics.keys()
    ours, theirs = (torch.tensor(list(each.diagnostics.values())) for each in (got, expected))
    assert torch.allclose(ours, theirs, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("kind", gpus())
def test_chunks_are_larger_on_a_gpu_and_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(information_gain, "_CHUNK", 1)
    expected = selection(InformationGain(), mlp(SUITE), "cpu")
    with gpu(kind):
        got = selection(InformationGain(), mlp(SUITE), "cuda")
    assert got.picks == expected.picks
    assert torch.allclose(torch.tensor(got.scores), torch.tensor(expected.scores), rtol=1e-8)


def test_a_pretended_gpu_refuses_what_a_real_one_refuses() -> None:
    here = torch.ones(3, 3)
    with pretend_gpu():
        there = here.to("cuda")
        assert (there.device.type, here.device.type, (there @ there).cpu().device.type) == ("cuda", "cpu", "cpu")
        mixtures: list[Callable[[], Tensor]] = [
            lambda: here @ there,
            lambda: torch.cat([here, there]),
            lambda: here[there[0].long()],
        ]
        for mixture in mixtures:
            with pytest.raises(RuntimeError, match="same device"):
                mixture()
        assert there[torch.tensor([0])].device.type == "cuda"
        assert (there * torch.tensor(2.0)).device.type == "cuda"
