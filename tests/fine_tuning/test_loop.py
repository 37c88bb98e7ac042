"""One epoch is one round: choose, have it demonstrated, train on all so far, evaluate."""

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from frozen_entries import policy_like, trainable_entries
from tiny_runs import Run, checkpoint, outcome

from amf_lightning.demonstrations.batches import MicroBatch, demonstration_rows
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.evaluation.held_out import action_error
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.weights import load_policy
from amf_lightning.retention.frozen import FreezeByImportance
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.informed import InformationGain
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

SUITE = TinySuite()
STEPS = 12


def rounds(run: Run) -> list[int]:
    return [job.round for job in run.folder.read_selections()]


def evaluated(run: Run) -> list[int]:
    return sorted({row.demonstrations for row in run.folder.read_curve()})


def test_an_epoch_is_a_round_with_a_fixed_number_of_steps(uninterrupted: Run) -> None:
    assert rounds(uninterrupted) == [0, 0, 1, 1, 2]
    assert evaluated(uninterrupted) == [0, 2, 4, 5]
    assert checkpoint(uninterrupted)["global_step"] == 3 * STEPS


def test_the_last_round_takes_what_the_budget_leaves(make_run: Callable[..., Run]) -> None:
    run = make_run("run", {"active": {"budget": 4, "batch_size": 3}}).complete()
    assert rounds(run) == [0, 0, 0, 1]
    assert evaluated(run) == [0, 3, 4]


def test_what_was_realised_is_the_error_of_the_policy_before_and_after_the_round(
    make_run: Callable[..., Run], pretrained: Path
) -> None:
    run = make_run("run", {"active": {"budget": 2, "batch_size": 2}}).complete()
    for job, outcome_of_it in run.folder.read_outcomes():
        shown = DemonstrationStore(run.folder.demonstrations).read(job.demonstration)
        errors = [action_error(policy_like(path), SUITE, [shown]) for path in (pretrained, run.folder.policy)]
        realised = outcome_of_it.realised
        assert realised is not None
        assert (realised.error_before, realised.error_after) == pytest.approx(tuple(errors), rel=1e-5)
        assert realised.error_after < realised.error_before


def test_scores_are_those_of_the_policy_that_the_round_before_has_trained(
    make_run: Callable[..., Run], uninterrupted: Run, pretrained: Path
) -> None:
    one_round = make_run("run", {"active": {"budget": 2, "batch_size": 2}}).complete()
    jobs = uninterrupted.folder.read_selections()
    assert one_round.folder.read_selections() == jobs[:2]
    store = DemonstrationStore(one_round.folder.demonstrations)
    context = SelectionContext(
        suite=SUITE,
        policy=policy_like(one_round.folder.policy),
        pretrained=policy_like(pretrained),
        statistics=load_policy(str(pretrained)).statistics,
        demonstrations=[store.read(0), store.read(1)],
        round=1,
        seed=0,
        rollout=lambda actor, episodes: rollout(actor, SUITE, episodes),
        trainable=trainable_entries(pretrained, FreezeByImportance(0.3)),
    )
    selection = InformationGain().select(context, 2)
    assert list(selection.picks) == [job.task_index for job in jobs[2:4]]
    assert list(selection.scores) == [job.scores for job in jobs[2:4]]
    assert all(math.isfinite(score) for job in jobs for score in job.scores)
    assert len({job.scores for job in jobs}) == len(jobs)


def save_batches(folder: Path) -> None:
    """Has every micro-batch that is trained on saved, with its round."""
    losses, numbers = BehaviouralCloning.losses, count()

    def spied(self: BehaviouralCloning, policy: Policy, microbatch: MicroBatch) -> dict[str, torch.Tensor]:
        plain = {name: rows.tensors() for name, rows in microbatch.items()}
        torch.save((self.current_epoch, plain), folder / f"{next(numbers)}.pt")
        return losses(self, policy, microbatch)

    BehaviouralCloning.losses = spied  # type: ignore[method-assign]


def bits(steps: Steps) -> set[bytes]:
    return {row.numpy().tobytes() for row in torch.cat([steps.state, steps.contexts, steps.shown_actions], dim=1)}


def test_a_round_trains_on_the_rounds_so_far_and_replays_what_was_not_demonstrated(
    make_run: Callable[..., Run], uninterrupted: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "batches"
    folder.mkdir()
    run = make_run().complete(save_batches, folder)
    trained: dict[int, set[bytes]] = defaultdict(set)
    replayed: dict[int, set[float]] = defaultdict(set)
    for path in folder.iterdir():
        round, batch = torch.load(path)
        trained[round] |= bits(Steps.from_tensors(batch["demonstrations"]))
        replayed[round] |= set(batch["replay"]["contexts"].flatten().tolist())
    store = DemonstrationStore(run.folder.demonstrations)
    jobs = run.folder.read_selections()
    collected: dict[int, set[bytes]] = defaultdict(set)
    for job in jobs:
        rows = demonstration_rows([store.read(job.demonstration)], SUITE)
        collected[job.round] |= bits(rows.everything())
    for round in range(3):
        assert trained[round] <= set().union(*(collected[earlier] for earlier in range(round + 1)))
        assert all(trained[round] & collected[earlier] for earlier in range(round + 1))
        demonstrated = {job.task_index for job in jobs if job.round <= round}
        assert replayed[round] == {task.context[0] for task in SUITE.tasks if task.index not in demonstrated}


def test_the_weight_of_self_distillation_counts(make_run: Callable[..., Run]) -> None:
    def weighted(weight: float) -> Run:
        retention = {"class_path": "SelfDistillation", "init_args": {"weight": weight}}
        changes = {"retention": retention, "active": {"budget": 1, "batch_size": 1}}
        return make_run(f"weight-{weight}", changes).complete()

    assert weighted(1.0).folder.policy.read_bytes() != weighted(4.0).folder.policy.read_bytes()


def test_the_last_round_is_evaluated_however_rarely_the_others_are(make_run: Callable[..., Run]) -> None:
    run = make_run("run", {}, ("--trainer.check_val_every_n_epoch=2",)).complete()
    assert evaluated(run) == [0, 4, 5]


@pytest.mark.parametrize(("reset", "steps"), [(True, STEPS), (False, 3 * STEPS)])
def test_the_optimizer_forgets_at_the_start_of_each_round_if_asked_to(
    make_run: Callable[..., Run], reset: bool, steps: int
) -> None:
    run = make_run("run", {"model": {"reset_optimizer": reset}}).complete()
    [optimizer] = checkpoint(run)["optimizer_states"]
    assert {float(state["step"]) for state in optimizer["state"].values()} == {float(steps)}


def test_a_seed_says_all_about_a_run(make_run: Callable[..., Run], uninterrupted: Run) -> None:
    again, other = make_run("again").complete(), make_run("other", {"seed_everything": 1}).complete()
    assert outcome(again) == outcome(uninterrupted)
    mine, theirs = outcome(other), outcome(uninterrupted)
    assert [name for name in theirs if mine[name] == theirs[name]] == []
