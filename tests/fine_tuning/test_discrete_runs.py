"""Active fine-tuning where actions are choices: a walker on a small frozen lake of gymnasium."""

import json
from pathlib import Path

import pytest
from amf_process import amf

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.policies.weights import load_policy

LAKE = """
import torch
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

class Lake(FrozenLakeEnv):
    def __init__(self, goal):
        row, column = goal
        ice = [["F"] * 4 for _ in range(4)]
        ice[0][0], ice[row][column] = "S", "G"
        super().__init__(desc=["".join(line) for line in ice], is_slippery=False)

class Walker:
    LEFT, DOWN, RIGHT, UP = range(4)
    def act(self, observations, contexts):
        cell = observations.argmax(dim=1)
        row, column = (3 * contexts).round().T
        choice = torch.where(cell % 4 < column, self.RIGHT, torch.where(cell // 4 < row, self.DOWN, self.LEFT))
        return torch.nn.functional.one_hot(choice, 4).float()
"""
RUN = """
config: configs/base.yaml
suite:
  class_path: GymnasiumSuite
  init_args:
    environment: lake.Lake
    horizon: 8
    return_threshold: 1.0
    tasks:
    - {name: right, context: [0, 1], arguments: {goal: [0, 3]}}
    - {name: down, context: [1, 0], arguments: {goal: [3, 0]}}
    - {name: corner, context: [1, 1], arguments: {goal: [3, 3]}}
    reference: {right: {random: 0, expert: 1}, down: {random: 0, expert: 1}, corner: {random: 0, expert: 1}}
expert: {class_path: ActorExpert, init_args: {actor: lake.Walker}}
model:
  policy: {class_path: CategoricalMLPPolicy, init_args: {hidden: [32, 32]}}
  optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
selector: RoundRobin
retention: NoRetention
data: {steps_per_round: 100, batch_size: 16, evaluation_episodes: 1}
active: {budget: 3, batch_size: 1}
reports: {animation: false}
trainer: {enable_progress_bar: false}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lake.py").write_text(LAKE)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


def test_choices_are_learned_from_one_hot_demonstrations(folder: Path) -> None:
    outcome = amf("fit", "--config=run.yaml", "--trainer.default_root_dir=first", cwd=folder)
    assert outcome.code == 0, outcome.said
    run = RunFolder(folder / "first")
    assert {row.task: row.score for row in run.read_curve() if row.demonstrations == 3}[MEAN] == 1.0
    shown = DemonstrationStore(run.demonstrations).read(0)
    assert shown.success and set(shown.actions.flatten().tolist()) == {0.0, 1.0}
    assert load_policy(str(run.policy)).suite["discrete"] is True
    # Every part that looks at gradients, densities or samples of the policy, from this one as π0.
    freeze = {"class_path": "FreezeByImportance", "init_args": {"fraction": 0.3}}
    retention = {
        "class_path": "CombinedRetention",
        "init_args": {"parts": [freeze, {"class_path": "SelfDistillation"}]},
    }
    for name, selector in (
        ("features", "InformationGain"),
        ("gradients", "configs/selection/paper.yaml"),
        ("ensemble", "EnsembleDisagreement"),
    ):
        options = ["--model.pretrained=first/policy.safetensors", f"--selector={selector}", "--active.budget=2"]
        options += [f"--retention={json.dumps(retention)}", f"--trainer.default_root_dir={name}"]
        outcome = amf("fit", "--config=run.yaml", *options, cwd=folder)
        assert outcome.code == 0, outcome.said
        assert RunFolder(folder / name).read_curve()[-1].score == 1.0, "nothing that was known is lost"


def test_continuous_parts_are_refused(folder: Path) -> None:
    outcome = amf("fit", "--config=run.yaml", "--model.policy=MLPPolicy", cwd=folder)
    assert outcome.code == 2 and "Set model.policy, e.g. to CategoricalMLPPolicy" in outcome.stderr, outcome.said
    outcome = amf("fit", "--config=run.yaml", "--expert.noise=0.1", cwd=folder)
    assert outcome.code == 2 and "the actions of suite 'lake.Lake' are discrete" in outcome.stderr, outcome.said
