"""The command line as people meet it, with real runs in the tiny world."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from amf_process import amf, fresh, tree, write_config

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.command_line.main import COMMANDS, main
from tiny import TinySuite


def printed(*arguments: str, cwd: Path) -> dict[str, Any]:
    """The resolved configuration of `amf fit` with these arguments."""
    outcome = amf("fit", *arguments, "--print_config", cwd=cwd)
    assert outcome.code == 0, outcome.said
    config: dict[str, Any] = yaml.safe_load(outcome.stdout)
    return config


def fit(*arguments: str, cwd: Path) -> str:
    outcome = amf("fit", "--config=tiny.yaml", *arguments, cwd=cwd)
    assert outcome.code == 0, outcome.said
    return outcome.stdout


# -- what is offered -------------------------------------------------------------------------------------------------


def test_help_lists_what_is_offered(tmp_path: Path) -> None:
    outcome = fresh("--help", cwd=tmp_path)
    assert outcome.code == 0 and outcome.stdout.startswith("usage: amf ")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", outcome.stdout, re.MULTILINE), command
    assert not re.search(r"\b(test|predict)\b", outcome.stdout)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("name", ["test", "predict"])
def test_what_would_make_no_sense_is_not_offered(tmp_path: Path, name: str) -> None:
    write_config(tmp_path)
    outcome = amf(name, "--config", "tiny.yaml", cwd=tmp_path)
    assert outcome.code == 2 and "Give one of fit, validate, compare" in outcome.stderr


def test_help_of_a_run_explains_its_keys(tmp_path: Path) -> None:
    text = amf("fit", "--help", cwd=tmp_path).stdout
    for key in ("--suite", "--expert", "--selector", "--retention", "--active.budget", "--active.batch_size"):
        assert f"{key} " in text, key
    for key in ("--data.steps_per_round", "--model.pretrained", "--reports.animation", "--trainer.devices"):
        assert f"{key} " in text, key


def test_the_installed_command_is_this_one() -> None:
    (script,) = entry_points(group="console_scripts", name="amf")
    assert script.load() is main


def test_the_installed_command_finds_a_class_in_the_working_folder(tmp_path: Path) -> None:
    """It is started from another folder than `python -m`, and Python puts that one into its path."""
    (tmp_path / "mine.py").write_text(
        "from amf_lightning.suites.halfcheetah import HalfCheetahVelocity\n"
        "class Backwards(HalfCheetahVelocity):\n"
        "    def __init__(self, speed: int = 1):\n"
        "        super().__init__(targets=[-speed, -2 * speed])\n"
    )
    script = Path(sys.executable).with_name("amf")
    command = [str(script), "fit", "--suite=mine.Backwards", "--suite.speed=3", "--print_config"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["suite"] == {"class_path": "mine.Backwards", "init_args": {"speed": 3}}


# -- configurations --------------------------------------------------------------------------------------------------


def test_a_printed_configuration_says_all_and_can_be_used_again(tmp_path: Path) -> None:
    write_config(tmp_path)
    first = printed("--config=tiny.yaml", "--active.budget=3", "--selector=InformationGain", cwd=tmp_path)
    assert first["active"] == {"budget": 3, "batch_size": 1, "stop": None}
    assert first["selector"]["init_args"]["occupancy"]["class_path"].endswith(".PolicyRollout")
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(first))
    assert printed("--config=printed.yaml", cwd=tmp_path) == first


def test_the_configuration_in_a_run_folder_repeats_the_run(tmp_path: Path) -> None:
    write_config(tmp_path)
    fit("--trainer.default_root_dir=first", cwd=tmp_path)
    again = amf("fit", "--config=first/config.yaml", "--trainer.default_root_dir=second", cwd=tmp_path)
    assert again.code == 0, again.said
    for name in ("selections.jsonl", "curve.csv", "policy.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    continued = amf("fit", "--config=first/config.yaml", cwd=tmp_path)  # it names its own folder
    assert continued.code == 0 and "The run is in first" in continued.stdout


def test_later_files_win_and_the_command_line_last(tmp_path: Path) -> None:
    write_config(tmp_path, active={"budget": 5})
    (tmp_path / "over.yaml").write_text("active: {batch_size: 2}\nmodel: {reset_optimizer: true}")
    config = printed("--config=tiny.yaml", "--config", "over.yaml", "--active.batch_size=3", cwd=tmp_path)
    assert config["active"] == {"budget": 5, "batch_size": 3, "stop": None}
    assert config["model"]["reset_optimizer"] is True
    assert config["model"]["policy"]["init_args"]["hidden"] == [8, 8]  # of the first file


def test_shipped_configurations_are_found_in_any_folder(tmp_path: Path) -> None:
    config = printed("--config=configs/halfcheetah.yaml", cwd=tmp_path)
    assert config == printed("--config", "configs/halfcheetah.yaml", cwd=tmp_path)
    assert config["suite"]["class_path"].endswith("HalfCheetahVelocity") and config["active"]["budget"] == 20


# -- folders and seeds -----------------------------------------------------------------------------------------------


def test_the_run_folder_is_named_after_configuration_selector_and_seed(tmp_path: Path) -> None:
    write_config(tmp_path)
    write_config(tmp_path, "other", selector={"class_path": "FixedSchedule", "init_args": {"tasks": {"goal=1": 2}}})
    said = fit("--seed_everything=7", cwd=tmp_path) + fit("--config=other.yaml", cwd=tmp_path)
    folders = ["runs/tiny/RoundRobin-seed7", "runs/other/FixedSchedule-seed0"]
    assert [str(path.parent.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("config.yaml"))] == folders[::-1]
    for folder in folders:
        assert f"The run is in {folder}; its report is {folder}/report.md" in said


def test_a_seed_decides_everything_and_is_said_in_the_evaluation(tmp_path: Path) -> None:
    write_config(tmp_path)
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        fit(f"--seed_everything={seed}", f"--trainer.default_root_dir={folder}", cwd=tmp_path)
    a, b, c = ((tmp_path / folder / "policy.safetensors").read_bytes() for folder in "abc")
    assert a == b != c
    assert json.loads((tmp_path / "c" / "evaluation.json").read_text())["seed"] == 4


def test_the_same_command_again_finds_nothing_to_do(tmp_path: Path) -> None:
    write_config(tmp_path)
    fit(cwd=tmp_path)
    before = tree(tmp_path)
    fit(cwd=tmp_path)
    assert tree(tmp_path) == before


# -- validate --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration and its finished run, whose policy is neither hopeless nor perfect."""
    folder = tmp_path_factory.mktemp("finished")
    write_config(folder, data={"steps_per_round": 40}, active={"budget": 3})
    fit(cwd=folder)
    return folder


@pytest.mark.parametrize("file", ["checkpoints/last.ckpt", "policy.safetensors", None])
def test_validating_a_run_gives_its_last_row_again(finished: Path, tmp_path: Path, file: str | None) -> None:
    here = shutil.copytree(finished, tmp_path / "here")
    run = RunFolder(here / "runs" / "tiny" / "RoundRobin-seed0")
    rows = {row.task: row for row in run.read_curve() if row.demonstrations == 3}
    assert 0 < rows[MEAN].score < 1
    facts = json.loads(run.evaluation.read_text())
    run.curve.unlink()
    run.evaluation.unlink()
    before = tree(run.path)
    options = () if file is None else (f"--ckpt_path={run.path / file}",)
    outcome = amf("validate", "--config=tiny.yaml", *options, cwd=here)
    assert outcome.code == 0, outcome.said
    evaluation = json.loads(run.evaluation.read_text())
    assert evaluation["demonstrations"] == 3
    numbers = {**evaluation["tasks"], MEAN: evaluation["mean"]}
    assert numbers == {
        task: {"return": row.episode_return, "success": row.success, "score": row.score, "episodes": row.episodes}
        for task, row in rows.items()
    }
    assert {name: facts[name] for name in ("demonstrations", "tasks", "mean")} == {
        name: evaluation[name] for name in ("demonstrations", "tasks", "mean")
    }
    for task in TinySuite().tasks:
        (line,) = [line for line in outcome.stdout.splitlines() if f" {task.name} " in line]
        assert f"{rows[task.name].score:.3f}" in line
    assert tree(run.path).keys() - before.keys() == {"evaluation.json"}, "nothing else is written"
    assert not [path for path in here.rglob("*") if path.is_dir() and path.name.startswith("validate")]


def test_facts_of_the_run_survive_its_validation(finished: Path, tmp_path: Path) -> None:
    here = shutil.copytree(finished, tmp_path / "here")
    run = RunFolder(here / "runs" / "tiny" / "RoundRobin-seed0")
    before = run.read_facts()
    assert amf("validate", "--config=tiny.yaml", f"--ckpt_path={run.policy}", cwd=here).code == 0
    after = run.read_facts()
    assert after.pop("evaluated") == str(run.policy) and after == before


def test_weights_of_no_run_are_validated_in_a_folder_of_their_own(finished: Path, tmp_path: Path) -> None:
    here = shutil.copytree(finished, tmp_path / "here")
    run = RunFolder(here / "runs" / "tiny" / "RoundRobin-seed0")
    shutil.copy(run.policy, here / "mine.safetensors")
    before = tree(run.path)
    assert amf("validate", "--config=tiny.yaml", "--ckpt_path=mine.safetensors", cwd=here).code == 0
    evaluation = json.loads((here / "runs" / "tiny" / "validate-mine" / "evaluation.json").read_text())
    assert evaluation["mean"] == json.loads(run.evaluation.read_text())["mean"]
    assert tree(run.path) == before


def test_a_policy_can_be_validated_on_other_episodes(finished: Path, tmp_path: Path) -> None:
    here = shutil.copytree(finished, tmp_path / "here")
    run = RunFolder(here / "runs" / "tiny" / "RoundRobin-seed0")
    options = (f"--ckpt_path={run.policy}", "--trainer.default_root_dir=elsewhere", "--data.evaluation_episodes=9")
    assert amf("validate", "--config=tiny.yaml", *options, cwd=here).code == 0
    more = json.loads((here / "elsewhere" / "evaluation.json").read_text())
    assert more["mean"]["return"] != json.loads(run.evaluation.read_text())["mean"]["return"]


def test_a_run_goes_on_from_its_policy_in_another_folder(finished: Path, tmp_path: Path) -> None:
    here = shutil.copytree(finished, tmp_path / "here")
    policy = "runs/tiny/RoundRobin-seed0/policy.safetensors"
    fit(f"--model.pretrained={policy}", "--trainer.default_root_dir=next", cwd=here)
    first = [row for row in RunFolder(here / "next").read_curve() if row.demonstrations == 0]
    last = [row for row in RunFolder((here / policy).parent).read_curve() if row.demonstrations == 3]
    assert [row.score for row in first] == [row.score for row in last]
