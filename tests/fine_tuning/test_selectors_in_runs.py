"""Selectors and embeddings that read what only a run can give them."""

import math
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import kill_points
import pytest
import torch
from tiny_runs import Run, assert_same_outcome

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.privileged import LearningProgress

PROJECTED = {
    "class_path": "InformationGain",
    "init_args": {
        "embedding": {"class_path": "ProjectedGradient", "init_args": {"dimension": 16}},
        "occupancy": {"class_path": "Demonstrated", "init_args": {"states": 4}},
        "costs": {"goal=1": 2.0},
        "noise": {"goal=0.5": 4.0},
    },
}
KERNEL = {
    "class_path": "UncertaintySampling",
    "init_args": {"embedding": {"class_path": "Kernel", "init_args": {"kernel": {"class_path": "Matern52"}}}},
}
ENSEMBLE = {"class_path": "EnsembleDisagreement", "init_args": {"members": 2, "steps": 5}}


def record_context() -> None:
    """Has `LearningProgress` print what it is given."""
    select = LearningProgress.select

    def spied(self: LearningProgress, context: SelectionContext, batch_size: int) -> Any:
        frozen = sum(int((~mask).sum()) for mask in context.trainable.values())
        assert all(mask.dtype == torch.bool for mask in context.trainable.values())
        print(f"SEEN {frozen > 0} {len(context.score_history)} {context.scores == context.score_history[-1]}")
        return select(self, context, batch_size)

    LearningProgress.select = spied  # type: ignore[method-assign]


@pytest.mark.parametrize("selector", [PROJECTED, KERNEL, ENSEMBLE], ids=lambda selector: selector["class_path"])
def test_it_is_found_by_its_name_and_runs(make_run: Callable[..., Run], selector: Mapping[str, Any]) -> None:
    run = make_run("run", {"selector": selector, "active": {"budget": 6, "batch_size": 3}}).complete()
    jobs = run.folder.read_selections()
    assert len(jobs) == 6
    assert any(math.isfinite(score) for score in jobs[-1].scores)
    if selector is PROJECTED:  # every task once before any is scored
        assert {job.task for job in jobs[:4]} == {"goal=-1", "goal=-0.5", "goal=0.5", "goal=1"}


def test_gaps_of_earlier_rounds_come_from_the_ledger_also_after_a_kill(make_run: Callable[..., Run]) -> None:
    changes = {"selector": {"class_path": "GapReduction"}, "active": {"budget": 6, "batch_size": 2}}
    whole, run = make_run("whole", changes).complete(), make_run("run", changes)
    assert run.finish(kill_points.in_mid_epoch, 1) == -signal.SIGKILL
    assert_same_outcome(run.complete(), whole)
    with closing(Ledger(whole.folder.ledger, read_only=True)) as ledger:
        gaps = [ledger.diagnostics(number)["gap/goal=1"] for number in range(3)]
    assert len(set(gaps)) == 3 and all(0 <= gap <= 1 for gap in gaps)


def test_a_selector_is_told_what_is_frozen_and_how_evaluations_went(make_run: Callable[..., Run]) -> None:
    run = make_run("run", {"selector": {"class_path": "LearningProgress"}}).complete(record_context)
    assert re.findall(r"SEEN (\w+) (\d) (\w+)", run.log.read_text()) == [("True", n, "True") for n in "123"]
    assert "evaluation returns" in run.folder.report.read_text()
