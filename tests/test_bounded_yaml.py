"""YAML of a stranger: read in bounded time and memory, and every key once."""

from pathlib import Path

import pytest
import yaml

from amf_lightning.bounded_yaml import RefusedYAML, check_yaml
from amf_lightning.configuration import read_configuration
from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)
REFUSED = {
    "a key twice": (
        "threads: 1\ndata: {batch_size: 1,\n  batch_size: 2}",
        "'batch_size' stands twice, in lines 2 and 3",
    ),
    "a section twice": ("data: {}\nactive: {}\ndata: {}", "'data' stands twice, in lines 1 and 3"),
    "a key twice, once in quotes": ("a: 1\n'a': 2", "'a' stands twice"),
    "billion laughs": (LAUGHS, "holds more than 100000 values"),
    "itself": ("data: &data {more: *data}", r"'\*data' within itself"),
    "deep": ("x: " + "[" * 200_000, "more than 64 levels deep"),
    "deep blocks": ("".join(f"{' ' * depth}a:\n" for depth in range(70)), "more than 64 levels deep"),
    "long": ("x: " + "y" * 2**20, "at most 1048576"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED)
def test_too_much_and_twice_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedYAML, match=reason):
        check_yaml(text)
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"a\.yaml cannot be used: .*{reason}"):
        read_configuration(tmp_path / "a.yaml")


@pytest.mark.parametrize("text", ["a: &a [1]\nb: *a\nc: *a", "- {a: 1}\n- {a: 2}", "<<: &m {a: 1}\na: 2", "", "a"])
def test_what_says_one_thing_is_read(text: str) -> None:
    check_yaml(text)


def test_shipped_files_are_read() -> None:
    for path in shipped_folder("configs").rglob("*.yaml"):
        check_yaml(path.read_text())


@pytest.mark.parametrize(
    "text", ["1:", "x: !!timestamp a", "x: !!int a", f"x: {'9' * 5000}", "? [a]\n: 1", "x: !!python/name:os.system"]
)
def test_values_that_cannot_be_made_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"a\.yaml (cannot be used|is not valid YAML)"):
        read_configuration(tmp_path / "a.yaml")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with path.open("wb") as file:
        file.truncate(2**33)  # sparse
    with pytest.raises(InputError, match="it has 8589934592 bytes"):
        read_configuration(path)


def test_an_error_of_yaml_stays_one() -> None:
    with pytest.raises(yaml.YAMLError):
        check_yaml("a: [")
