"""Shipped configurations with something wrong in them, anything: read and made, or refused in a line."""

import copy
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parsed import changed, made

from amf_lightning.configuration import read_configuration
from amf_lightning.shipped import shipped_folder

RUN = {
    **read_configuration(shipped_folder("configs") / "integrator.yaml"),
    "model": {"policy": {"class_path": "MLPPolicy", "init_args": {"hidden": [4]}}},
}
CONFIGURATIONS = [
    RUN,
    {key: value for key, value in RUN.items() if key != "model"},
    changed(selector=read_configuration(shipped_folder("configs") / "selection" / "information-gain.yaml")),
    changed(retention=read_configuration(shipped_folder("configs") / "retention" / "default.yaml")),
]
SCALARS = [
    None,
    True,
    -1,
    0,
    1,
    2**40,
    1e300,
    math.nan,
    math.inf,
    "",
    "x",
    "~",
    "a.b",
    "os.system",
    "\0",
    "é" * 300,
    "{",
]
COLLECTIONS = [[], [1], ["a"], {}, {"a": 1}, {"class_path": "x"}, {"class_path": None}, {"init_args": []}, [[]]]
OTHERS = ["configs/x.yaml", "- a", "2020-01-01", b"x", "1e3", "é" * 300, {"class_path": "subprocess.Popen"}]
JUNK = st.sampled_from([*SCALARS, *COLLECTIONS, *OTHERS])


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A configuration in which a few values are replaced, taken away or moved."""
    content = copy.deepcopy(draw(st.sampled_from(CONFIGURATIONS)))
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(content)) or [("data",)]))
        within = content
        for key in path[:-1]:
            within = within[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                within[path[-1]] = draw(JUNK)
            case "remove" if isinstance(within, dict):
                within.pop(path[-1], None)
            case _ if isinstance(within, dict):
                within[draw(st.sampled_from(["x", "class_path", "init_args", "horizon", "config", "trainer"]))] = draw(
                    JUNK
                )
    return content


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(damaged())
def test_whatever_is_wrong_is_said_in_a_line(content: Any) -> None:
    _try(content)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged())
def test_whatever_is_wrong_is_said_in_a_line_a_thousand_times(content: Any) -> None:
    _try(content)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text(alphabet="ab:-[]{}&*!,'\"# \n1.~|>%@", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    _try(text)


def _try(content: Any) -> None:
    """Fails if anything is raised that is not a refusal, or the refusal is more than a line."""
    with tempfile.TemporaryDirectory() as folder:
        said = made(Path(folder), content)
        assert said is None or (said and len(said.strip().splitlines()) == 1 and "Traceback" not in said), said
        assert {path.name for path in Path(folder).iterdir()} <= {"run.yaml"}
