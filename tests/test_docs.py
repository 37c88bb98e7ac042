"""The pages in docs/ are tutorials: their files are written, their commands run, small, and their claims checked."""

import json
import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from amf_process import amf, fresh
from jsonargparse import ArgumentParser

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.catalogue import classes, resolve
from amf_lightning.configuration import read_configuration
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.experts.own import ActorExpert
from amf_lightning.experts.recorded import RecordedExpert
from amf_lightning.policies.weights import load_policy
from amf_lightning.suites.integrator import Integrator
from amf_lightning.suites.language import HashedWords
from amf_lightning.suites.static import StaticSuite
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.task import Episode, TaskSuite

DOCS = Path(__file__).resolve().parents[1] / "docs"
SMALL = ("--data.evaluation_episodes=1", "--reports.animation=false", "--trainer.enable_progress_bar=false")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# ([\w.-]+)\n")


def blocks(page: str, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall((DOCS / page).read_text()) if name == language]


def follow(page: str, folder: Path, *options: str) -> list[str]:
    """Writes the files of a page and runs its commands, `amf fit` with further options; what `amf measure` printed."""
    for text in [*blocks(page, "python"), *blocks(page, "yaml")]:
        named = NAMED.match(text)
        assert named is not None, f"a block of {page} does not say which file it is"
        (folder / named[1]).write_text(text)
    printed = []
    for line in [line for text in blocks(page, "bash") for line in text.splitlines()]:
        program, *arguments = shlex.split(line)
        if program == "python":
            environment = {"PYTHONPATH": str(DOCS.parent), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            continue
        assert program == "amf", line
        small = (*SMALL, *options) if arguments[0] == "fit" else ()
        outcome = amf(*arguments, *small, cwd=folder)
        assert outcome.code == 0, outcome.said
        if arguments[0] in ("measure", "status"):
            printed.append(outcome.stdout)
    return printed


def python(*arguments: str, cwd: Path) -> None:
    environment = {"PYTHONPATH": str(DOCS.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def picks(folder: RunFolder) -> list[str]:
    return [json.loads(line)["task"] for line in folder.selections.read_text().splitlines()]


def test_a_stranger_brings_an_environment(tmp_path: Path) -> None:
    (table,) = follow("your-own-environment.md", tmp_path, "--data.steps_per_round=200", "--active.budget=6")
    rows = [line.split("|") for line in table.splitlines()[2:]]
    names = [row[1].strip() for row in rows]
    assert len(names) == 6 and all(row[4].strip() == "100 %" for row in rows), table
    unknown = set(names) - set(read_configuration(tmp_path / "pretrain.yaml")["selector"]["init_args"]["tasks"])
    run = RunFolder(tmp_path / "runs" / "reacher")
    assert unknown <= set(picks(run)), "the run asks for the tasks that the policy does not know"
    scores = [row.score for row in run.read_curve() if row.task == MEAN]
    assert scores[-1] > scores[0]


def comparison_of_the_page(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Writes the page's files; the arguments of its commands, which list runs and make them, and the strategies."""
    for page in ("your-own-environment.md", "your-own-comparison.md"):
        for text in [*blocks(page, "python"), *blocks(page, "yaml")]:
            named = NAMED.match(text)
            assert named is not None
            (folder / named[1]).write_text(text)
    dry, run = (
        shlex.split(line)[1:] for text in blocks("your-own-comparison.md", "bash") for line in text.splitlines()
    )
    return dry, run, list(read_configuration(folder / "ring.yaml")["strategies"])


def test_a_stranger_plans_a_comparison_on_it(tmp_path: Path) -> None:
    dry, _, labels = comparison_of_the_page(tmp_path)
    said = amf(*dry, cwd=tmp_path)
    assert said.code == 0 and said.stdout.count("OMP_NUM_THREADS=1") == 10 * (1 + len(labels)), said.said
    assert all(f"runs/{label}/seed-9" in said.stdout for label in labels)


@pytest.mark.slow
def test_a_stranger_compares_strategies_on_it(tmp_path: Path) -> None:
    """The page's file over the runs of the other page, small: one seed, few steps."""
    _, run, labels = comparison_of_the_page(tmp_path)
    for name, least in (
        ("reacher.yaml", {"budget": 2, "batch_size": 1}),
        ("pretrain.yaml", {"budget": 6, "batch_size": 6}),
    ):
        content = yaml.safe_load((tmp_path / name).read_text())
        content |= {"data": {"steps_per_round": 20, "evaluation_episodes": 1}, "active": least}
        (tmp_path / name).write_text(yaml.safe_dump(content))
    measured = [
        line for text in blocks("your-own-environment.md", "bash") for line in text.splitlines() if "measure" in line
    ]
    assert amf(*shlex.split(measured[0])[1:], cwd=tmp_path).code == 0
    done = fresh(*run, "--seeds=0:1", "--share-imports", cwd=tmp_path)
    assert done.code == 0, done.said
    summary = (tmp_path / "results" / "summary.md").read_text()
    assert all(label in summary for label in labels), summary


def test_recordings_are_written_without_this_package(tmp_path: Path) -> None:
    """The format on the page is all of it."""
    (text,) = blocks("recordings.md", "python")
    python("-c", text, cwd=tmp_path)
    suite = StaticSuite("lab", {"state": Spec((3,))}, 2, ["reach", "push"])
    with pytest.warns(UserWarning, match="1 of 3 recordings"):
        expert = RecordedExpert(str(tmp_path / "recordings"))
    assert expert.remaining(suite, [0, 0]) == [1, 1]
    assert RecordedExpert(str(tmp_path / "recordings"), include_failures=True).remaining(suite, [0, 0]) == [2, 1]


@pytest.mark.parametrize("key", ["selector", "retention", "evaluation", "controller", "policy", "encoder", "language"])
def test_the_page_of_parts_names_every_part(key: str) -> None:
    page = (DOCS / "parts.md").read_text()
    assert [name for name in classes(key) if f"`{name}`" not in page and f" {name}`" not in page] == []


@pytest.mark.parametrize("block", blocks("policies.md", "yaml"))
def test_every_policy_on_the_page_can_be_made(block: str, tmp_path: Path) -> None:
    (tmp_path / "page.yaml").write_text(block)
    assert (
        amf("fit", "--config", "configs/integrator.yaml", "--config", "page.yaml", "--print_config", cwd=tmp_path).code
        == 0
    )
    policy = yaml.safe_load(block)["model"]["policy"]
    options = policy["init_args"]
    if "encoder" in options:
        encoder = partial(resolve("encoder", options["encoder"]["class_path"]), **options["encoder"]["init_args"])
        options = {**options, "encoder": encoder}
    seen = {"image/front": Spec((12, 12, 3), "uint8"), "state": Spec((2,))}
    made = resolve("policy", policy["class_path"])(seen, 1, 2, **options)
    assert made.window.horizon == options.get("horizon", 1)


def test_the_pins_on_the_page_are_those_of_the_files() -> None:
    page = (DOCS / "versions.md").read_text()
    pins = (DOCS.parent / "constraints.txt").read_text() + (DOCS.parent / "constraints-metaworld.txt").read_text()
    for name, version in re.findall(
        r"(mujoco|gymnasium|torch|lightning|jsonargparse|metaworld|minigrid) (\d+\.\d+\.\d+)", page
    ):
        assert f"{name}=={version}" in pins or (name, version) == ("mujoco", "3.17.0"), (name, version)


def test_a_stranger_brings_a_policy(tmp_path: Path) -> None:
    follow("your-own-policy.md", tmp_path, "--data.steps_per_round=10")
    first, second = (RunFolder(tmp_path / "runs" / name) for name in ("first", "second"))
    file = load_policy(str(second.policy))
    assert file.options == {"width": 32} and file.statistics is not None
    assert file.statistics.second_moment.shape == (33, 33)
    assert len(set(picks(second))) > 1, "its features tell tasks apart"
    before = load_policy(str(first.policy)).tensors
    kept = [(file.tensors[name] == before[name]).float().mean() for name in before]
    assert any(0.1 < share < 0.9 for share in kept), "some entries of a tensor are frozen, others trained"
    for name, width in (("plan-held", 65), ("chunks-held", 65), ("pooled-second", 33)):
        run = RunFolder(tmp_path / "runs" / name)
        statistics = load_policy(str(run.policy)).statistics
        assert statistics is not None and statistics.second_moment.shape == (width, width)
        assert len(picks(run)) == 4


@pytest.mark.parametrize("file", ["my_plan.py", "my_flow.py"])
def test_a_policy_of_chunks_takes_at_most_forty_lines(file: str) -> None:
    (text,) = [text for text in blocks("your-own-policy.md", "python") if text.startswith(f"# {file}")]
    assert len(text.splitlines()) <= 40 and max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("block", blocks("your-own-expert.md", "yaml"))
def test_every_expert_on_the_page_exists(block: str, tmp_path: Path) -> None:
    """The classes and their options are real; the files that they name are the reader's."""
    expert = yaml.safe_load(block)["expert"]
    kind = resolve("expert", expert["class_path"])
    (tmp_path / "run.yaml").write_text(block)
    outcome = amf("fit", "--config=configs/halfcheetah.yaml", "--config=run.yaml", cwd=tmp_path)
    assert outcome.code == 2, outcome.said
    missing = {"ActorExpert": "no module 'my_module'", "StableBaselines3Expert": "no file experts/east.zip"}
    assert missing.get(kind.__name__, "no file actor.safetensors") in outcome.stderr, outcome.said


def test_a_stranger_brings_recordings_and_no_simulator(tmp_path: Path) -> None:
    (status,) = follow("no-simulator.md", tmp_path, "--data.steps_per_round=30")
    run = RunFolder(tmp_path / "runs" / "robot")
    assert len(picks(run)) == 8 and set(picks(run)) == {"left", "right", "up"}
    assert "8" in status and run.read_curve() == [] and run.finished(8) and not run.curve_picture.exists()
    report = run.report.read_text()
    assert "gained is unknown:** nobody has reported a trial" in report and "`outcomes.jsonl`" in report
    assert "0.8" not in report
    load_policy(str(run.policy)).make()


def test_what_a_person_reports_becomes_the_curve(tmp_path: Path) -> None:
    follow("no-simulator.md", tmp_path, "--data.steps_per_round=5")
    told = RunFolder(tmp_path / "runs" / "robot")
    assert told.read_curve() == [], "nobody has reported anything yet"
    (example,) = re.findall(r"`(\{.*?\})`", (DOCS / "no-simulator.md").read_text())
    report = json.loads(example)
    lines = [{**report, "task": task, "success": success} for task, success in (("left", 7), ("right", 10), ("up", 4))]
    (told.path / "outcomes.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    follow("no-simulator.md", tmp_path, "--data.steps_per_round=5")
    scores = {row.task: row.score for row in told.read_curve()}
    assert scores == {"left": 0.7, "right": 1.0, "up": 0.4, MEAN: pytest.approx(0.7)}
    assert "shares of successful trials" in told.report.read_text()

    options = ("--evaluation=NoEvaluation", "--data.steps_per_round=5", *SMALL)
    assert amf("fit", "--config=robot.yaml", *options, "--trainer.default_root_dir=runs/untold", cwd=tmp_path).code == 0
    untold = RunFolder(tmp_path / "runs" / "untold")
    assert untold.selections.read_bytes() == told.selections.read_bytes(), "the evaluation does not change the choice"
    assert "nobody has evaluated the policy. Runs that begin with" in untold.report.read_text()
    outcome = amf("fit", "--config=robot.yaml", *options, "--trainer.default_root_dir=runs/robot", cwd=tmp_path)
    assert outcome.code == 2 and "another configuration: evaluation" in outcome.stderr, outcome.said


def test_a_part_that_needs_a_simulator_is_named_before_anything_is_written(tmp_path: Path) -> None:
    follow("no-simulator.md", tmp_path, "--data.steps_per_round=5")
    page = (DOCS / "no-simulator.md").read_text()
    promised = " ".join(re.findall(r"^> (.*)$", page, re.MULTILINE))
    refused = {
        "--retention=SelfDistillation": promised,
        "--evaluation=SimulatedEpisodes": "evaluation: SimulatedEpisodes needs simulator rollouts",
        "--selector.init_args.occupancy=PolicyRollout": "selector.init_args.occupancy: PolicyRollout needs",
        "--selector=Rebalancing": "selector: Rebalancing needs pre-training counts",
        "--selector=LearningProgress --evaluation=NoEvaluation": "selector: LearningProgress needs evaluation returns",
        "--expert=IntegratorExpert": "expert: IntegratorExpert needs simulator rollouts",
    }
    for option, message in refused.items():
        outcome = amf("fit", "--config=robot.yaml", *option.split(), "--trainer.default_root_dir=runs/no", cwd=tmp_path)
        assert outcome.code == 2 and message in outcome.stderr, outcome.said
        assert not (tmp_path / "runs" / "no").exists()


def test_the_readme_drives_a_campaign_by_hand(tmp_path: Path) -> None:
    (code,) = [text for name, text in BLOCK.findall((DOCS.parent / "README.md").read_text()) if name == "python"]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    python("-c", code, cwd=tmp_path)
    assert len(list((tmp_path / "runs" / "by-hand" / "demonstrations").glob("*.safetensors"))) == 3


def test_the_expert_with_a_memory_goes_back_to_where_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("your-own-expert.md", "python")
    (tmp_path / "remembering.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    expert, suite = ActorExpert("remembering.BackToTheStart", noise=0.1, successes_only=False), Integrator()
    (shown,) = expert.demonstrate(suite, [Episode(suite.tasks[0], 3)])
    assert not shown.actions[0].any()
    back = 10 * (shown.state[0] - shown.state[:-1])
    assert abs(shown.actions - back.clip(-1, 1)).max() < 1e-5 and abs(shown.actions).max() > 0.05


def test_the_suite_without_an_environment_is_one() -> None:
    text, in_words = [text for text in blocks("your-own-environment.md", "yaml") if "StaticSuite" in text]
    options = yaml.safe_load(text)["suite"]["init_args"]
    entries = {name: Spec(**entry) for name, entry in options.pop("observation").items()}
    suite = StaticSuite(observation=entries, **options)
    assert suite.simulator is None and [entry.is_image for entry in suite.observation.values()] == [False, True]
    parser = ArgumentParser()
    parser.add_subclass_arguments(TaskSuite, "suite")
    spoken = parser.instantiate(parser.parse_object({"suite": yaml.safe_load(in_words)["suite"]})).suite
    assert torch.equal(
        spoken.contexts[2], torch.from_numpy(HashedWords().encode(["wipe the table with the sponge"])[0]).float()
    )


def test_the_page_says_how_alike_sentences_are() -> None:
    rows = re.findall(
        r"^\| (.+) · (.+) \| (-?[\d.]+) \| ", (DOCS / "your-own-environment.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 5
    for first, second, said in rows:
        a, b = HashedWords().encode([first, second])
        assert f"{a @ b:.2f}" == said


def test_demonstrations_go_to_lerobot_and_back(tmp_path: Path) -> None:
    follow("formats.md", tmp_path)
    names = ("000000.safetensors", "000001.safetensors")
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "recordings" / name).read_bytes()
    assert {each.task for each in DemonstrationStore(tmp_path / "renamed").read_all()} == {"anything"}
    python("read.py", cwd=tmp_path)


def test_a_stranger_downloads_libero(tmp_path: Path) -> None:
    """With small files of the same form."""
    (tmp_path / "libero_spatial").symlink_to(DOCS.parent / "tests" / "data" / "formats" / "libero")
    least = (
        "--data.steps_per_round=2",
        "--active.budget=10",
        "--active.batch_size=10",
        "--expert.init_args.held_out=1",
    )
    follow("downloads.md", tmp_path, *least, "--expert.init_args.held_out=1")
    start, run = (RunFolder(tmp_path / "runs" / name) for name in ("libero-start", "libero/InformationGain-seed0"))
    assert sorted(picks(start)) == sorted(picks(run)) and len(set(picks(run))) == 10
