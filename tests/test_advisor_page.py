"""The page on the advisor: its recipe writes features that the advisor reads."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from amf_process import amf
from test_docs import DOCS, NAMED, blocks, python

PAGE = "advisor.md"


def write_files(folder: Path) -> None:
    for text in blocks(PAGE, "python"):
        named = NAMED.match(text)
        assert named is not None
        (folder / named[1]).write_text(text)


def test_the_recipe_writes_what_the_advisor_reads(tmp_path: Path) -> None:
    write_files(tmp_path)
    python("write_features.py", cwd=tmp_path)
    shapes = {np.load(path).shape for path in (tmp_path / "features").rglob("*.npy")}
    assert shapes == {(50, 32)}, "the input of the last layer, a row a step"
    done = amf("advise", "--features", "features", "-n", "2", "--json", cwd=tmp_path)
    assert done.code == 0, done.said
    content = json.loads(done.stdout)
    assert {request["task"] for request in content["requests"]} == {"task-1", "task-2"}, "task-0 was demonstrated"


def test_from_python(tmp_path: Path) -> None:
    write_files(tmp_path)
    python("from_python.py", cwd=tmp_path)


def test_the_settings_on_the_page_are_settings() -> None:
    from amf_lightning.selection.feature_world import AdvisorSettings

    (text,) = [text for text in (DOCS / PAGE).read_text().split("```") if text.startswith("\n# advise.yaml")]
    for name, values in yaml.safe_load(text).items():
        assert name in AdvisorSettings.__dataclass_fields__ and all(value > 0 for value in values.values())


@pytest.mark.formats
@pytest.mark.skipif(
    find_spec("lerobot") is None,
    reason="LeRobot wants Python 3.12 and an older torch: `make test-formats` runs this in an environment of its own",
)
def test_the_lerobot_example_runs(tmp_path: Path) -> None:
    from lerobot_world import make_checkpoint_and_data

    write_files(tmp_path)
    make_checkpoint_and_data(tmp_path)
    python("lerobot_act.py", "checkpoint", "me/data", "data", "candidates", cwd=tmp_path)
    found = sorted(
        path.relative_to(tmp_path / "features/candidates") for path in (tmp_path / "features").rglob("*.npy")
    )
    assert [str(path) for path in found] == ["pick-place/000000.npy", "wipe/000001.npy"]
    assert all(np.load(tmp_path / "features/candidates" / path).shape == (6, 32) for path in found)
