from dataclasses import replace
from pathlib import Path

import pytest
import torch
from selection_world import demonstrate, mlp, rows_of

from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.demonstrations.store import DemonstrationStore, fingerprint
from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.round import losses_of, round_rows, weighted_sum
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.retention.replay import ExperienceReplay
from amf_lightning.retention.retention import RetentionContext
from amf_lightning.tasks.steps import cat
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)
BEFORE = demonstrate(SUITE, [0, 0, 0, 1], seed=50)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, trajectory in enumerate(BEFORE):
        DemonstrationStore(tmp_path).write(number, trajectory)
    return tmp_path


def context(known: list[Trajectory] | None = None) -> RetentionContext:
    prints = frozenset(fingerprint(trajectory) for trajectory in BEFORE if known is None)
    prints |= frozenset(fingerprint(trajectory) for trajectory in known or ())
    return RetentionContext(SUITE, frozen_copy(POLICY), seed=0, pretraining_counts=(3, 1, 0, 0), trained_on=prints)


def prepared(folder: Path, **options: float) -> ExperienceReplay:
    retention = ExperienceReplay(str(folder), **options)  # type: ignore[arg-type]
    retention.prepare(context(), POLICY)
    return retention


def test_the_objective_is_that_of_one_minibatch_of_which_a_share_comes_from_the_store(folder: Path) -> None:
    """Over whole sources, against rows that are repeated until they make up the share."""
    new = demonstrate(SUITE, [2])
    rows = round_rows(new, SUITE, prepared(folder, share=0.25), False, POLICY.window)
    sources = {name: each.everything() for name, each in rows.items()}
    losses = losses_of(POLICY, prepared(folder), sources)
    objective = weighted_sum(losses, {name: each.loss_weight for name, each in rows.items()})
    shown, old = rows_of(SUITE, new), rows_of(SUITE, BEFORE)
    assert len(old) == 4 * len(shown)
    mixed = cat([shown] * 12 + [old])  # 12 parts new, 4 parts old
    expected = POLICY.loss(mixed).mean()
    torch.testing.assert_close(0.75 * objective, expected)


def test_what_was_demonstrated_since_is_replayed_all_the_same(folder: Path) -> None:
    replayed = prepared(folder).replay(frozenset({0, 1, 2, 3}))
    assert replayed is not None and len(replayed) == 4 * 12
    assert torch.equal(replayed.everything().shown_actions, rows_of(SUITE, BEFORE).shown_actions)


def test_a_small_store_keeps_the_first_of_each_task(folder: Path) -> None:
    replayed = prepared(folder, per_task=2).replay(frozenset())
    assert replayed is not None
    kept = demonstration_rows([BEFORE[0], BEFORE[1], BEFORE[3]], SUITE).everything()
    assert torch.equal(replayed.everything().state, kept.state)


def test_what_was_not_its_pretraining_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not trained on 1 of the 4 demonstrations in"):
        ExperienceReplay(str(folder)).prepare(context(BEFORE[:3]), POLICY)
    ExperienceReplay(str(folder)).prepare(replace(context(), trained_on=frozenset()), POLICY)  # files of 0.1 do not say
    with pytest.raises(InputError, match="There are no demonstrations in"):
        ExperienceReplay(str(tmp_path / "none")).prepare(context(), POLICY)
    with pytest.raises(InputError, match=r"no demonstrations lie beside π0's file\. Give it"):
        ExperienceReplay().prepare(context(), POLICY)


@pytest.mark.parametrize(("share", "per_task"), [(0.0, None), (1.0, None), (0.5, 0)])
def test_arguments_that_make_no_sense_are_refused(share: float, per_task: int | None) -> None:
    with pytest.raises(InputError, match="ExperienceReplay"):
        ExperienceReplay("somewhere", share, per_task)
