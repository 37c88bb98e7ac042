"""Whose folder it is: a run is continued by its own configuration only, and files of others are not overwritten."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.errors import InputError

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "suite": {"class_path": "HalfCheetahVelocity", "init_args": {"targets": [-3.0, 2.0]}},
    "model": {"learning_rate": 1e-05, "pretrained": None, "options": {}},
    "active": {"budget": 20, "batch_size": 1},
    "reports": {"animation": True},
    "trainer": {"devices": 1, "logger": {"init_args": {"name": "x"}}},
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def begin(folder: RunFolder) -> None:
    folder.write_config(yaml.safe_dump(CONFIG))


def changed(**dotted: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    for key, value in dotted.items():
        *parents, last = key.split("__")
        inner = config
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return config


def test_a_new_or_empty_folder_is_free(folder: RunFolder) -> None:
    folder.check_identity(CONFIG)
    folder.demonstrations.mkdir(parents=True)
    folder.check_identity(CONFIG)


def test_the_same_configuration_belongs_whatever_its_plain_types(folder: RunFolder) -> None:
    begin(folder)
    folder.check_identity(CONFIG)
    folder.check_identity(changed(suite__init_args__targets=(-3, 2.0)))


@pytest.mark.parametrize(
    "free",
    [{"active__budget": 30}, {"reports__animation": False}, {"reports": None}, {"trainer__devices": 2},
     {"trainer": {}}, {"ckpt_path": "last"}, {"config": ["a.yaml"]}],
    ids=str,
)  # fmt: skip
def test_trainer_budget_and_reports_may_change(folder: RunFolder, free: dict[str, Any]) -> None:
    begin(folder)
    folder.check_identity(changed(**free))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed_everything": 1}, "seed_everything is 0 there and 1 here"),
        ({"active__batch_size": 2}, "active.batch_size is 1 there and 2 here"),
        ({"model__learning_rate": 2e-05}, "model.learning_rate is 1e-05 there and 2e-05 here"),
        ({"model__pretrained": "a"}, "model.pretrained is None there and 'a' here"),
        ({"model__extra": 1}, "model.extra is not set there and 1 here"),
        ({"suite__init_args__targets": [2.0, -3.0]}, r"targets is \[-3.0, 2.0\] there and \[2.0, -3.0\] here"),
        ({"trainers": 1}, "trainers is not set there and 1 here"),
        (
            {"suite": "x"},
            "suite is not set there and 'x' here; suite.class_path is 'HalfCheetahVelocity' there and not",
        ),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "a is .*; b is .*; c is not set there and 3 here; and 2 more keys"),
    ],
    ids=str,
)
def test_another_configuration_is_refused_with_both_values(
    folder: RunFolder, change: dict[str, Any], message: str
) -> None:
    begin(folder)
    before = folder.config.read_bytes()
    with pytest.raises(InputError, match=rf"run holds a run of another configuration: .*{message}"):
        folder.check_identity(changed(**change))
    assert folder.config.read_bytes() == before


def test_a_key_that_is_gone_is_a_difference(folder: RunFolder) -> None:
    begin(folder)
    without = {key: value for key, value in CONFIG.items() if key != "seed_everything"}
    with pytest.raises(InputError, match="seed_everything is 0 there and not set here"):
        folder.check_identity(without)


@pytest.mark.parametrize(
    "name", ["report.md", "curve.csv", "checkpoints/mine.bin", "demonstrations/000000.safetensors"]
)
def test_files_of_others_that_a_run_would_overwrite_are_refused(folder: RunFolder, name: str) -> None:
    (path := folder.path / name).parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(
        InputError, match=rf"has no config\.yaml but {Path(name).parts[0]}, which a run would overwrite"
    ):
        folder.check_identity(CONFIG)


def test_other_files_of_others_are_left_alone(folder: RunFolder) -> None:
    folder.path.mkdir()
    (folder.path / "events.out.tfevents.1").write_text("log")
    (folder.path / ".config.yaml.7.partial").write_text("left by a killed process")
    folder.check_identity(CONFIG)


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"just text", b"a: [", b"\x00\x01\xff"])
def test_a_config_of_others_or_a_damaged_one_is_refused(folder: RunFolder, content: bytes) -> None:
    folder.path.mkdir()
    folder.config.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.yaml (is not valid YAML|is not text|holds a|holds nothing)"):
        folder.check_identity(CONFIG)


def test_an_option_of_a_newer_version_that_is_left_off_is_no_difference(folder: RunFolder) -> None:
    begin(folder)
    folder.check_identity(changed(model__newer=None))
