from collections import Counter
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
import torch
from selection_world import context_of, demonstrate, mlp, statistics_of
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.seeding import Purpose, keyed_generator
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.occupancies import PolicyRollout
from amf_lightning.selection.save import SAVE, row_chances, squared_disagreement, with_fresh_head
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()


def quick(**options: Any) -> SAVE:
    return SAVE(**{"steps": 60, "batch_size": 32, "learning_rate": 1e-2, **options})


def context(demonstrated: tuple[int, ...] = (0,), covered: bool = True) -> SelectionContext:
    """π0 knows task 3, and the policy has moved away from it."""
    pretrained = mlp(SUITE, width=16)
    pretrained.normalised.fill_(True)
    policy = mlp(SUITE, seed=4, width=16)
    policy.normalised.fill_(True)
    statistics = statistics_of(pretrained, SUITE, demonstrate(SUITE, [3, 3], seed=50)) if covered else None
    known = demonstrate(SUITE, demonstrated)
    return context_of(SUITE, policy, pretrained=frozen_copy(pretrained), statistics=statistics, demonstrations=known)


def test_members_are_the_pretrained_policy_with_last_layers_of_their_own() -> None:
    known = context()
    one, other = (with_fresh_head(known, keyed_generator(0, Purpose.ENSEMBLE, 0, member)) for member in (0, 1))
    for name, start in known.pretrained.named_parameters():
        same = torch.equal(one.get_parameter(name), start) and torch.equal(other.get_parameter(name), start)
        assert same != name.startswith("head"), name
    assert not torch.equal(one.get_parameter("head.weight"), other.get_parameter("head.weight"))
    assert all(parameter.requires_grad for parameter in one.parameters())
    without = replace(known, pretrained=frozen_copy(MLPPolicy(2, 1, 1, hidden=(16, 16))))
    fresh = with_fresh_head(without, keyed_generator(0, Purpose.ENSEMBLE, 0, 0))
    assert not any(torch.equal(fresh.get_parameter(n), p) for n, p in without.pretrained.named_parameters() if p.any())


def test_disagreement_is_the_mean_square_over_pairs() -> None:
    states = PolicyRollout(states=4).expected(context())

    class Constant(MLPPolicy):
        level = 0.0

        def act(self, steps: Steps) -> Tensor:
            return torch.full((len(steps), 1), self.level)

    levels = (0.0, 0.5, -0.2)
    members = [Constant(2, 1, 1, hidden=(4,)) for _ in levels]
    for member, level in zip(members, levels, strict=True):
        member.level = level
    pairs = [(a - b) ** 2 for a, b in permutations(levels, 2)]
    assert states is not None
    assert squared_disagreement(members, states.targets, 4).tolist() == pytest.approx([sum(pairs) / len(pairs)] * 4)


def test_tasks_are_drawn_in_proportion_to_a_power_of_their_disagreement() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0, 0.0], dtype=torch.float64)
    chances = SAVE(temperature=2.0)._chances(scores, torch.tensor([True, True, False, True]))
    assert chances.tolist() == pytest.approx([1 / 5, 4 / 5, 0, 0])
    agreed = SAVE()._chances(torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.bool))
    assert agreed.tolist() == [0.25] * 4
    selection = quick().select(replace(context(), remaining=(900, 900, 0, 900)), 600)
    powers = [0 if task == 2 else selection.scores[0][task] ** 2.5 for task in range(4)]
    counts = Counter(selection.picks)
    for task in range(4):
        assert counts[task] / 600 == pytest.approx(powers[task] / sum(powers), abs=0.08)


def test_half_of_a_minibatch_is_of_the_pretraining_whatever_there_is_of_both() -> None:
    drawn: list[Tensor] = []

    class Watched(MLPPolicy):
        def loss(self, steps: Steps) -> Tensor:
            drawn.append(steps.contexts.flatten())
            return super().loss(steps)

    known = context((0,) * 6)
    watched = Watched(2, 1, 1, hidden=(16, 16))
    watched.load_state_dict(known.pretrained.state_dict())
    known = replace(known, pretrained=frozen_copy(watched))
    for replay in (0.5, 0.25):
        drawn.clear()
        selector = quick(replay=replay, steps=200)
        selector._trained(known, 0, selector._data(known))
        share = (torch.cat(drawn) == SUITE.tasks[3].context[0]).double().mean()
        assert float(share) == pytest.approx(replay, abs=0.02)
    assert row_chances(3, 0, 0.5).tolist() == pytest.approx([1 / 3] * 3)
    assert row_chances(0, 2, 0.5).tolist() == [0.5, 0.5]


def test_it_disagrees_least_on_what_it_has_seen_and_each_round_is_made_anew() -> None:
    known = context((0, 0, 0, 0))
    first = quick(steps=200).select(known, 3)
    assert first == quick(steps=200).select(known, 3)
    scores = first.scores[0]
    assert max(scores[0], scores[3]) < max(scores[1], scores[2])
    assert quick(steps=200).select(replace(known, round=1), 3).scores[0] != scores


@pytest.mark.parametrize(
    ("options", "message"),
    [({"members": 1}, "SAVE: members"), ({"temperature": -1.0}, "negative"), ({"replay": 1.0}, "share")],
)
def test_arguments_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SAVE(**options)
