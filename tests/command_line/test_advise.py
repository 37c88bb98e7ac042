"""`amf advise` reads files of features, refuses what cannot be used by name, and prints text or JSON."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amf_lightning.command_line.advise import main
from amf_lightning.errors import InputError
from amf_lightning.selection.feature_world import statistics_of


def episode(task: int, seed: int = 0, width: int = 3) -> Any:
    rows = np.random.default_rng([task, seed]).normal(size=(10, width)) * 0.1
    rows[:, task] += 3.0
    return rows.astype(np.float32)


def save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks that may be demonstrated, of which one was."""
    for task, name in enumerate(("open drawer", "wipe")):
        for number in range(2):
            save(tmp_path / "candidates" / name / f"{number}.npy", episode(task, number))
    save(tmp_path / "demonstrated" / "wipe" / "0.npy", episode(1, 9))
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main([*arguments])
    return capsys.readouterr().out


def test_text_and_json_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "--features", str(folder), "-n", "3")
    content = json.loads(printed(capsys, "--features", str(folder), "-n", "3", "--json"))
    assert len(content["requests"]) == 3 == sum(content["counts"].values())
    first = content["requests"][0]
    assert first["task"] == "open drawer" and first["runner_up"] == "wipe" and first["score"] > first["runner_up_score"]
    assert content["demonstrated"] == {"open drawer": 0, "wipe": 1}
    assert first["reason"] in text and "In all: " in text
    again = json.loads(printed(capsys, "--features", str(folder), "--json", "--pending", "open drawer"))
    assert again["requests"][0]["score"] == pytest.approx(content["requests"][1]["score"])


def test_an_archive_says_what_a_folder_says(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "--features", str(folder), "--json")
    paths = list(folder.rglob("*.npy"))
    entries = {path.relative_to(folder).as_posix().removesuffix(".npy"): np.load(path) for path in paths}
    for place in (tmp_path / "one" / "my.npz", tmp_path / "two" / "features.npz"):
        place.parent.mkdir()
        np.savez_compressed(place, **entries)
    assert printed(capsys, "--features", str(tmp_path / "one" / "my.npz"), "--json") == found
    assert printed(capsys, "--features", str(tmp_path / "two"), "--json") == found


def test_the_pretraining_is_episodes_or_their_statistics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = [episode(0, seed) for seed in range(20, 25)]
    for number, each in enumerate(known):
        save(folder / "pretraining" / f"{number}.npy", each)
    found = json.loads(printed(capsys, "--features", str(folder), "--json"))
    assert found["requests"][0]["task"] == "wipe", "the other one was in the pre-training"
    for path in (folder / "pretraining").iterdir():
        path.unlink()
    sums = statistics_of(known)
    moment, largest = sums.second_moment.numpy(), np.array(sums.largest_norm)
    np.savez(folder / "pretraining.npz", second_moment=moment, count=np.array(sums.count), largest_norm=largest)
    assert json.loads(printed(capsys, "--features", str(folder), "--json")) == found


def test_settings_are_read_from_yaml(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "advise.yaml").write_text("costs: {open drawer: 1000}\nremaining: {wipe: 1}\n")
    content = json.loads(printed(capsys, "--features", str(folder), "--json", "-n", "2"))
    assert [request["task"] for request in content["requests"]] == ["wipe", "open drawer"]


def pickled(folder: Path) -> Path:
    path = folder / "candidates" / "wipe" / "bad.npy"
    np.save(path, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    return path


def raw_pickle(folder: Path) -> Path:
    path = folder / "candidates" / "wipe" / "bad.npy"
    path.write_bytes(pickle.dumps([1, 2]))
    return path


def truncated(folder: Path) -> Path:
    path = folder / "candidates" / "wipe" / "bad.npy"
    content = io.BytesIO()
    np.save(content, episode(1))
    path.write_bytes(content.getvalue()[:-20])
    return path


def array(content: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save(path := folder / "demonstrated" / "wipe" / "bad.npy", content)
        return path

    return write


def empty_task(folder: Path) -> Path:
    (path := folder / "candidates" / "fold").mkdir()
    return path


def settings(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (path := folder / "advise.yaml").write_text(text)
        return path

    return write


def archive(**entries: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(path := folder / "features.npz", **entries)
        return path

    return write


def not_zip(folder: Path) -> Path:
    (path := folder / "features.npz").write_bytes(b"no archive")
    return path


def bad_statistics(folder: Path) -> Path:
    np.savez(folder / "pretraining.npz", second_moment=-np.eye(4), count=3, largest_norm=1.0)
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (pickled, "holds Python objects"),
        (raw_pickle, "cannot be read"),
        (truncated, "cannot be read"),
        (array(np.full((3, 3), np.nan)), "holds NaN or infinity"),
        (array(np.full((3, 3), np.inf)), "holds NaN or infinity"),
        (array(episode(1, width=4)), "has 4 features, but .* has 3"),
        (array(np.zeros((0, 3))), "holds nothing"),
        (array(np.zeros(3)), r"has shape \[3\]"),
        (array(np.zeros((3, 3), dtype=complex)), "features are real numbers"),
        (empty_task, "holds no episode"),
        (settings("costs: {fold: 2}"), "costs names task 'fold'"),
        (settings("cost: {wipe: 2}"), "Did you mean 'costs'"),
        (settings("costs: {wipe: cheap}"), "costs of 'wipe' is 'cheap'"),
        (settings("costs: {wipe: 1, wipe: 2}"), "stands twice"),
        (archive(features=episode(0)), "is none of candidates/TASK/NAME"),
        (archive(**{"candidates/a/0": np.array([{}], dtype=object)}), "holds Python objects"),
        (not_zip, "cannot be read"),
        (bad_statistics, "is no sum of"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(folder: Path, damage: Callable[[Path], Path], message: str) -> None:
    path = damage(folder)
    with pytest.raises(InputError, match=message) as refused:
        main(["--features", str(folder)])
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_place_without_features_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="candidates/TASK"):
        main(["--features", str(tmp_path / name)])
