"""Every file that the program reads, damaged: it is refused by name, or read as if nothing had happened."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from ready_runs import write_run
from safetensors.torch import save_file

from amf_lightning import shipped
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.campaign.status import read_status
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import read_reports
from amf_lightning.experts.goal_actor import GoalActor, load_goal_actor, save_goal_actor
from amf_lightning.experts.state_dict import read_tensors
from amf_lightning.experts.training.curve import draw
from amf_lightning.fine_tuning.checkpoint_io import DurableCheckpointIO, read_checkpoint
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.statistics import feature_statistics
from amf_lightning.policies.weights import load_policy, read_safetensors, save_policy
from amf_lightning.shipped import shipped_folder
from amf_lightning.studies.archive import Archive
from amf_lightning.studies.plan import Run
from amf_lightning.studies.report import write_from_rows
from amf_lightning.studies.rows import SINGLE_TABLE
from amf_lightning.studies.specification import Specification
from amf_lightning.tasks.reference import load_reference
from amf_lightning.tasks.steps import Steps
from tiny import TinyExpert, TinySuite

SUITE = TinySuite()


@dataclass(frozen=True)
class Reader:
    """A file that is read back, and by what."""

    make: Callable[[Path], Path]
    """Writes the file, with what belongs to it, into a folder; returns its path."""
    read: Callable[[Path], object]
    hashed: bool = False
    """Whether the bits of the file are known to something: no other contents are ever accepted."""
    empty: bool = False
    """Whether an empty file is a whole one."""


def a_run(folder: Path) -> RunFolder:
    """A finished run of the tiny suite."""
    run = RunFolder(folder / "run")
    write_run(run.path, "Uniform", 0)
    run.seal(4)
    run.write_config("selector: {class_path: x.Uniform}\nsuite: {class_path: x.Tiny}\nactive: {budget: 4}\n")
    return run


def a_ledger(folder: Path) -> Path:
    ledger = Ledger(folder / "run" / "ledger.sqlite")
    ledger.ask([Request(i, 0, f"task {i}", i, "Uniform", (0.5, 0.25), 7 + i) for i in range(3)], {"x": 0.5})
    ledger.record(0, "a" * 64)
    ledger.skip(1, "broken")
    ledger.close_round(0)
    ledger.set_fact("pretrained", "abc")
    ledger.close()
    return ledger.path


def contents(path: Path) -> object:
    ledger = Ledger(path, read_only=True)
    try:
        status = ledger.jobs(), ledger.recorded(), ledger.arrivals(), sorted(ledger.skipped()), ledger.open_round()
        return repr((*status, ledger.diagnostics(0), ledger.fact("pretrained")))
    finally:
        ledger.close()


def a_checkpoint(folder: Path) -> Path:
    state = {"suite": SUITE.signature(), "state_dict": {"w": torch.arange(6.0)}, "demonstrations": 3}
    DurableCheckpointIO().save_checkpoint(state, folder / "checkpoints" / "last.ckpt")
    return folder / "checkpoints" / "last.ckpt"


def a_policy(folder: Path) -> Path:
    policy = MLPPolicy(2, 1, 1, [4, 4])
    statistics = feature_statistics(policy, Steps.of_state(torch.randn(9, 2), torch.randn(9, 1)), {"goal=1": 2})
    importance = {name: p.detach() ** 2 for name, p in policy.named_parameters()}
    save_policy(folder / "policy.safetensors", policy, SUITE.signature(), statistics, {"goal=1": 2}, importance)
    return folder / "policy.safetensors"


def policy_facts(path: Path) -> object:
    file = load_policy(str(path))
    tensors = {**file.tensors, **file.importance}
    numbers = {name: tensor.tolist() for name, tensor in tensors.items()}
    assert file.statistics is not None
    statistics = replace(file.statistics, second_moment=torch.zeros(())), file.statistics.second_moment.tolist()
    return repr((numbers, file.policy_class, file.options, file.suite, file.pretraining_counts, vars(statistics[0])))


def an_expert(folder: Path) -> Path:
    signature = {"name": "tiny", "observation_dim": 2, "action_dim": 1, "goal_dim": 1}
    save_goal_actor(folder / "expert.safetensors", GoalActor([3, 4, 1], signature), {"mean_return": 1.0})
    return folder / "expert.safetensors"


def a_demonstration(folder: Path) -> Path:
    [shown] = TinyExpert().demonstrate(SUITE, [Request(0, 0, "goal=1", 3, "x", (), 7).episode(SUITE)])
    (folder / "sha256").write_text(DemonstrationStore(folder).write(0, shown))
    return DemonstrationStore(folder).path(0)


def trajectory(path: Path) -> object:
    read = DemonstrationStore(path.parent).read(0, path.with_name("sha256").read_text())
    return read.task, read.actions.tobytes(), read.state.tobytes()


def a_study_run(folder: Path) -> Run:
    run = folder / "runs" / "Uniform" / "seed-0"
    return Run("Uniform", 0, run, run, 4, ("amf",), {"a": 1})


def settings(folder: Path) -> Path:
    run = a_study_run(folder)
    write_run(run.folder, "Uniform", 0)
    run.begin()
    run.note_process(1.5, "0.3")
    return run.settings_file


def a_study(folder: Path) -> Path:
    settings(folder)
    archive = Archive(folder, ["Uniform"])
    archive.add(a_study_run(folder))
    archive.write()
    write_from_rows(folder, archive.entries, Specification(folder, "Uniform", {"Uniform": {}}), [])
    return folder


def archived(folder: Path) -> object:
    return Archive(folder, ["Uniform"]).entries


def old_table(folder: Path) -> Path:
    text = (
        "strategy,seed,demonstrations,task,return,success,score\nUniform,0,0,slow,1,1,0.5\nUniform,0,0,mean,1,1,0.5\n"
    )
    (folder / SINGLE_TABLE).write_text(text)
    return folder / SINGLE_TABLE


def summary(folder: Path) -> Path:
    a_study(folder)
    (folder / "runs.jsonl").unlink()  # so that what only the summary says is taken from it
    return folder / "summary.json"


def summarised(path: Path) -> object:
    archive = Archive(path.parent, ["Uniform"])
    return write_from_rows(path.parent, archive.entries, Specification(path, "Uniform", {"Uniform": {}}), [])


def written(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def in_run(name: str) -> Callable[[Path], Path]:
    return lambda folder: a_run(folder).path / name


REFERENCE = json.dumps(
    {
        "suite": "tiny",
        "horizon": 12,
        "command": "amf measure",
        "tasks": {task.name: {"random": -9.0, "expert": 0.0, "spread": 0.5} for task in SUITE.tasks},
    }
)
PROGRESS = "env_steps,best,error a,length a\n1000,1,0.5,9\n2000,0,0.4,9\n"

READERS: dict[str, Reader] = {
    "ledger": Reader(a_ledger, contents, hashed=True),
    "configuration of a run": Reader(in_run("config.yaml"), lambda path: RunFolder(path.parent).read_config()),
    "the same in status": Reader(in_run("config.yaml"), lambda path: read_status(path.parent)),
    "evaluation": Reader(in_run("evaluation.json"), lambda path: RunFolder(path.parent).read_facts()),
    "curve": Reader(in_run("curve.csv"), lambda path: RunFolder(path.parent).read_curve(), hashed=True),
    "selections": Reader(
        in_run("selections.jsonl"), lambda path: RunFolder(path.parent).read_selections(), hashed=True
    ),
    "checkpoint": Reader(a_checkpoint, lambda path: str(read_checkpoint(path)), hashed=True),
    "policy": Reader(a_policy, policy_facts, hashed=True),
    "expert": Reader(an_expert, lambda path: str(load_goal_actor(str(path))[0].state_dict()), hashed=True),
    "state dict": Reader(a_checkpoint, lambda path: len(read_tensors(path))),
    "demonstration": Reader(a_demonstration, trajectory, hashed=True),
    "reports of people": Reader(
        written("outcomes.jsonl", '{"demonstrations": 6, "task": "goal=1", "success": 7, "episodes": 10}\n' * 2),
        lambda path: read_reports(path, SUITE),
        empty=True,
    ),
    "reference returns": Reader(
        written("reference.json", REFERENCE), lambda path: load_reference(str(path), "tiny", SUITE.tasks)
    ),
    "progress of a training": Reader(
        written("progress.csv", PROGRESS), lambda path: draw(path, path.with_name("p.png"))
    ),
    "settings of a run in a study": Reader(settings, lambda path: a_study_run(path.parents[2]).check_settings()),
    "facts about a process": Reader(
        lambda folder: settings(folder).with_name("seed-0.made.json"),
        lambda path: a_study_run(path.parents[2]).process_facts(),
    ),
    "rows of a seed": Reader(
        lambda folder: a_study(folder) / "curves" / "seed-0.csv.gz", lambda path: archived(path.parents[1]), hashed=True
    ),
    "single table of version 0.1": Reader(old_table, lambda path: archived(path.parent)),
    "runs of a study": Reader(
        lambda folder: a_study(folder) / "runs.jsonl", lambda path: archived(path.parent), empty=True
    ),
    "summary of a study": Reader(summary, summarised),
}
"""What the program reads back beyond what people write for it: configurations have tests of their own."""

WRONG = [b"[]", b"{}", b"null", b"7", b'"a text"', b"[" * 100_000, b'{"a":' * 100_000, b"{}\n[]\n", b"a,b\n1,2\n"]
"""Whole JSON, or a table, of something else; and some that nests deeper than Python reads."""


def damages(whole: bytes, empty: bool) -> Iterator[tuple[str, bytes]]:
    random = Random(0)
    yield "foreign", b"\x89PNG\r\n\x1a\n" + random.randbytes(3000)
    yield "noise", random.randbytes(2000)
    yield "zeros", bytes(len(whole))
    yield "twice", whole + whole
    if not empty:
        yield "empty", b""
    for length in sorted({1, 7, 50, 99, 100, len(whole) // 3, len(whole) // 2, len(whole) - 100, len(whole) - 1}):
        if 0 < length < len(whole):
            yield f"cut at {length}", whole[:length]
    for number, content in enumerate(WRONG):
        yield f"wrong {number}", content
    for place in sorted({0, 1, 5, len(whole) - 1, len(whole) - 5, *(random.randrange(len(whole)) for _ in range(12))}):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << random.randrange(8)
        yield f"flipped at {place}", bytes(flipped)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_by_name_or_read_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    """Where the bits of the file are known to something, nothing else than what was written is ever read."""
    reader = READERS[name]
    (tmp_path / "files").mkdir()
    path = reader.make(tmp_path / "files")
    shutil.copytree(tmp_path / "files", tmp_path / "whole")
    whole, expected = path.read_bytes(), reader.read(path)
    refused = 0
    for damage, content in damages(whole, reader.empty):
        shutil.rmtree(tmp_path / "files")
        shutil.copytree(tmp_path / "whole", tmp_path / "files")
        path.write_bytes(content)
        try:
            read = reader.read(path)
        except InputError as error:
            refused += 1
            message = str(error)
            assert path.name in message and "\n" not in message and len(message) < 600, f"{damage}: {message}"
            continue
        if reader.hashed:
            assert read == expected, f"{damage} was read as something else"
    assert refused > 10


def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(shipped, "shipped_folder", lambda kind: folder)
    whole = (shipped_folder("checkpoints") / "manifest.json").read_bytes()
    for damage, content in damages(whole, empty=False):
        # An empty manifest is one; a flip may lie in a command, a cut after the last brace.
        if content.strip() in (b"{}", whole.strip()) or damage.startswith("flipped"):
            continue
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(InputError, match=r"manifest\.json.*Reinstall"):
            shipped.manifest()


# -- ledgers whose rows contradict each other, from before their hash was kept ---------------------------------------

CONTRADICTIONS: dict[str, tuple[str, str]] = {
    "a request is missing": ("DELETE FROM jobs WHERE demonstration = 1", "request 1 is missing"),
    "an answer to nothing": ("DELETE FROM jobs WHERE demonstration = 2", "request that is missing"),
    "rounds go back": ("UPDATE jobs SET round = 5 WHERE demonstration = 0", "request 1, of round 0"),
    "a task with two numbers": ("UPDATE jobs SET task = 'task 0' WHERE demonstration = 1", "does not follow"),
    "scores that are none": ("UPDATE jobs SET scores = '{' WHERE demonstration = 0", "the scores of request 0"),
    "answered and skipped": ("INSERT INTO recorded VALUES (1, 'ab', NULL)", "both answered and skipped"),
    "a gap in the rounds": ("INSERT INTO closed VALUES (3)", "is not closed"),
    "a closed round without answers": ("DELETE FROM recorded", "round 0 is closed, but the answers"),
    "another schema": ("ALTER TABLE jobs ADD COLUMN more INTEGER", "'jobs' has the columns"),
    "a table is missing": ("DROP TABLE closed", "'closed' has the columns none"),
}


@pytest.mark.parametrize(("statement", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_ledger_that_contradicts_itself_is_refused(tmp_path: Path, version: int, statement: str, said: str) -> None:
    path = a_ledger(tmp_path)
    change(path, f"INSERT INTO recorded VALUES (2, '{'b' * 64}', NULL)", f"PRAGMA user_version = {version}")
    change(path, *(["DROP TABLE predictions"] if version < 4 else []), statement)
    with pytest.raises(InputError, match=r"ledger\.sqlite is damaged.*RecordedExpert") as caught:
        Ledger(path)
    assert said in str(caught.value) or version >= 3


def test_a_ledger_whose_last_request_was_taken_out_is_refused(tmp_path: Path) -> None:
    path = a_ledger(tmp_path)
    Ledger(path).close()
    change(path, "DELETE FROM jobs WHERE demonstration = 2")
    with pytest.raises(InputError, match="its rows are not those that were written"):
        Ledger(path)


def change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_numbers_of_a_policy_file_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = a_policy(tmp_path)
    tensors, metadata = read_safetensors(path)
    facts: dict[str, Any] = json.loads(metadata["policy"])
    del facts["sha256"]  # as in files of version 0.2
    bad: list[dict[str, Any]] = [
        {"pretraining_counts": {"goal=1": -1}},
        {"pretraining_counts": {"goal=1": "two"}},
        {"pretraining_counts": [1]},
        {"statistics": facts["statistics"] | {"count": 0}},
        {"statistics": facts["statistics"] | {"largest_norm": float("nan")}},
        {"statistics": {}},
        {"statistics": None},
        {"options": [1]},
        {"suite": 3},
        {"class": None},
    ]
    for change_of_facts in bad:
        save_file(tensors, path, {"policy": json.dumps(facts | change_of_facts)})
        with pytest.raises(InputError, match=r"policy\.safetensors"):
            load_policy(str(path))
    save_file(tensors, path, {"policy": json.dumps(facts)})
    assert load_policy(str(path)).pretraining_counts == {"goal=1": 2}, "without a hash it is read"
    moment = tensors["statistics.second_moment"]
    for tensor in (moment * torch.nan, -moment, moment[:2], moment.long()):
        save_file({**tensors, "statistics.second_moment": tensor}, path, {"policy": json.dumps(facts)})
        with pytest.raises(InputError, match=r"policy\.safetensors is damaged.*statistics"):
            load_policy(str(path))
