"""A run and the policy that it began with."""

import gc
import json
from functools import partial
from pathlib import Path

import torch
from conftest import MakeRun
from tiny_runs import PRETRAINING, Run

from amf_lightning.demonstrations.batches import BLOCK
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import save_policy
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite


def seeds(run: Run) -> set[int]:
    return {job.seed for job in run.folder.read_selections()}


def test_no_initial_state_of_the_pre_training_is_demonstrated_again(pretrained: Path, uninterrupted: Run) -> None:
    before = Run(pretrained.parent, PRETRAINING)
    assert seeds(before) and seeds(uninterrupted)
    assert not seeds(before) & seeds(uninterrupted)
    first, second = (
        {DemonstrationStore(run.folder.demonstrations).read(index).state[0].tobytes() for index in range(4)}
        for run in (before, uninterrupted)
    )
    assert not first & second


def test_a_pre_trained_policy_remade_under_the_same_name_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    other = Run(tmp_path / "pretraining", {**PRETRAINING, "data": {"steps_per_round": 20}}).complete()
    run = make_run(changes={"model": {"pretrained": str(other.folder.policy)}}).complete()
    kept = run.folder.policy.read_bytes()
    longer = Run(other.path.with_name("again"), {**PRETRAINING, "data": {"steps_per_round": 30}}).complete()
    other.folder.policy.write_bytes(longer.folder.policy.read_bytes())
    process = run.start()
    process.join()
    assert process.exitcode == 2
    assert "began with another pre-trained policy" in run.log.read_text()
    assert run.folder.policy.read_bytes() == kept


def test_evaluating_within_a_round_leaves_one_row_a_round(make_run: MakeRun) -> None:
    run = make_run("run", {"data": {"steps_per_round": BLOCK + 1}}, ("--trainer.val_check_interval", "1")).complete()
    rows = [(row.demonstrations, row.task) for row in run.folder.read_curve()]
    assert len(rows) == len(set(rows))
    assert sorted({count for count, _ in rows}) == [0, 2, 4, 5]
    assert json.loads(run.folder.evaluation.read_text())["demonstrations"] == 5


def test_pretrained_weights_are_held_twice_as_pi_zero_and_as_what_is_trained(tmp_path: Path) -> None:
    suite, hidden = TinySuite(), (37, 41)
    policy = MLPPolicy(suite.observation_dim, suite.context_dim, suite.action_dim, hidden=hidden)
    policy.fit_normaliser(Steps.of_state(torch.randn(9, 2), torch.zeros(9, 1)))
    file = tmp_path / "policy.safetensors"
    save_policy(file, policy, suite.signature(), None, {})
    weight = next(each for each in policy.parameters() if each.shape == (41, 37)).detach().clone()
    del policy
    module = BehaviouralCloning(suite, partial(MLPPolicy, hidden=hidden), pretrained=str(file))
    module.setup("fit")
    gc.collect()
    held = {
        tensor.untyped_storage().data_ptr()
        for tensor in gc.get_objects()
        if type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor is not weight and tensor.shape == weight.shape
    }
    assert len(held) == 2
    assert torch.equal(dict(module.origin.start.named_parameters())["backbone.2.weight"], weight)
