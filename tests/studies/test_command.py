import csv
import gzip
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from PIL import Image
from ready_runs import PROGRAM, lay_ready

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError
from amf_lightning.studies.command import add_compare_arguments, run_compare

SELECTORS = ("Uniform", "InformationGain", "Rebalancing")


@pytest.fixture(scope="module", autouse=True)
def _ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    lay_ready(tmp_path_factory.mktemp("ready"))


def comparison(folder: Path, *selectors: str, **content: object) -> Path:
    (folder / "base.yaml").write_text("active: {budget: 4}")
    path = folder / "comparison.yaml"
    strategies = {name: {"selector": name} for name in selectors or SELECTORS}
    path.write_text(
        yaml.safe_dump(
            {"base": "base.yaml", "baseline": "Uniform", "strategies": strategies, **content}, sort_keys=False
        )
    )
    return path


def compare(config: Path, *arguments: str) -> int:
    parser = ArgumentParser()
    add_compare_arguments(parser)
    output = config.parent / "out"
    return run_compare(parser.parse_args([f"--config={config}", f"--output={output}", *arguments]), PROGRAM)


def test_a_comparison_leaves_everything_that_was_promised(tmp_path: Path) -> None:
    assert compare(comparison(tmp_path), "--seeds", "0:2", "--jobs", "2") == 0
    output = tmp_path / "out"
    assert {table.name for table in (output / "curves").iterdir()} == {"seed-0.csv.gz", "seed-1.csv.gz"}
    with gzip.open(output / "curves" / "seed-1.csv.gz", "rt") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["strategy", "seed", "demonstrations", "task", "return", "success", "score"]
    assert len(lines) == 1 + 3 * 5 * 3  # strategies, evaluations, two tasks and their mean
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary) == ["strategies", "paired", "meta"]
    assert list(summary["strategies"]) == list(SELECTORS)
    assert list(summary["paired"]) == ["InformationGain", "Rebalancing"]
    for metric in ("auc", "final", "demos_to_80", "demos_to_90", "forgetting"):
        assert len(summary["strategies"]["Uniform"][metric]["per_seed"]) == 2
    assert summary["paired"]["InformationGain"]["auc"]["lo"] > 0
    assert summary["strategies"]["Uniform"]["forgetting"]["mean"] == pytest.approx(0.2)
    for name in ("curves.png", "allocation.png"):
        assert Image.open(output / name).convert("RGB").getextrema() != ((255, 255),) * 3


def test_the_table_says_what_each_selector_uses_and_what_it_cost(tmp_path: Path) -> None:
    compare(comparison(tmp_path), "--seeds", "0:2", "--jobs", "2")
    text = (tmp_path / "out" / "summary.md").read_text()
    used = text.split("## What each selector uses")[1]
    (ours,) = [line for line in used.splitlines() if line.startswith("| InformationGain")]
    assert "simulator rollouts" in ours and " 50 " in ours  # mean of 0 and 100 steps
    (privileged,) = [line for line in used.splitlines() if line.startswith("| Rebalancing")]
    assert "pre-training counts (privileged)" in privileged
    tables = text.split("## What each selector uses")[0]
    assert tables.count("Rebalancing †") == 3 and "InformationGain †" not in tables
    assert "90 %" in text and "![Mean score against demonstrations](curves.png)" in text
    (difference,) = [
        line for line in text.split("## Difference")[1].splitlines() if "InformationGain" in line and "▲" in line
    ]
    assert "+" in difference


def test_one_seed_is_not_taken_for_evidence(tmp_path: Path) -> None:
    compare(comparison(tmp_path, "Uniform", "InformationGain"), "--seeds", "0:1")
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "fewer than 5 seeds" in text
    assert not {"▲", "▼"} & {*text.split("## Difference")[1].split("Strategy minus")[0]}


def test_seeds_may_stand_in_the_file_and_the_command_line_wins(tmp_path: Path) -> None:
    config = comparison(tmp_path, "Uniform", seeds="4:5")
    compare(config)
    compare(config, "--seeds", "1:10", "--array-index", "0")
    assert {path.name for path in (tmp_path / "out" / "runs" / "Uniform").iterdir() if path.is_dir()} == {
        "seed-4",
        "seed-1",
    }
    with pytest.raises(InputError, match="Give --seeds"):
        compare(comparison(tmp_path, "Uniform"))


def test_a_failed_run_is_told_the_rest_is_summarised_and_the_exit_code_is_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(comparison(tmp_path, "Uniform", "Fails"), "--seeds", "0:1") == 1
    assert "no expert anywhere" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert list(summary["strategies"]) == ["Uniform"] and summary["meta"]["missing"] == ["Fails seed 0"]
    assert summary["meta"]["failed"] == {"Fails": [0]}
    assert "**1 run failed:** Fails seed 0." in (tmp_path / "out" / "summary.md").read_text()


def test_a_failure_is_remembered_until_the_run_is_finished(tmp_path: Path) -> None:
    config, out = comparison(tmp_path), tmp_path / "out"
    ready = Path(os.environ["STUB_RUNS"], "Uniform", "1")
    ready.rename(ready.with_name("away"))
    try:
        assert compare(config, "--seeds", "0:3") == 1
    finally:
        ready.with_name("away").rename(ready)
    for _ in range(2):  # also on a machine that has only what is committed
        assert "**1 run failed:** Uniform seed 1." in (out / "summary.md").read_text()
        summary = json.loads((out / "summary.json").read_text())
        assert summary["strategies"]["Uniform"]["final"]["mean"] is None
        assert summary["paired"]["InformationGain"]["auc"]["mean"] is None
        shutil.rmtree(out / "runs", ignore_errors=True)
        assert compare(config, "--from-curves") == 0
    assert compare(config, "--seeds", "0:3") == 0
    assert began(out) == ["runs/Uniform/seed-1"]
    assert "failed" not in (out / "summary.md").read_text() + (out / "runs.jsonl").read_text()


def test_pre_training_on_other_tasks_with_each_seed_is_noticed_before_any_run(tmp_path: Path) -> None:
    """The stub's selections alternate with `Uniform`; here one seed has seen one task only."""
    config, out = comparison(tmp_path, "Uniform", "InformationGain", pretrain="pretrain.yaml"), tmp_path / "out"
    (tmp_path / "pretrain.yaml").write_text("active: {budget: 4}\nselector: Uniform\n")
    ready = RunFolder(Path(os.environ["STUB_RUNS"], "FromBase", "1"))
    jobs = ready.read_selections()
    ready.write_selections([replace(job, task="slow", task_index=0) for job in jobs])
    try:
        with pytest.raises(InputError, match=r"different tasks: with seed 0 fast, slow, with seed 1 slow\b.*Fixed"):
            compare(config, "--seeds", "0:3", "--jobs", "2")
        assert began(out) == [f"pretrained/seed-{seed}" for seed in range(3)], "no run has begun"
        with pytest.raises(InputError, match="different tasks"):
            compare(config, "--seeds", "0:3")
    finally:
        ready.write_selections(jobs)
    assert began(out) == [f"pretrained/seed-{seed}" for seed in range(3)]


def test_when_the_baseline_fails_no_summary_is_made_up(tmp_path: Path) -> None:
    assert compare(comparison(tmp_path, "Fails", "Uniform", baseline="Fails"), "--seeds", "0:1") == 1
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_dry_run_prints_commands_that_work_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = comparison(tmp_path, "Uniform", "InformationGain", pretrain="base.yaml")
    assert compare(config, "--seeds", "0:2", "--dry-run") == 0
    assert not (tmp_path / "out").exists()
    commands = capsys.readouterr().out.splitlines()
    folders = [re.search(r"out/(\S+)", command.partition("default_root_dir=")[2]) for command in commands]
    runs = ["pretrained/seed-{}", "runs/Uniform/seed-{}", "runs/InformationGain/seed-{}"]
    assert [found and found[1] for found in folders] == [run.format(seed) for seed in (0, 1) for run in runs]
    assert all(shlex.split(command)[1 : 1 + len(PROGRAM)] == list(PROGRAM) for command in commands)
    for command in commands:
        subprocess.run(command, shell=True, check=True)
    assert compare(config, "--seeds", "0:2") == 0
    assert not list((tmp_path / "out").rglob("*.log"))  # nothing was left to run
    capsys.readouterr()
    assert compare(config, "--seeds", "0:2", "--dry-run") == 0
    assert capsys.readouterr().out == ""


def test_every_strategy_of_a_seed_starts_from_the_policy_made_for_that_seed(tmp_path: Path) -> None:
    config = comparison(tmp_path, "Uniform", "InformationGain", pretrain="base.yaml")
    assert compare(config, "--seeds", "3:5", "--jobs", "2") == 0
    for seed in (3, 4):
        assert (tmp_path / "out" / "pretrained" / f"seed-{seed}" / "policy.safetensors").is_file()


def test_without_its_pre_trained_policy_a_seed_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = comparison(tmp_path, "Uniform", pretrain="broken.yaml")
    (tmp_path / "broken.yaml").write_text("active: {budget: 99}")  # the stub makes 4
    assert compare(config, "--seeds", "0:1") == 1
    assert "want of a pre-trained policy: Uniform seed 0" in capsys.readouterr().out
    assert not (tmp_path / "out" / "runs").exists()


def test_an_array_runs_one_pair_each_and_the_last_one_summarises(tmp_path: Path) -> None:
    config = comparison(tmp_path, "Uniform", "InformationGain", pretrain="base.yaml")
    summary = tmp_path / "out" / "summary.json"
    for index in range(4):
        assert not summary.exists()
        assert not (tmp_path / "out" / "curves").exists()
        assert compare(config, "--seeds", "0:2", "--array-index", str(index)) == 0
        runs = [path for path in (tmp_path / "out" / "runs").glob("*/seed-?") if path.is_dir()]
        assert len(runs) == index + 1
        assert len({run.name for run in runs}) == 1 + index // 2  # all strategies of the first seed first
    assert json.loads(summary.read_text())["meta"]["seeds"] == {"Uniform": [0, 1], "InformationGain": [0, 1]}
    with pytest.raises(InputError, match="between 0 and 3"):
        compare(config, "--seeds", "0:2", "--array-index", "4")


def test_two_array_jobs_that_need_the_same_policy_may_start_at_once(tmp_path: Path) -> None:
    config = comparison(tmp_path, "Uniform", "InformationGain", pretrain="base.yaml")
    indices = [("--seeds", "0:1", "--array-index", str(index)) for index in range(2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(compare, [(config, *arguments) for arguments in indices]) == [0, 0]
    assert [path.name for path in (tmp_path / "out" / "pretrained").iterdir() if path.is_dir()] == ["seed-0"]
    assert compare(config, "--seeds", "0:1") == 0


def test_a_second_comparison_of_other_settings_does_not_take_over_the_runs(tmp_path: Path) -> None:
    compare(comparison(tmp_path, "Uniform"), "--seeds", "0:1")
    (tmp_path / "other.yaml").write_text("active: {budget: 4}\nmodel: {learning_rate: 1.0}")
    with pytest.raises(InputError, match=r"model\.learning_rate"):
        compare(comparison(tmp_path, "Uniform", base="other.yaml"), "--seeds", "0:1")


def test_the_summary_can_be_made_again_from_the_rows_alone(tmp_path: Path) -> None:
    config = comparison(tmp_path)
    compare(config, "--seeds", "0:2", "--jobs", "2")
    output = tmp_path / "out"
    names = ("summary.json", "summary.md", "curves.png", "allocation.png")
    before = {name: (output / name).read_bytes() for name in names}
    for folder in output.glob("runs"):
        folder.rename(tmp_path / "gone")
    for name in names[1:]:
        (output / name).unlink()
    assert compare(config, "--from-curves") == 0
    assert {name: (output / name).read_bytes() for name in names} == before
    (output / "summary.json").unlink()
    assert compare(config, "--from-curves") == 0
    again, first = json.loads((output / "summary.json").read_text()), json.loads(before["summary.json"])
    assert again["strategies"]["InformationGain"]["auc"] == first["strategies"]["InformationGain"]["auc"]
    assert again["paired"]["InformationGain"]["demos_to_80"] == first["paired"]["InformationGain"]["demos_to_80"]


@pytest.mark.parametrize("arguments", [("--jobs", "0"), ("--seeds", "2:1")])
def test_arguments_that_make_no_sense_are_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        compare(comparison(tmp_path), *(("--seeds", "0:1") if "--jobs" in arguments else ()), *arguments)


# -- going on from committed files ----------------------------------------------------------------------------------

COMMITTED = {
    "curves/seed-0.csv.gz",
    "curves/seed-1.csv.gz",
    "runs.jsonl",
    "summary.json",
    "summary.md",
    "curves.png",
    "allocation.png",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def curves(folder: Path) -> dict[str, bytes]:
    return contents(folder / "curves")


def began(runs: Path) -> list[str]:
    """The run folders in which a process was started, e.g. `runs/Uniform/seed-0`."""
    return sorted(path.relative_to(runs).with_suffix("").as_posix() for path in runs.glob("**/*.calls"))


def test_another_machine_goes_on_with_what_was_committed(tmp_path: Path) -> None:
    config, out = comparison(tmp_path, "Uniform", "InformationGain", pretrain="base.yaml"), tmp_path / "out"
    assert compare(config, "--seeds", "0:2", "--runs", str(tmp_path / "here"), "--jobs", "2") == 0
    first = contents(out)
    assert first.keys() == COMMITTED
    assert compare(config, "--seeds", "0:2", "--runs", str(tmp_path / "there")) == 0
    assert not (tmp_path / "there").exists(), "neither a run nor a pre-training is missing"
    assert contents(out) == first, "the summary of the rows is that of the run folders"
    for name in ("summary.json", "summary.md"):
        (out / name).unlink()
    assert compare(config, "--from-curves") == 0
    assert contents(out) == first
    assert compare(config, "--seeds", "1:3", "--runs", str(tmp_path / "there"), "--jobs", "2") == 0
    runs = ["pretrained/seed-2", "runs/InformationGain/seed-2", "runs/Uniform/seed-2"]
    assert began(tmp_path / "there") == runs
    summary = json.loads((out / "summary.json").read_text())
    assert summary["meta"]["seeds"] == {"Uniform": [0, 1, 2], "InformationGain": [0, 1, 2]}
    assert summary["meta"]["seconds"]["Uniform"] > 0 and "seconds a run" in (out / "summary.md").read_text()
    config.parent.joinpath("out").rename(tmp_path / "old")
    assert compare(config, "--seeds", "0:3", "--jobs", "2") == 0  # all on one machine
    assert curves(out) == curves(tmp_path / "old")


def test_a_study_that_is_killed_keeps_what_it_did(tmp_path: Path) -> None:
    slow = {"selector": "Uniform", "model.delay": 300}
    config = comparison(tmp_path, strategies={"Uniform": {"selector": "Uniform"}, "slow": slow})
    process = multiprocessing.get_context("fork").Process(target=compare, args=(config, "--seeds", "0:1"))
    process.start()
    calls = tmp_path / "out" / "runs" / "slow" / "seed-0.calls"
    while not (calls.exists() and calls.read_text()):
        assert process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    os.kill(json.loads(calls.read_text())["pid"], signal.SIGKILL)
    shutil.rmtree(tmp_path / "out" / "runs")
    config = comparison(tmp_path, "Uniform")
    assert compare(config, "--seeds", "0:1") == 0
    assert began(tmp_path / "out") == []


def test_rows_of_other_settings_are_refused_until_they_are_given_up(tmp_path: Path) -> None:
    config, out = comparison(tmp_path, "Uniform", pretrain="pretrain.yaml"), tmp_path / "out"
    (tmp_path / "pretrain.yaml").write_text("active: {budget: 4}\nmodel: {width: 8}")
    compare(config, "--seeds", "0:2", "--runs", str(tmp_path / "here"))
    before = contents(out)
    (tmp_path / "pretrain.yaml").write_text("active: {budget: 4}\nmodel: {width: 16}")
    there = ("--runs", str(tmp_path / "there"))
    with pytest.raises(InputError, match=r"Uniform seed 0 made with pretrain\.model\.width = 8, now it is 16.*--repl"):
        compare(config, "--seeds", "0:1", *there)
    assert contents(out) == before and not (tmp_path / "there").exists()
    assert compare(config, "--seeds", "0:1", "--replace", *there) == 0
    shared, _ = map(json.loads, (out / "runs.jsonl").read_text().splitlines())  # seed 1 had the other settings too
    assert shared["shared_settings"]["pretrain.model.width"] == 16
    assert began(tmp_path / "there") == ["pretrained/seed-0", "runs/Uniform/seed-0"]


def test_rows_from_before_runs_had_lines_are_summarised_but_not_taken_for_finished(tmp_path: Path) -> None:
    config, out = comparison(tmp_path, "Uniform"), tmp_path / "out"
    compare(config, "--seeds", "0:1", "--runs", str(tmp_path / "here"))
    (out / "runs.jsonl").unlink()
    rows = curves(out)
    assert compare(config, "--from-curves") == 0
    with pytest.raises(InputError, match=r"has rows of Uniform seed 0"):
        compare(config, "--seeds", "0:1", "--runs", str(tmp_path / "there"))
    assert compare(config, "--seeds", "0:1", "--runs", str(tmp_path / "here")) == 0  # their folders say the rest
    assert curves(out) == rows and (out / "runs.jsonl").is_file()
    with pytest.raises(InputError, match=r"no rows of these strategies in .*curves"):
        compare(comparison(tmp_path, "Rebalancing", baseline="Rebalancing"), "--from-curves")


def test_a_table_that_is_lost_is_missed_although_no_seeds_are_named(tmp_path: Path) -> None:
    config, out = comparison(tmp_path, "Uniform"), tmp_path / "out"
    compare(config, "--seeds", "0:2")
    (out / "curves" / "seed-1.csv.gz").unlink()
    assert compare(config, "--from-curves") == 0
    assert json.loads((out / "summary.json").read_text())["meta"]["missing"] == ["Uniform seed 1"]
