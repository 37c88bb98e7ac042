"""Whatever part lacks whatever it needs: it is refused by name at the start, before an episode is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from drawing_policies import Noisy
from lightning import Trainer
from making import every, made
from selection_world import mlp
from tiny_runs import PRETRAINING, Run

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.learner import Learner
from amf_lightning.catalogue import resolve
from amf_lightning.configuration import merge
from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import NoEvaluation, SimulatedEpisodes
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.fine_tuning.provisions import what_is_missing
from amf_lightning.needs import Need, Part, check_needs
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.policies.provided import lacks
from amf_lightning.retention.frozen import FreezeByImportance
from amf_lightning.retention.importance import DemonstratedFisher, StoredImportance
from amf_lightning.selection.informed import InformationGain
from amf_lightning.suites.static import StaticSuite
from amf_lightning.tasks.spec import Spec
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()
KEYS = ("selector", "embedding", "occupancy", "retention", "importance", "evaluation")
PARTS = [pytest.param(key, each.values[0], id=f"{key} {each.id}") for key in KEYS for each in every(key)]


def refused(parts: Mapping[str, Part], need: Need, name: str) -> None:
    with pytest.raises(InputError, match=rf"^part[\w.\[\]]*: {name} needs .*, but it is not here\. \S+"):
        check_needs(parts, {need: "it is not here"})


@pytest.mark.parametrize(("key", "name"), PARTS)
def test_a_part_without_something_that_it_needs_is_refused_by_name(key: str, name: str) -> None:
    part = made(key, name, SUITE)
    inner = {need for component in part.components.values() for need in component.needs}
    for need in set(part.needs) - set(part.does_without) - {Need.EXPERT_ACTIONS}:
        refused({"part": part}, need, r"\w+" if need in inner else name)


@pytest.mark.parametrize("embedding", every("embedding"))
@pytest.mark.parametrize("occupancy", ["PolicyRollout", "ImportanceWeighted", "Demonstrated"])
def test_a_selector_needs_what_its_parts_need_and_they_are_named(embedding: str, occupancy: str) -> None:
    parts = made("embedding", embedding, SUITE), made("occupancy", occupancy, SUITE)
    if Need.EXPERT_ACTIONS in parts[0].needs and not parts[1].has_actions:
        pytest.skip("is refused when it is made")
    selector = InformationGain(parts[0], parts[1])
    for part in parts:
        for need in set(part.needs) - set(part.does_without) - {Need.EXPERT_ACTIONS}:
            refused({"part": selector}, need, rf"({embedding}|{occupancy})")


@pytest.mark.parametrize("importance", [StoredImportance(), DemonstratedFisher("nowhere")])
def test_a_retention_needs_what_its_importance_needs(importance: Any) -> None:
    for need in importance.needs:
        refused({"part": FreezeByImportance(0.5, importance)}, need, type(importance).__name__)


def module_of(policy: Any = None, suite: Any = SUITE, **options: Any) -> BehaviouralCloning:
    module = BehaviouralCloning(suite, policy or resolve("policy", "MLPPolicy"), **options)
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    return module


def test_every_need_can_be_missing_and_a_run_notices() -> None:
    """A need that nobody looks for would be found when it is used, after hours."""
    static = StaticSuite("static", {"state": Spec((2,))}, 1, ["a", "b"])
    noticed = set(what_is_missing(module_of(suite=static), static, NoEvaluation()))
    noticed |= set(what_is_missing(module_of(GaussianProcessPolicy), SUITE, SimulatedEpisodes()))
    noticed |= set(what_is_missing(module_of(Noisy), SUITE, SimulatedEpisodes()))
    assert noticed == set(Need) - {Need.EXPERT_ACTIONS}, "which is a matter of two parts and refused when they meet"


def test_a_loss_that_draws_in_evaluation_mode_is_no_ground_for_its_gradient() -> None:
    reason = lacks(Noisy(SUITE.observation, 1, 1), SUITE)[Need.REPEATABLE_LOSS]
    assert reason == "that of Noisy draws from torch's global generator even if `self.training` is False"
    assert Need.REPEATABLE_LOSS not in lacks(mlp(SUITE), SUITE)


def test_a_campaign_by_hand_refuses_before_it_runs_an_episode(tmp_path: Path) -> None:
    def running(*_: Any) -> Any:
        raise AssertionError("an episode was run")

    campaign = Campaign(tmp_path / "campaign", SUITE, InformationGain(), expert=TinyExpert())
    policy = mlp(SUITE).eval()
    with pytest.raises(InputError, match="LastLayerFeatures needs pre-training statistics, but the learner has no"):
        campaign.ask(1, Learner(policy, policy, rollout=running))
    assert campaign.pending == []


LATE: dict[str, tuple[dict[str, Any], str]] = {
    "statistics": (
        {"selector": {"class_path": "InformationGain"}},
        r"LastLayerFeatures needs pre-training statistics, but there is no pre-trained policy",
    ),
    "importance": (
        {
            "retention": {
                "class_path": "FreezeByImportance",
                "init_args": {"fraction": 0.5, "importance": {"class_path": "StoredImportance"}},
            }
        },
        "StoredImportance needs the importance of weights",
    ),
    "gradient steps": (
        {
            "model": {"policy": {"class_path": "GaussianProcessPolicy"}},
            "selector": {"class_path": "EnsembleDisagreement"},
        },
        "EnsembleDisagreement needs a policy that learns by gradient steps, but GaussianProcessPolicy is fitted",
    ),
    "posterior": (
        {
            "selector": {
                "class_path": "InformationGain",
                "init_args": {"embedding": {"class_path": "PolicyBelief"}},
            }
        },
        "PolicyBelief needs a policy that is a posterior itself",
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_a_run_is_refused_before_its_first_evaluation(name: str, tmp_path: Path) -> None:
    changes, message = LATE[name]
    run = Run(tmp_path / "run", merge(PRETRAINING, {"active": {"budget": 1, "batch_size": 1}, **changes}))
    assert run.finish() == 2
    assert message in run.log.read_text() and "Traceback" not in run.log.read_text()
    assert not run.path.exists()


def test_statistics_of_other_features_are_as_good_as_none(tmp_path: Path) -> None:
    start = Run(tmp_path / "start", merge(PRETRAINING, {"data": {"steps_per_round": 5}})).complete()
    options = {"hidden": (16, 16)}
    policy = resolve("policy", "MLPPolicy")
    module = module_of(lambda *made_for: policy(*made_for, **options), pretrained=str(start.folder.policy))
    assert Need.PRETRAINING_STATISTICS not in what_is_missing(module, SUITE, SimulatedEpisodes())
    with torch.no_grad():
        next(module.pretrained.parameters()).add_(1.0)
    missing = what_is_missing(module, SUITE, SimulatedEpisodes())
    assert "belong to a policy with backbone" in missing[Need.PRETRAINING_STATISTICS]
