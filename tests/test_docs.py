"""The pages in docs/ are tutorials: their files are written, their commands run, small, and their claims checked."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from amf_process import amf

from amf_lightning.campaign.run_folder import MEAN, RunFolder
from amf_lightning.configuration import read_configuration
from amf_lightning.experts.expert import Expert
from amf_lightning.policies.weights import load_policy

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
        assert program == "amf", line
        small = (*SMALL, *options) if arguments[0] == "fit" else ()
        outcome = amf(*arguments, *small, cwd=folder)
        assert outcome.code == 0, outcome.said
        if arguments[0] == "measure":
            printed.append(outcome.stdout)
    return printed


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
    for name, width in (("chunks-held", 65), ("pooled-second", 33)):
        run = RunFolder(tmp_path / "runs" / name)
        statistics = load_policy(str(run.policy)).statistics
        assert statistics is not None and statistics.second_moment.shape == (width, width)
        assert len(picks(run)) == 4


@pytest.mark.parametrize("block", blocks("your-own-expert.md", "yaml"))
def test_every_expert_on_the_page_exists(block: str, tmp_path: Path) -> None:
    """The classes and their options are real; the files that they name are the reader's."""
    expert = yaml.safe_load(block)["expert"]
    kinds: list[type] = [Expert]
    for kind in kinds:
        kinds += kind.__subclasses__()
    (kind,) = [kind for kind in kinds if kind.__name__ == expert["class_path"]]
    (tmp_path / "run.yaml").write_text(block)
    outcome = amf("fit", "--config=configs/halfcheetah.yaml", "--config=run.yaml", cwd=tmp_path)
    assert outcome.code == 2, outcome.said
    missing = {"ActorExpert": "no module 'my_module'", "StableBaselines3Expert": "no file experts/east.zip"}
    assert missing.get(kind.__name__, "no file actor.safetensors") in outcome.stderr, outcome.said
