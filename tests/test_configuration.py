from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from amf_lightning.configuration import compose, find_configuration, merge, read_configuration
from amf_lightning.errors import InputError
from amf_lightning.shipped import shipped_folder


def write(folder: Path, **files: str) -> Path:
    """Writes `name.yaml` for each; the path of the last one."""
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(text)
    return path


def test_a_file_is_merged_into_its_base_key_by_key(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        lowest="active: {budget: 7, batch_size: 1}\nmodel: {width: 8}",
        base="config: lowest.yaml\nactive: {batch_size: 2}\nthreads: 1",
        run="config: base.yaml\nmodel: {depth: 3}",
    )
    assert read_configuration(path) == {
        "active": {"budget": 7, "batch_size": 2},
        "model": {"width": 8, "depth": 3},
        "threads": 1,
    }


def test_of_several_bases_the_later_ones_win_and_the_file_itself_last(tmp_path: Path) -> None:
    path = write(tmp_path, a="x: 1\ny: 1\nz: 1", b="y: 2\nz: 2", run="z: 3\nconfig: [a.yaml, b.yaml]")
    assert read_configuration(path) == {"x": 1, "y": 2, "z": 3}


def test_parts_are_put_in_wherever_they_are_named_and_are_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "selection").mkdir()
    write(
        tmp_path / "selection", embedding="class_path: E", gain="class_path: G\ninit_args: {embedding: embedding.yaml}"
    )
    path = write(tmp_path, run="selector: selection/gain.yaml\nother: not_there.yaml\nnames: [selection/gain.yaml]")
    assert read_configuration(path) == {
        "selector": {"class_path": "G", "init_args": {"embedding": {"class_path": "E"}}},
        "other": "not_there.yaml",  # a value like any other
        "names": ["selection/gain.yaml"],
    }


def test_another_class_drops_the_options_of_the_first_but_the_same_class_keeps_them(tmp_path: Path) -> None:
    base = "selector: {class_path: A, init_args: {k: 1, n: 2}}"
    other = write(tmp_path, base=base, run="config: base.yaml\nselector: {class_path: B, init_args: {m: 3}}")
    assert read_configuration(other)["selector"] == {"class_path": "B", "init_args": {"m": 3}}
    for text in ("{class_path: A, init_args: {k: 5}}", "{init_args: {k: 5}}"):
        same = write(tmp_path, run=f"config: base.yaml\nselector: {text}")
        assert read_configuration(same)["selector"] == {"class_path": "A", "init_args": {"k": 5, "n": 2}}
    short = write(tmp_path, run="config: base.yaml\nselector: B")
    assert read_configuration(short)["selector"] == "B"


@pytest.mark.parametrize(
    "files",
    [
        {"run": "config: run.yaml"},
        {"a": "config: run.yaml", "run": "config: [a.yaml]"},
        {"part": "x: part.yaml", "run": "suite: part.yaml"},
    ],
)
def test_a_file_that_includes_itself_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"includes itself: .* -> "):
        read_configuration(write(tmp_path, **files))


def test_a_file_may_be_included_twice(tmp_path: Path) -> None:
    path = write(tmp_path, part="class_path: P", run="one: part.yaml\ntwo: part.yaml")
    assert read_configuration(path) == {"one": {"class_path": "P"}, "two": {"class_path": "P"}}


def test_a_missing_base_or_damaged_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read: No such file"):
        read_configuration(write(tmp_path, run="config: nowhere.yaml"))
    with pytest.raises(InputError, match=r"part\.yaml is not valid YAML"):
        read_configuration(write(tmp_path, part="a: [", run="suite: part.yaml"))


def test_numbers_are_read_as_jsonargparse_reads_them(tmp_path: Path) -> None:
    """`1e-3` is a text in plain YAML 1.1."""
    assert read_configuration(write(tmp_path, run="lr: 1e-3\nname: on-policy")) == {"lr": 0.001, "name": "on-policy"}


def test_a_shipped_configuration_is_found_in_any_folder_and_ones_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = shipped_folder("configs") / "halfcheetah.yaml"
    assert find_configuration("configs/halfcheetah.yaml") == find_configuration("halfcheetah.yaml") == shipped
    (tmp_path / "halfcheetah.yaml").write_text("threads: 2")
    assert find_configuration("halfcheetah.yaml") == Path("halfcheetah.yaml")
    with pytest.raises(InputError, match=r"Did you mean configs/compare/halfcheetah-matched\.yaml\?"):
        find_configuration("configs/compare/halfcheetah-machted.yaml")
    with pytest.raises(InputError, match=r"In configs/ there are .*halfcheetah\.yaml"):
        find_configuration("zzz")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab", max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "class_path", "init_args"]), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from(["a", "b", "c"]), plain, max_size=3)


@settings(deadline=None)  # machines may be busy
@given(mappings, mappings)
def test_merging_keeps_all_that_the_file_says_and_nothing_that_neither_says(
    base: dict[str, object], own: dict[str, object]
) -> None:
    merged = merge(base, own)
    assert merge(merged, own) == merged
    assert merge(base, {}) == base and merge({}, own) == own
    assert merged.keys() == base.keys() | own.keys()


@settings(deadline=None)  # machines may be busy
@given(mappings)
def test_what_includes_nothing_is_composed_of_itself(content: dict[str, object]) -> None:
    assert compose(yaml.safe_load(yaml.safe_dump(content)), Path("/nowhere")) == content


def test_shipped_files_are_found_from_any_folder(tmp_path: Path) -> None:
    path = write(
        tmp_path, run="config: configs/base.yaml\nretention: configs/retention/default.yaml\nother: configs/no.yaml"
    )
    found = read_configuration(path)
    assert found == read_configuration(shipped_folder("configs") / "base.yaml") | {
        "retention": read_configuration(shipped_folder("configs") / "retention" / "default.yaml"),
        "other": "configs/no.yaml",
    }
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs", base="mine: 1")
    assert read_configuration(path)["mine"] == 1 and "trainer" not in read_configuration(path)
