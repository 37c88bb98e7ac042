"""What the application does with bad input, as a process: it says what is wrong in a paragraph and leaves no trace."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from amf_process import Outcome, amf, fresh, tree, write_config

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import ExitCode
from amf_lightning.fine_tuning.checkpoint_io import DurableCheckpointIO
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import save_policy
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

LONGEST = 600
INTERNALS = re.compile(r"Traceback|Parser key|subtypes|<class|NoneType|jsonargparse|\blightning\.", re.IGNORECASE)


def assert_refused(outcome: Outcome, *phrases: str) -> None:
    """An exit code above 0 and one short paragraph that says each of the phrases."""
    assert outcome.code > 0, outcome.said
    assert outcome.stderr.startswith("amf: ") and outcome.stderr.count("\n") == 1, outcome.said
    assert len(outcome.stderr) <= LONGEST and not INTERNALS.search(outcome.stderr), outcome.said
    for phrase in phrases:
        assert phrase in outcome.stderr, outcome.said


def gain(**init_args: Any) -> dict[str, Any]:
    return {"class_path": "InformationGain", "init_args": init_args}


def without_logs(folder: Path) -> dict[str, bytes | None]:
    """Everything but what Python writes whenever it is started."""
    return {name: content for name, content in tree(folder).items() if "__pycache__" not in name}


# -- what is wrong in a configuration --------------------------------------------------------------------------------

CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "rounds by hand": ({"trainer": {"max_epochs": 5}}, "trainer.max_epochs follows from active.budget, active.batch"),
    "another seed": ({"data": {"seed": 5}}, "data.seed follows from seed_everything; set that instead"),
    "clipped elsewhere": ({"model": {"gradient_clip_val": 2.0}}, "follows from trainer.gradient_clip_val"),
    "unknown key": ({"budget": 3}, "'active.budget' instead of 'budget'"),
    "unknown key in a group": ({"active": {"budgte": 3}}, "'active.budget' instead of 'active.budgte'"),
    "unknown key of the trainer": ({"trainer": {"max_epoch": 3}}, "'trainer.max_epochs' instead of"),
    "unknown option": ({"selector": gain(rhoo=1.0)}, "'rho' instead of 'rhoo'"),
    "unknown option of a part": (
        {"selector": gain(occupancy={"class_path": "PolicyRollout", "init_args": {"episode": 2}})},
        "'episodes' instead of 'episode'",
    ),
    "unknown option of the policy": (
        {"model": {"policy": {"class_path": "MLPPolicy", "init_args": {"hiden": [8]}}}},
        "'hidden' instead of 'hiden'",
    ),
    "unknown selector": ({"selector": "InformationGian"}, "(key 'selector'). Did you mean 'InformationGain'"),
    "unknown suite": ({"suite": "HalfCheetahVelocty"}, "(key 'suite'). Did you mean 'HalfCheetahVelocity'"),
    "unknown expert": ({"expert": "TrainedExprt"}, "Did you mean 'TrainedExpert'"),
    "unknown retention": ({"retention": "SelfDestillation"}, "Did you mean 'SelfDistillation'"),
    "unknown policy": ({"model": {"policy": {"class_path": "MPLPolicy"}}}, "Did you mean 'MLPPolicy'"),
    "unknown optimiser": ({"model": {"optimizer": {"class_path": "AdamWW"}}}, "Did you mean 'AdamW'"),
    "unknown embedding": ({"selector": gain(embedding="LastLayerFeature")}, "Did you mean 'LastLayerFeatures'"),
    "nothing is near": ({"selector": "Zzz"}, "Give one of EnsembleDisagreement, FixedSchedule"),
    "class of another kind": ({"selector": "NoRetention"}, "'NoRetention' is no Selector (key 'selector')"),
    "class that is no part": ({"selector": "os.path.join"}, "'os.path.join' is no Selector"),
    "module that is missing": ({"selector": "nowhere.Mine"}, "There is no class 'nowhere.Mine'"),
    "class missing in its module": ({"suite": "tiny.TinierSuite"}, "Did you mean 'TinySuite'"),
    "wrong type": ({"data": {"batch_size": "many"}}, "data.batch_size: expected int, got 'many'"),
    "wrong type of an option": (
        {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": 7}}},
        "tasks: expected list[str], dict[str, int], got '7'",
    ),
    "budget of 0": ({"active": {"budget": 0}}, "active.budget is 0; it is the number of demonstrations in all"),
    "negative budget": ({"active": {"budget": -3}}, "active.budget is -3"),
    "batch above the budget": (
        {"active": {"batch_size": 3}},
        "active.batch_size is 3; it must lie between 1 and the budget, which is 2",
    ),
    "batch of 0": ({"active": {"batch_size": 0}}, "active.batch_size is 0"),
    "seed left to chance": ({"seed_everything": True}, "seed_everything is True; give a number"),
    "no step": ({"data": {"steps_per_round": 0}}, "data.steps_per_round is 0"),
    "no thread": ({"threads": 0}, "threads is 0"),
    "shards that do not come out": (
        {"trainer": {"accumulate_grad_batches": 3}},
        "batch_size 8 cannot be cut into 3 equal shards",
    ),
    "optimiser that cannot be made": (
        {"model": {"optimizer": {"class_path": "AdamW", "init_args": {"lr": -1.0}}}},
        "model.optimizer cannot be made: Invalid learning rate",
    ),
    "task that is missing": (
        {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": ["goal=1", "goal=-0.6"]}}},
        "Suite 'tiny' has no task 'goal=-0.6'. Did you mean 'goal=-0.5'?",
    ),
    "schedule that is too short": (
        {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": {"goal=1": 1}}}},
        "names 1 demonstrations, but 2 are asked for",
    ),
    "parts that do not go together": (
        {"selector": gain(embedding="LossGradient", occupancy="PolicyRollout")},
        "Use ImportanceWeighted, or LastLayerFeatures",
    ),
    "shipped weights that are missing": (
        {"model": {"pretrained": "halfcheetah/exprt"}},
        "Did you mean 'halfcheetah/expert'?",
    ),
}


@pytest.mark.parametrize(("changes", "phrase"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_bad_configuration_is_refused(tmp_path: Path, changes: dict[str, Any], phrase: str) -> None:
    write_config(tmp_path, **changes)
    before = tree(tmp_path)
    assert_refused(amf("fit", "--config", "tiny.yaml", cwd=tmp_path), phrase)
    assert tree(tmp_path) == before


# -- what is wrong on the command line -------------------------------------------------------------------------------

FILES = {
    "not_yaml.yaml": b"suite: [tiny\nexpert: 2",
    "binary.yaml": bytes(range(256)),
    "list.yaml": b"- suite\n- expert\n",
    "empty.yaml": b"",
    "itself.yaml": b"config: itself.yaml",
    "without_base.yaml": b"config: nowhere.yaml",
    "budget_of_0.yaml": b"active: {budget: 0}",
}
COMMANDS: dict[str, tuple[str, str]] = {
    "unknown flag": ("fit --config tiny.yaml --active.budgte 2", "'active.budget' instead of 'active.budgte'"),
    "unknown flag with =": ("fit --config tiny.yaml --active.budgte=2", "'active.budget' instead of"),
    "abbreviated flag": ("fit --config tiny.yaml --active.budg 2", "'active.budget' instead of 'active.budg'"),
    "abbreviated flag of Lightning": ("fit --config tiny.yaml --trainer.max_epoch 2", "'trainer.max_epochs'"),
    "abbreviated --config": ("fit --conf tiny.yaml", "'config' instead of 'conf'"),
    "unknown option of a class": ("fit --config tiny.yaml --selector InformationGain --selector.rhoo 1", "'rho'"),
    "unknown class": ("fit --config tiny.yaml --selector Unifrom", "Did you mean 'Uniform'"),
    "second file": ("fit --config tiny.yaml --config budget_of_0.yaml", "active.budget is 0"),
    "second file missing": ("fit --config tiny.yaml --config nowhere.yaml", "There is no configuration nowhere.yaml"),
    "missing file": ("fit --config=halfcheeta.yaml", "Did you mean configs/halfcheetah.yaml?"),
    "a folder": ("fit --config .", "There is no configuration ."),
    "no value": ("fit --config", "expected one argument"),
    "not YAML": ("fit --config not_yaml.yaml", "not_yaml.yaml is not valid YAML"),
    "binary": ("fit --config binary.yaml", "binary.yaml is not valid YAML"),
    "a list": ("fit --config list.yaml", "list.yaml must hold a mapping of keys to values"),
    "empty": ("fit --config empty.yaml", "empty.yaml must hold a mapping"),
    "includes itself": ("fit --config itself.yaml", "itself.yaml includes itself"),
    "base missing": ("fit --config without_base.yaml", "nowhere.yaml"),
    "nothing said": ("fit", "The key 'suite' is missing. Start from a shipped file"),
    "no subcommand": ("", "one of fit, validate, compare"),
    "unknown subcommand": ("fti --config tiny.yaml", "Did you mean 'fit'"),
    "config before the subcommand": ("--config tiny.yaml fit", "amf fit --config FILE"),
    "rounds set by hand": ("fit --config tiny.yaml --trainer.max_epochs 7", "trainer.max_epochs follows from active.b"),
    "no device": ("fit --config tiny.yaml --trainer.devices 0", "is not a valid input"),
    "run folder is a file": (
        "fit --config tiny.yaml --trainer.default_root_dir empty.yaml",
        "a file is where a folder belongs",
    ),
    "run folder below a file": (
        "fit --config tiny.yaml --trainer.default_root_dir empty.yaml/x",
        "choose another folder",
    ),
    "validate before fit": ("validate --config tiny.yaml", "There is no checkpoint runs/tiny/RoundRobin-seed0"),
    "compare without a file": ("compare --config nowhere.yaml --output out --seeds 0:1", "There is no configuration"),
    "compare what is no comparison": ("compare --config tiny.yaml --output out --seeds 0:1", "unknown key 'suite'"),
}


@pytest.mark.parametrize(("command", "phrase"), COMMANDS.values(), ids=COMMANDS)
def test_a_bad_command_is_refused(tmp_path: Path, command: str, phrase: str) -> None:
    write_config(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    before = tree(tmp_path)
    assert_refused(amf(*command.split(), cwd=tmp_path), phrase)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "offence",
    [
        "--active.budget=0",
        pytest.param("--active.budgte=3", marks=pytest.mark.slow),
        pytest.param("--ckpt_path=none.ckpt", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_nobody_prepared_does_the_same(tmp_path: Path, offence: str) -> None:
    write_config(tmp_path)
    before = tree(tmp_path)
    assert_refused(fresh("fit", "--config", "tiny.yaml", offence, cwd=tmp_path))
    assert tree(tmp_path) == before


# -- checkpoints and policies that cannot be used --------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and its finished run."""
    folder = tmp_path_factory.mktemp("finished")
    write_config(folder)
    outcome = amf("fit", "--config", "tiny.yaml", "--trainer.default_root_dir", "run", cwd=folder)
    assert outcome.code == 0, outcome.said
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished` that a test may damage."""
    return shutil.copytree(finished, tmp_path / "here")


def removed(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def random_bytes(path: Path) -> None:
    path.write_bytes(Random(0).randbytes(5000))


def of_another_suite(path: Path) -> None:
    _replace(path, HalfCheetahVelocity(), [8, 8])


def of_other_shapes(path: Path) -> None:
    _replace(path, TinySuite(), [8, 9])


def _replace(path: Path, suite: TaskSuite, hidden: list[int]) -> None:
    """Puts a whole file of the same kind in its place, of that suite and of a policy with these layers."""
    signature = suite.signature()
    policy = MLPPolicy(suite.observation_dim, suite.context_dim, suite.action_dim, hidden)
    if path.suffix == ".safetensors":
        save_policy(path, policy, signature, None, {})
    else:
        checkpoint = torch.load(path, weights_only=True)
        tensors = {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
        DurableCheckpointIO().save_checkpoint({**checkpoint, "suite": signature, "state_dict": tensors}, path)


DAMAGES: dict[Callable[[Path], None], str] = {
    removed: "no",
    truncated: "truncated or not",
    emptied: "truncated or not",
    random_bytes: "truncated or not",
    of_another_suite: "belongs to another suite",
    of_other_shapes: "does not fit the configured",
}
USES = {
    "fit from a checkpoint": ("fit", "--ckpt_path=run/checkpoints/last.ckpt"),
    "validate a checkpoint": ("validate", "--ckpt_path=run/checkpoints/last.ckpt"),
    "validate a policy": ("validate", "--ckpt_path=run/policy.safetensors"),
    "pre-trained policy": ("fit", "--model.pretrained=run/policy.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(("command", "option"), USES.values(), ids=USES)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    here: Path, command: str, option: str, damage: Callable[[Path], None]
) -> None:
    name = option.rpartition("=")[2]
    damage(here / name)
    before = tree(here)
    assert_refused(amf(command, "--config", "tiny.yaml", option, cwd=here), Path(name).name, DAMAGES[damage])
    assert tree(here) == before


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not removed], ids=lambda d: d.__name__)
def test_a_run_with_a_damaged_checkpoint_is_not_continued(here: Path, damage: Callable[[Path], None]) -> None:
    damage(here / "run" / "checkpoints" / "last.ckpt")
    before = tree(here)
    outcome = amf("fit", "--config", "tiny.yaml", "--trainer.default_root_dir=run", "--active.budget=3", cwd=here)
    assert_refused(outcome, "run/checkpoints/last.ckpt", DAMAGES[damage])
    assert tree(here) == before


@pytest.mark.parametrize("file", ["demonstrations/000001.safetensors", "ledger.sqlite"])
@pytest.mark.parametrize("damage", [truncated, random_bytes], ids=lambda damage: damage.__name__)
def test_a_run_with_damaged_data_is_not_continued(here: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(here / "run" / file)
    before = tree(here)
    assert_refused(amf("fit", "--config", "tiny.yaml", "--trainer.default_root_dir=run", cwd=here), Path(file).name)
    assert tree(here) == before


def test_a_checkpoint_does_not_start_a_run_in_another_folder(here: Path) -> None:
    """The demonstrations that it was trained on are not there."""
    before = tree(here)
    outcome = amf("fit", "--config=tiny.yaml", "--active.budget=3", *USES["fit from a checkpoint"][1:], cwd=here)
    assert_refused(outcome, "made after 2 demonstrations", "set model.pretrained to its policy.safetensors")
    assert tree(here) == before


def test_a_safetensors_file_of_something_else_is_no_policy(here: Path) -> None:
    shutil.copy(here / "run" / "demonstrations" / "000000.safetensors", here / "mine.safetensors")
    before = tree(here)
    outcome = amf("fit", "--config", "tiny.yaml", "--model.pretrained=mine.safetensors", cwd=here)
    assert_refused(outcome, "mine.safetensors is a safetensors file but not a policy")
    assert tree(here) == before


# -- whose folder it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "difference"),
    [
        ("--active.batch_size=2", "active.batch_size is 1 there and 2 here"),
        ("--seed_everything=1", "seed_everything is 0 there and 1 here"),
        ("--selector=Uniform", "selector.class_path is 'amf_lightning.selection.baselines.RoundRobin' there"),
        ("--suite.horizon=11", "suite.init_args.horizon is 12 there and 11 here"),
        ("--model.pretrained=run/policy.safetensors", "model.pretrained is None there"),
    ],
)
def test_a_folder_of_another_configuration_is_refused(here: Path, option: str, difference: str) -> None:
    before = tree(here)
    outcome = amf("fit", "--config", "tiny.yaml", "--trainer.default_root_dir=run", option, cwd=here)
    assert_refused(outcome, "run holds a run of another configuration", difference, "--trainer.default_root_dir")
    assert tree(here) == before


def test_trainer_budget_and_reports_may_change(here: Path) -> None:
    options = ("--trainer.log_every_n_steps=2", "--active.budget=3", "--reports.animation=true")
    outcome = amf("fit", "--config", "tiny.yaml", "--trainer.default_root_dir=run", *options, cwd=here)
    assert outcome.code == 0, outcome.said
    assert RunFolder(here / "run").finished(3)


@pytest.mark.parametrize("file", ["curve.csv", "policy.safetensors"])
def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path, file: str) -> None:
    write_config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / file).write_text("mine")
    before = tree(tmp_path)
    assert_refused(amf("fit", "--config=tiny.yaml", "--trainer.default_root_dir=run", cwd=tmp_path), file)
    assert tree(tmp_path) == before


# -- what shows only when things run ---------------------------------------------------------------------------------

PARTS = """
from pathlib import Path

import numpy as np

from amf_lightning.errors import InputError
from amf_lightning.tasks.trajectory import Trajectory
from tiny import PointEnv, TinyExpert, TinySuite, _Still


class BlindEnv(PointEnv):
    def step(self, action):
        observation, *rest = super().step(action)
        blind = self.steps == 4 and abs(self.x - self.goal) < 1e-3  # where nobody comes who was shown nothing
        return observation * (np.nan if blind and not Path("mended").exists() else 1.0), *rest


class BlindSuite(TinySuite):
    def make(self, task, render_mode=None):
        return BlindEnv(self.horizon)


class BornBlindEnv(PointEnv):
    def reset(self, **options):
        observation, info = super().reset(**options)
        return observation * np.nan, info


class BornBlindSuite(TinySuite):
    def make(self, task, render_mode=None):
        return BornBlindEnv(self.horizon)


class AbsentExpert(TinyExpert):
    def demonstrate(self, suite, episodes, on_step=None):
        raise InputError(f"Please record {episodes[0].task.name}")


class NaNExpert(TinyExpert):
    def demonstrate(self, suite, episodes, on_step=None):
        return [Trajectory(np.zeros((12, 2)), np.full((12, 1), np.nan), None, each.task.name) for each in episodes]


class MoodyExpert(TinyExpert):
    def actor(self, suite):
        return _Still() if Path("tired").exists() else super().actor(suite)
"""

SHOWN_LATE: dict[str, tuple[dict[str, Any], str]] = {
    "NaN in a first observation": ({"suite": "parts.BornBlindSuite"}, "after reset is not finite"),
    "NaN in an action of the policy": ({"model": {"pretrained": "nan.safetensors"}}, "the action is not finite"),
}
SHOWN_WHEN_ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "NaN in an action of the expert": ({"expert": "tiny.BrokenExpert"}, "step 0: the action is not finite"),
    "expert that never succeeds": (
        {"expert": {"class_path": "tiny.HopelessExpert", "init_args": {"max_attempts": 2}}},
        "did not succeed at task 'goal=-0.5' of suite 'tiny' in 2 attempts",
    ),
    "expert that is not there today": ({"expert": "parts.AbsentExpert"}, "Please record goal=-0.5"),
}


def write_parts(folder: Path) -> None:
    (folder / "parts.py").write_text(PARTS)
    policy = MLPPolicy(2, 1, 1, [8, 8])
    torch.nn.init.constant_(policy.head.bias, torch.nan)
    save_policy(folder / "nan.safetensors", policy, TinySuite().signature(), None, {})


@pytest.mark.parametrize(("changes", "phrase"), SHOWN_LATE.values(), ids=SHOWN_LATE)
def test_a_new_run_that_fails_before_its_first_request_leaves_no_trace(
    tmp_path: Path, changes: dict[str, Any], phrase: str
) -> None:
    write_parts(tmp_path)
    write_config(tmp_path, **changes)
    before = without_logs(tmp_path)
    assert_refused(amf("fit", "--config", "tiny.yaml", cwd=tmp_path), phrase)
    assert without_logs(tmp_path) == before


@pytest.mark.parametrize(("changes", "phrase"), SHOWN_WHEN_ASKED.values(), ids=SHOWN_WHEN_ASKED)
def test_what_was_asked_stays_and_the_corrected_command_has_it_answered(
    tmp_path: Path, changes: dict[str, Any], phrase: str
) -> None:
    write_parts(tmp_path)
    write_config(tmp_path, **changes)
    (run := tmp_path / "run").mkdir()
    (run / "notes.txt").write_text("mine")
    command = ("fit", "--config=tiny.yaml", "--trainer.default_root_dir=run")
    assert_refused(amf(*command, cwd=tmp_path), phrase)
    asked, before = Campaign(run).pending, tree(run)
    assert [request.demonstration for request in asked] == [0]
    assert_refused(amf(*command, cwd=tmp_path), phrase)
    assert tree(run) == before, "asking again changes nothing, TensorBoard's files included"
    corrected = amf(*command, "--expert=tiny.TinyExpert", cwd=tmp_path)
    assert corrected.code == 0, corrected.said
    assert RunFolder(run).read_selections()[:1] == asked
    assert (run / "notes.txt").read_text() == "mine" and RunFolder(run).finished(2)
    assert_refused(amf(*command, cwd=tmp_path), "holds a run of another configuration: expert")


@pytest.mark.parametrize(
    ("expert", "code", "phrase"),
    [
        ("tiny.BrokenExpert", ExitCode.USER_CODE, "the action is not finite (NaN or infinite) ("),
        ("parts.NaNExpert", ExitCode.USER_CODE, "NaNExpert.demonstrate made what is no demonstration ("),
        ("RecordedExpert", ExitCode.BAD_INPUT, "hold a value that is not finite"),
    ],
)
def test_a_nan_is_whose_code_or_data_it_comes_from(tmp_path: Path, expert: str, code: int, phrase: str) -> None:
    """docs/exit-codes.md: what code of the user gave is code 3, what a file holds is code 2."""
    write_parts(tmp_path)
    given: dict[str, Any] = {"class_path": expert}
    if expert == "RecordedExpert":
        made = Trajectory({"state": np.zeros((12, 2), np.float32)}, np.zeros((12, 1), np.float32), None, "goal=-1")
        made.actions[3] = np.nan  # after it was looked at
        DemonstrationStore(tmp_path / "given").write(0, made)
        given["init_args"] = {"folder": "given"}
    write_config(tmp_path, expert=given)
    outcome = amf("fit", "--config", "tiny.yaml", cwd=tmp_path)
    assert outcome.code == code and phrase in outcome.stderr and outcome.stderr.count("\n") == 1, outcome.said


def test_a_nan_that_an_expert_is_shown_is_refused_and_asked_for_again_once_that_is_mended(tmp_path: Path) -> None:
    """The episode of a learner ends at it, as a failure; a demonstration cannot."""
    write_parts(tmp_path)
    write_config(tmp_path, suite="parts.BlindSuite")
    command = ("fit", "--config=tiny.yaml", "--trainer.default_root_dir=run")
    assert_refused(amf(*command, cwd=tmp_path), "step 4: the observation is not finite")
    asked, before = Campaign(tmp_path / "run").pending, tree(tmp_path / "run")
    assert [request.demonstration for request in asked] == [0]
    assert_refused(amf(*command, cwd=tmp_path), "step 4: the observation is not finite")
    assert tree(tmp_path / "run") == before
    (tmp_path / "mended").touch()
    assert amf(*command, cwd=tmp_path).code == 0
    assert RunFolder(tmp_path / "run").read_selections()[:1] == asked


def test_a_run_that_fails_under_way_keeps_its_rounds_and_goes_on_once_that_is_mended(tmp_path: Path) -> None:
    write_parts(tmp_path)
    write_config(tmp_path, expert="parts.MoodyExpert")
    command = ("fit", "--config=tiny.yaml", "--trainer.default_root_dir")
    assert amf(*command, "reference", "--active.budget=4", cwd=tmp_path).code == 0
    assert amf(*command, "run", "--active.budget=2", cwd=tmp_path).code == 0
    before = without_logs(tmp_path / "run")
    (tmp_path / "tired").touch()
    assert_refused(amf(*command, "run", "--active.budget=4", cwd=tmp_path), "MoodyExpert did not succeed")
    after = without_logs(tmp_path / "run")
    # The picks of the round that failed were written down; all else is as it was.
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"ledger.sqlite"}
    (tmp_path / "tired").unlink()
    assert amf(*command, "run", "--active.budget=4", cwd=tmp_path).code == 0
    for name in ("selections.jsonl", "curve.csv", "policy.safetensors", "demonstrations/000003.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "reference" / name).read_bytes(), name
