import re
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from amf_lightning.errors import InputError
from amf_lightning.studies.specification import as_arguments, parse_seeds, read_specification


def write(folder: Path, **content: object) -> Path:
    (folder / "base.yaml").write_text("active: {budget: 4}\n")
    path = folder / "comparison.yaml"
    given = {
        "base": "base.yaml",
        "baseline": "Uniform",
        "strategies": {"Uniform": {"selector": "Uniform"}, "Ours": {"selector": "InformationGain"}},
    }
    path.write_text(
        yaml.safe_dump(
            {key: value for key, value in {**given, **content}.items() if value is not None}, sort_keys=False
        )
    )
    return path


def test_paths_are_relative_to_the_file_and_labels_are_free(tmp_path: Path) -> None:
    settings = {"selector": {"class_path": "InformationGain", "init_args": {"rho": 1.0}}, "active.batch_size": 2}
    path = write(tmp_path, strategies={"Uniform": {}, "ρ = 1": settings}, seeds="2:4", pretrain="base.yaml")
    comparison = read_specification(path)
    assert comparison.base == comparison.pretrain == tmp_path / "base.yaml"
    assert comparison.strategies == {"Uniform": {}, "ρ = 1": settings}
    assert comparison.seeds == range(2, 4)


def test_a_setting_may_name_a_file_beside_the_comparison_and_stands_for_its_content(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "frozen.yaml").write_text("class_path: Freeze\ninit_args: {share: 0.5}")
    part = {"class_path": "Freeze", "init_args": {"share": 0.5}}
    named = {
        "Uniform": {"retention": "parts/frozen.yaml"},
        "Written out": {"retention": part},
        "Other": {"a.b": "c.txt"},
    }
    strategies = read_specification(write(tmp_path, strategies=named)).strategies
    assert strategies["Uniform"] == strategies["Written out"]
    assert strategies["Other"] == {"a.b": "c.txt"}


def test_strategies_without_labels_are_called_by_their_selectors(tmp_path: Path) -> None:
    strategies = [{"selector": "Uniform"}, {"selector": {"class_path": "my.package.Mine"}, "active.batch_size": 1}]
    assert list(read_specification(write(tmp_path, strategies=strategies)).strategies) == ["Uniform", "Mine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"strategis": {}}, "unknown key 'strategis'. Did you mean 'strategies'?"),
        ({"zzz": 1}, "Known keys: base, baseline"),
        ({"base": "nothing.yaml"}, "there is no file"),
        ({"pretrain": "nothing.yaml"}, "pretrain names nothing.yaml"),
        ({"base": None}, "'base' is missing"),
        ({"baseline": "uniform"}, "baseline 'uniform' is not among the strategies: Uniform, Ours"),
        ({"strategies": {"Uniform": None}}, "'Uniform' needs a mapping"),
        ({"strategies": {"Uniform": {"seed_everything": 3}}}, "which the comparison sets itself"),
        ({"strategies": {"../Uniform": {}}}, "cannot name a folder"),
        ({"strategies": [{"selector": "Uniform"}, {"selector": "Uniform"}]}, "two strategies are called 'Uniform'"),
        ({"strategies": [{"active.batch_size": 2}]}, "without a label must name its selector"),
        ({"strategies": "Uniform"}, "must map labels to settings"),
        ({"seeds": 70}, "must be A:B"),
        ({"seeds": "4:4"}, "must be A:B"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        read_specification(write(tmp_path, **content))


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "\x00"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_specification(path)


def test_a_missing_file_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="no configuration nowhere"):
        read_specification(Path("nowhere.yaml"))


@pytest.mark.parametrize("text", ["5", "a:b", "3:1", "-1:2", "1:", ":1", "0:1:2", ""])
def test_seeds_that_are_no_range_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="A:B"):
        parse_seeds(text)


def test_settings_reach_the_command_line_as_they_were_written() -> None:
    settings = {
        "a.text": "Uniform",
        "a.number": 0.1,
        "a.flag": False,
        "a.none": None,
        "a.list": [1, 2],
        "b": {"c": "d e"},
    }
    parser = ArgumentParser()
    parser.add_argument("--a.text", type=str)
    parser.add_argument("--a.number", type=float)
    parser.add_argument("--a.flag", type=bool)
    parser.add_argument("--a.none", type=int | None, default=3)
    parser.add_argument("--a.list", type=list[int])
    parser.add_argument("--b", type=dict[str, str])
    parsed = parser.parse_args(as_arguments(settings)).as_dict()
    assert parsed == {
        "a": {"text": "Uniform", "number": 0.1, "flag": False, "none": None, "list": [1, 2]},
        "b": {"c": "d e"},
    }
