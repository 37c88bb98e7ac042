"""Runs in BabyAI with its bot: from scratch, and on by information gain from what came of that."""

import json
from pathlib import Path

import pytest
import yaml
from amf_process import amf
from babyai_marks import BABYAI

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.policies.weights import load_policy
from amf_lightning.suites.babyai import BabyAI
from amf_lightning.tasks.steps import steps_of

pytestmark = BABYAI

LEVELS = ["GoToObjS4", "GoToLocalS5N2"]
REFERENCE = {level: {"random": 0.2, "expert": 1.0} for level in LEVELS}
RUN = {
    "config": "configs/base.yaml",
    "suite": {"class_path": "BabyAI", "init_args": {"levels": LEVELS, "reference": REFERENCE}},
    "expert": {"class_path": "BabyAIExpert"},
    "model": {
        "policy": {
            "class_path": "CategoricalTransformer",
            "init_args": {
                **{"history": 1, "width": 32, "heads": 2, "layers": 1, "dropout": 0.0},
                "encoder": {"class_path": "GridEncoder"},
            },
        },
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
    },
    "selector": {"class_path": "FixedSchedule", "init_args": {"tasks": {"GoToObjS4": 6}}},
    "retention": {"class_path": "NoRetention"},
    "data": {"steps_per_round": 80, "batch_size": 16, "evaluation_episodes": 2},
    "active": {"budget": 6, "batch_size": 6},
    "reports": {"animation": False},
    "trainer": {"enable_progress_bar": False},
}


def test_the_bot_is_imitated_from_scratch_and_then_asked_by_information_gain(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(RUN))
    outcome = amf("fit", "--config=run.yaml", "--trainer.default_root_dir=start", cwd=tmp_path)
    assert outcome.code == 0, outcome.said
    start = RunFolder(tmp_path / "start")
    demonstrations = [DemonstrationStore(start.demonstrations).read(number) for number in range(6)]
    assert all(shown.success and shown.task == "GoToObjS4" for shown in demonstrations)
    rows = steps_of(demonstrations, BabyAI(LEVELS, reference=None))
    chosen = load_policy(str(start.policy)).make().eval().act(rows).argmax(dim=1)
    assert float((chosen == rows.shown_actions.argmax(dim=1)).float().mean()) > 0.9

    options = ["--model.pretrained=start/policy.safetensors", "--selector=configs/selection/information-gain.yaml"]
    options += ["--retention=configs/retention/distillation.yaml", "--active.budget=2", "--active.batch_size=1"]
    outcome = amf("fit", "--config=run.yaml", *options, "--trainer.default_root_dir=on", cwd=tmp_path)
    assert outcome.code == 0, outcome.said
    requests = [json.loads(line) for line in RunFolder(tmp_path / "on").selections.read_text().splitlines()]
    assert [request["selector"] for request in requests] == ["InformationGain"] * 2
    assert all(len(request["scores"]) == 2 and min(request["scores"]) > 0 for request in requests)


@pytest.mark.parametrize("policy", ["CategoricalMLPPolicy", "MLPPolicy"])
def test_a_policy_that_cannot_read_tiles_is_refused(policy: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**RUN, "model": {"policy": {"class_path": policy}}}))
    outcome = amf("fit", "--config=run.yaml", "--trainer.default_root_dir=run", cwd=tmp_path)
    assert outcome.code == 2 and f"{policy} reads one vector, 'state', but" in outcome.stderr, outcome.said
