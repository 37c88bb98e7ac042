import math
from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from selection_world import OppositeGoals, context_of, demonstrate, mlp, statistics_of
from torch import Tensor

from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.policies.chunked_mlp import ChunkedMLP
from amf_lightning.policies.denoising import DenoisingPolicy
from amf_lightning.policies.diffusion import DiffusionPolicy
from amf_lightning.policies.flow import FlowPolicy
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.seeding import Purpose, RowGenerators, keyed_generator
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.ensemble import (
    EnsembleDisagreement,
    chances_of,
    disagreement,
    fresh_like,
    predictions_of,
)
from amf_lightning.selection.occupancies import Demonstrated, PolicyRollout
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()


def quick(**options: Any) -> EnsembleDisagreement:
    return EnsembleDisagreement(members=3, steps=60, batch_size=32, learning_rate=1e-2, **options)


def context(demonstrated: tuple[int, ...] = (0,), covered: bool = False) -> SelectionContext:
    policy = mlp(SUITE, width=16)
    statistics = statistics_of(policy, SUITE, demonstrate(SUITE, [3, 3], seed=50)) if covered else None
    known = demonstrate(SUITE, demonstrated)
    return context_of(SUITE, policy, statistics=statistics, demonstrations=known)


def test_members_agree_where_they_were_shown_what_to_do() -> None:
    suite = OppositeGoals()
    known = context_of(suite, mlp(suite, width=16), demonstrations=demonstrate(suite, [0] * 4))
    [scores] = quick(occupancy=Demonstrated()).select(replace(known, remaining=(900, 0)), 1).scores
    assert scores[0] < 0.25 and math.isnan(scores[1])
    rolled = quick().select(known, 1)
    assert rolled.scores[0][0] < rolled.scores[0][1]


def test_what_pi0_does_on_the_tasks_of_its_file_is_learned_too() -> None:
    known = context(covered=True)
    [demonstration, distilled] = quick()._data(known)
    assert torch.equal(demonstration.state, torch.from_numpy(known.demonstrations[0].state[:-1]))
    assert (distilled.contexts == SUITE.tasks[3].context[0]).all()
    with torch.no_grad():
        actions = known.pretrained.act(distilled)
    assert distilled.actions is not None and torch.allclose(distilled.actions, actions, atol=1e-5)
    without, with_file = quick().select(context(), 1), quick().select(known, 1)
    assert without.scores != with_file.scores
    once = 4 * 2 * 12  # every task, two episodes, the horizon
    assert without.diagnostics["environment_steps"] == once
    assert with_file.diagnostics["environment_steps"] == 2 * once
    later = quick().select(replace(context(covered=True), round=3), 1)
    assert later.diagnostics["environment_steps"] == once


def test_a_restart_changes_nothing_and_a_round_is_trained_anew() -> None:
    selector = quick()
    first, again = selector.select(context(), 3), quick().select(context(), 3)
    assert first == again == selector.select(context(), 3)
    assert selector.select(replace(context(), round=1), 1).scores[0] != first.scores[0]
    torch.manual_seed(5)
    assert quick().select(context(), 3) == first


class Watched(MLPPolicy):
    """Remembers the contexts that it was trained on."""

    seen: ClassVar[set[float]] = set()

    def loss(self, steps: Steps) -> Tensor:
        self.seen.update(steps.contexts.flatten().tolist())
        return super().loss(steps)


def test_each_member_sees_a_bootstrap_of_its_own() -> None:
    """Drawing three of three demonstrations with replacement leaves one out in all but 2 of 9 cases."""
    known = replace(context((0, 1, 2)), policy=Watched(2, 1, 1, hidden=(4,)))
    selector, drawn = quick(), []
    for member in range(8):
        Watched.seen.clear()
        selector._trained(known, member, selector._data(known))
        drawn.append(frozenset(Watched.seen))
    assert len(set(drawn)) > 2
    assert min(len(one) for one in drawn) < 3
    assert frozenset().union(*drawn) == {task.context[0] for task in SUITE.tasks[:3]}


def test_disagreement_is_the_spread_of_the_members() -> None:
    expected = PolicyRollout(states=4).expected(context())

    class Constant(MLPPolicy):
        def act(self, steps: Steps) -> Tensor:
            return torch.full((len(steps), 1), self.level)

        level = 0.0

    members = [Constant(2, 1, 1, hidden=(4,)) for _ in range(2)]
    members[1].level = 0.5
    assert disagreement(members, expected.targets, 4).tolist() == pytest.approx([0.25] * 4)


def test_tasks_are_drawn_in_proportion_to_the_exponential_of_their_disagreement() -> None:
    scores = torch.tensor([0.0, 0.1, 0.2, 0.3], dtype=torch.float64)
    allowed = torch.tensor([True, True, False, True])
    chances = chances_of(scores, allowed, math.log(2) / 0.1)
    assert chances.tolist() == pytest.approx([1 / 11, 2 / 11, 0, 8 / 11])
    selection = quick(sharpness=5.0).select(replace(context(), remaining=(900, 900, 0, 900)), 600)
    counts = Counter(selection.picks)
    expected = chances_of(torch.tensor(selection.scores[0]), allowed, 5.0)
    for task in range(4):
        assert counts[task] / 600 == pytest.approx(float(expected[task]), abs=0.08)


def test_nothing_known_means_a_uniform_draw_and_a_prefill_comes_first() -> None:
    assert all(math.isnan(score) for score in quick().select(context(()), 1).scores[0])
    mixed = quick(occupancy=Demonstrated()).select(context((0, 3)), 3)
    assert set(mixed.picks[:2]) == {1, 2} and mixed.picks[2] in (0, 3)


def test_members_are_of_the_class_and_the_normalisation_of_the_policy() -> None:
    policy = mlp(SUITE, width=16)
    policy.fit_normaliser(
        Steps.of_state(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(9, 1))
    )
    one, other = (
        fresh_like(policy, SUITE.dimensions, keyed_generator(0, Purpose.ENSEMBLE, member)) for member in (0, 1)
    )
    assert isinstance(one, MLPPolicy) and torch.equal(one.mean, policy.mean) and one.is_normalised
    assert not torch.equal(one.head.weight, other.get_parameter("head.weight"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"members": 1}, "at least 2"), ({"sharpness": -1.0}, "negative"), ({"steps": 0}, "positive")],
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EnsembleDisagreement(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [FlowPolicy, DiffusionPolicy])
def test_fields_are_compared_at_the_same_noises_and_times(kind: type[DenoisingPolicy]) -> None:
    torch.manual_seed(0)
    members = [kind(2, 1, 1, horizon=3, width=8, layers=1, steps=2, draws=2).eval() for _ in range(3)]  # type: ignore[call-arg]
    blocks = PolicyRollout(states=2).expected(context()).targets
    states, fields = blocks.states.flatten(), []
    with torch.no_grad():
        around = torch.stack([member.predict(states) for member in members]).mean(0)
        for member in members:
            seen, said = member.encoder(states), []
            for draw in range(2):
                time = member.times(member.quantiles)[draw].expand(len(states))
                noisy, _ = member.corrupted(around, members[0].fixed_noise[draw].expand_as(around), time)
                said.append(member.field(seen, noisy, time))
            fields.append(torch.stack(said, dim=1).flatten(1).double())
    torch.testing.assert_close(predictions_of(members, blocks), torch.stack(fields))
    found = disagreement(members, blocks, 4)
    each = torch.stack(fields).std(dim=0, correction=0).mean(1).reshape(blocks.states.shape).mean(1)
    expected = torch.stack([(blocks.weights * each)[blocks.tasks == task].sum() for task in range(4)])
    torch.testing.assert_close(found, expected)
    assert disagreement([members[0]] * 3, blocks, 4).abs().max() < 1e-12, "the same draws for all"


def test_chunks_are_compared_whole() -> None:
    blocks = PolicyRollout(states=2).expected(context()).targets

    class Bending(ChunkedMLP):
        bend = 0.0

        def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
            return (self.bend * torch.arange(3.0))[None, :, None].expand(len(steps), 3, 1)

    members = [Bending(2, 1, 1, horizon=3, hidden=(4,)) for _ in range(2)]
    members[1].bend = 0.2
    # 0, 0.1 and 0.2 at the three steps; the first actions are the same
    assert disagreement(members, blocks, 4).tolist() == pytest.approx([0.1] * 4)


def test_an_ensemble_of_flows_chooses() -> None:
    torch.manual_seed(0)
    flow = FlowPolicy(2, 1, 1, horizon=3, width=16, layers=1, steps=2, draws=2)
    known = demonstrate(SUITE, (0, 0))
    flow.fit_normaliser(demonstration_rows(known, SUITE, window=flow.window).everything())
    of_flow = context_of(SUITE, flow.eval(), demonstrations=known)
    first, again = (quick().select(of_flow, 1) for _ in range(2))
    assert first == again and all(score > 0 for score in first.scores[0])
    assert first.scores[0][0] < max(first.scores[0]), "most is known of the task that was shown"
