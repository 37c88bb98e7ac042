import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ready_runs
import yaml

from amf_lightning.configuration import first_difference
from amf_lightning.errors import InputError
from amf_lightning.studies.plan import Run, plan_pretraining, plan_runs
from amf_lightning.studies.specification import Specification


def comparison(folder: Path, pretrain: bool = False, **strategies: Mapping[str, Any]) -> Specification:
    base = folder / "base.yaml"
    if not base.exists():
        base.write_text("active: {budget: 4}\nmodel: {width: 8}\n")
    settings = strategies or {"Uniform": {"selector": "Uniform"}}
    return Specification(base, next(iter(settings)), settings, base if pretrain else None)


def one(folder: Path, **settings: Any) -> Run:
    (run,) = plan_runs(comparison(folder, A=settings), [0], folder / "out")
    return run


def test_runs_are_ordered_seed_by_seed_in_folders_of_their_own(tmp_path: Path) -> None:
    runs = plan_runs(comparison(tmp_path, A={}, B={"selector": "Uniform"}), [3, 4], tmp_path / "out")
    assert [(run.label, run.seed) for run in runs] == [("A", 3), ("B", 3), ("A", 4), ("B", 4)]
    assert runs[3].folder == tmp_path / "out" / "runs" / "B" / "seed-4"
    assert runs[3].log == tmp_path / "out" / "runs" / "B" / "seed-4.log"


def test_commands_of_two_strategies_differ_in_their_settings_and_folder_alone(tmp_path: Path) -> None:
    a, b = plan_runs(comparison(tmp_path, A={"selector": "X"}, B={"selector": "Y"}), [3], tmp_path / "out")
    assert {*a.command} ^ {*b.command} == {
        "--selector=X",
        "--selector=Y",
        f"--trainer.default_root_dir={a.folder}",
        f"--trainer.default_root_dir={b.folder}",
    }
    assert {"fit", "--seed_everything=3", "--reports.animation=false"} <= {*a.command}


def test_the_pre_trained_policy_of_a_seed_is_given_to_every_strategy_of_that_seed(tmp_path: Path) -> None:
    described = comparison(tmp_path, pretrain=True, A={}, B={})
    made = plan_pretraining(described, [0, 1], tmp_path)
    for run in plan_runs(described, [0, 1], tmp_path):
        (source,) = [before for before in made if before.seed == run.seed]
        assert run.needs == source
        assert f"--model.pretrained={source.folder / 'policy.safetensors'}" in run.command
    assert plan_pretraining(comparison(tmp_path), [0, 1], tmp_path) == []


def test_the_budget_is_found_in_the_base_in_its_parts_and_in_a_strategy(tmp_path: Path) -> None:
    (tmp_path / "lowest.yaml").write_text("active: {budget: 7, batch_size: 1}\nmodel: {width: 8}")
    (tmp_path / "model.yaml").write_text("depth: 2")
    (tmp_path / "base.yaml").write_text("config: lowest.yaml\nactive: {batch_size: 2}\nmodel: model.yaml")
    assert one(tmp_path).budget == 7
    assert one(tmp_path, **{"active.budget": 9}).budget == 9
    assert one(tmp_path, active={"budget": 3}).budget == 3


def test_a_missing_budget_or_different_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("different budgets, [3, 4]")):
        plan_runs(comparison(tmp_path, A={}, B={"active.budget": 3}), [0], tmp_path)
    (tmp_path / "base.yaml").write_text("model: {}")
    with pytest.raises(InputError, match=re.escape("does not say 'active.budget'")):
        one(tmp_path)


def test_a_folder_begun_with_other_settings_is_noticed(tmp_path: Path) -> None:
    run = one(tmp_path, **{"selector.rho": 0.1})
    run.check_settings()
    run.begin()
    run.folder.mkdir()
    run.check_settings()
    one(tmp_path, **{"selector.rho": 0.1, "trainer.max_time": 3}).check_settings()
    with pytest.raises(InputError, match=r"selector\.rho = 0\.1, now it is 0\.2"):
        one(tmp_path, **{"selector.rho": 0.2}).check_settings()
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"active": {"budget": 4}, "model": {"width": 16}}))
    with pytest.raises(InputError, match=r"model\.width = 8, now it is 16"):
        one(tmp_path, **{"selector.rho": 0.1}).check_settings()


def test_a_moved_comparison_still_knows_its_folders(tmp_path: Path) -> None:
    described = comparison(tmp_path, pretrain=True)
    (run,) = plan_runs(described, [0], tmp_path / "here")
    run.folder.mkdir(parents=True)
    run.begin()
    (tmp_path / "here").rename(tmp_path / "there")
    (moved,) = plan_runs(described, [0], tmp_path / "there")
    moved.check_settings()


def test_the_identity_of_a_run_holds_the_settings_of_its_pre_training_but_no_paths(tmp_path: Path) -> None:
    described = comparison(tmp_path, pretrain=True, A={"selector": "X", "rho": math.inf, "trainer.max_time": 3})
    here, there = (plan_runs(described, [3], tmp_path / name)[0].identity for name in ("here", "there"))
    assert here == there == json.loads(json.dumps(here))
    before = {"pretrain.seed_everything": 3, "pretrain.model.width": 8}
    assert here == {"seed_everything": 3, "model.width": 8, "selector": "X", "rho": math.inf, **before}
    assert first_difference(here, {**here, "pretrain.model.width": 9}) == ("pretrain.model.width", 8, 9)
    assert first_difference({"a": 1}, {}) == ("a", 1, None)


def makers(folder: Path) -> list[Run]:
    described = comparison(folder, pretrain=True)
    return [run for maker in "AB" for run in plan_pretraining(described, [0], folder, maker)]


def test_the_first_of_two_makers_gives_the_policy_to_both(tmp_path: Path) -> None:
    first, second = makers(tmp_path)
    assert first.folder == second.folder and first.made_in != second.made_in
    assert not first.publish()
    ready_runs.write_run(first.made_in, "first", 0)
    ready_runs.write_run(second.made_in, "second", 0)
    assert first.publish() and second.publish() and first.publish()
    assert (first.folder / "policy.safetensors").read_text() == "first"
    assert not first.made_in.exists() and not second.made_in.exists()


def test_an_unfinished_policy_is_not_given_to_anybody(tmp_path: Path) -> None:
    first, _ = makers(tmp_path)
    ready_runs.write_run(first.made_in, "first", 0, budget=2)
    assert not first.publish()
    assert not first.folder.exists()
