"""Configurations that hypothesis makes of the shipped ones: refused in a line, or taken at their word."""

import contextlib
import io
import json
import math
import os
import resource
import shutil
import traceback
from collections.abc import Mapping, Sequence
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from forks import PROCESSES
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lightning import Trainer
from tiny_runs import CONFIGS

from amf_lightning.command_line.main import main
from amf_lightning.configuration import read_configuration
from amf_lightning.errors import ExitCode
from soak.case import Bench
from soak.lost import check
from soak.program import PATIENCE

TOGETHER = 20
"""Configurations that one process reads."""
MEMORY = 8 << 30
"""Bytes of addresses that it may have: a configuration that wants more is not to take them from others."""
SHIPPED = ("integrator.yaml", "overlapping-goals.yaml", "precise-goals.yaml", "halfcheetah.yaml")
KEYS = (
    "config",
    "suite",
    "expert",
    "selector",
    "retention",
    "evaluation",
    "model",
    "data",
    "active",
    "reports",
    "trainer",
)
MORE = (
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.devices",
    "trainer.precision",
    "trainer.gradient_clip_val",
    "trainer.accumulate_grad_batches",
    "trainer.max_epochs",
    "trainer.callbacks",
    "trainer.logger",
    "trainer.default_root_dir",
    "model.policy",
    "model.optimizer",
    "model.pretrained",
    "active.stop",
    "seed_everything",
    "threads",
    "reports.animation",
    "ckpt_path",
)
"""Keys that a shipped configuration may leave to their defaults."""
COMMAND = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}
ODD: tuple[Any, ...] = (
    *(True, False, 0, 1, -1, 2, 10**12, 2**63, 2**64, 0.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *(
        "",
        " ",
        "x",
        "~",
        "null",
        "nan",
        "1e3",
        "0x10",
        "yes",
        "RoundRobin",
        "MLPPolicy",
        "os.system",
        "a" * 300,
        "a\0b",
    ),
    *("base.yaml", "suite", "ünïcode/😀", "${HOME}", "%s", "{x}"),
    *([], [1], [[]], [None], ["RoundRobin"], [{}], {}, {"": 1}, {"a": 1}, {1: 2}, {"class_path": "x"}),
    *(
        {"class_path": None},
        {"class_path": 1},
        {"class_path": "os.system"},
        {"class_path": "RoundRobin", "init_args": 1},
    ),
    *({"class_path": "Integrator", "init_args": {"horizon": None}}, {"init_args": {}}, COMMAND),
)
Found = dict[str, str]
"""What is wrong, and the configuration."""


def keys_of(config: Any, before: str = "") -> list[str]:
    """Every dotted key of a configuration, sections included."""
    if not isinstance(config, Mapping):
        return [before] if before else []
    below = [key for name, value in config.items() for key in keys_of(value, f"{before}.{name}".lstrip("."))]
    return [*([before] if before else []), *below]


def with_value(config: Any, key: str, value: Any) -> Any:
    """A copy of a configuration with a value at a dotted key."""
    name, _, rest = key.partition(".")
    section = dict(config) if isinstance(config, Mapping) else {}
    section[name] = with_value(section.get(name), rest, value) if rest else value
    return section


def without(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A copy of a configuration without a dotted key."""
    name, _, rest = key.partition(".")
    section = dict(config)
    if not rest:
        section.pop(name, None)
    elif isinstance(section.get(name), Mapping):
        section[name] = without(section[name], rest)
    return section


def value_at(config: Any, key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for name in key.split("."):
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


VALUES = st.one_of(
    st.sampled_from(ODD),
    st.none(),
    st.recursive(
        st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
        lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=6), below, max_size=3),
        max_leaves=5,
    ),
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A YAML text, and what it says at which keys beyond a shipped configuration; nothing if it is damaged as text."""
    config = read_configuration(CONFIGS / draw(st.sampled_from(SHIPPED)))
    said: dict[str, Any] = {}
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from(sorted({*keys_of(config), *MORE})))
        way = draw(st.sampled_from(["value"] * 6 + ["unknown", "missing"]))
        if way == "missing":
            config = without(config, key)
            said = {other: value for other, value in said.items() if not other.startswith(key)}
            continue
        if way == "unknown":
            key += draw(st.sampled_from(["s", ".x", "_", ".class_path"]))
        value = draw(VALUES)
        config = with_value(config, key, value)
        said = {other: known for other, known in said.items() if not (key.startswith(other) or other.startswith(key))}
        said[key] = value
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    way = draw(st.sampled_from(["as it is"] * 6 + ["twice", "cut", "inserted", "deep", "laughs"]))
    return damaged_text(text, way, draw(st.integers(0, len(text))), draw(st.text(max_size=3))), (
        said if way == "as it is" else {}
    )


def damaged_text(text: str, way: str, place: int, more: str) -> str:
    """A YAML text that is damaged in some way."""
    lines = text.splitlines(keepends=True)
    if way == "twice":  # a section, or a part of one, that is there two times
        line = place % len(lines)
        return "".join([*lines[: line + 1], lines[line], *lines[line + 1 :]])
    if way == "cut":
        return text[:place]
    if way == "inserted":
        return text[:place] + more + text[place:]
    if way == "deep":
        return text + "x: " + "[" * (place + 10) + "]" * (place + 10) + "\n"
    if way == "laughs":
        names = [f"l{number}" for number in range(30)]
        bomb = [f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise(names)]
        return text + "l0: &l0 [lol]\n" + "".join(bomb)
    return text


def agrees(given: Any, resolved: Any) -> bool:
    """Whether a resolved configuration says what was given: types may be converted and defaults filled in."""
    if given is None or given == {}:
        return True  # not set
    if resolved is None and given == "null":
        return True  # on the command line, and for jsonargparse everywhere, the text is the value
    if isinstance(given, Mapping):
        return isinstance(resolved, Mapping) and all(agrees(value, resolved.get(key)) for key, value in given.items())
    if isinstance(given, str) and isinstance(resolved, Mapping):
        return str(resolved.get("class_path", "")).endswith(given) and bool(given)
    if isinstance(given, Sequence) and not isinstance(given, str):
        return (
            isinstance(resolved, Sequence)
            and len(given) == len(resolved)
            and all(agrees(one, other) for one, other in zip(given, resolved, strict=True))
        )
    if isinstance(given, bool) or isinstance(resolved, bool):
        return str(given).lower() in _spellings(resolved)
    try:
        return float(given) == float(resolved) or (math.isnan(float(given)) and math.isnan(float(resolved)))
    except (TypeError, ValueError, OverflowError):
        return str(resolved) in (str(given), str(Path(str(given)).expanduser())) or str(resolved).endswith(f".{given}")


def _spellings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, bool):
        return (str(value).lower(),)
    return ("true", "yes", "on") if value else ("false", "no", "off")


def complaint(text: str, said: Mapping[str, Any]) -> str | None:
    """What is wrong with how `amf fit` takes a configuration; None if nothing is."""
    Path("fuzz.yaml").write_text(text, errors="surrogatepass")
    out, code, error = io.StringIO(), 0, None
    before = {path.name for path in Path().iterdir()}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(["fit", "--config", "fuzz.yaml", "--trainer.default_root_dir", "run"])
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 1
        except BaseException:
            error = traceback.format_exc()
    resolved = yaml.safe_load(Path("run/config.yaml").read_text()) if Path("run/config.yaml").exists() else None
    for path in Path().iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            if path.name not in ("run", "amf-traceback.log"):
                return f"it wrote {path.name}"
    if error or "Traceback" in out.getvalue():
        return f"a traceback: {(error or out.getvalue())[-1500:]}"
    if code in (ExitCode.FINISHED, ExitCode.UNFINISHED):  # nothing was trained
        if resolved is None:
            return "it ended with 0 and read nothing"
        ignored = [key for key, value in said.items() if not agrees(value, value_at(resolved, key))]
        ignored = [key for key in ignored if key not in ("config", "trainer.default_root_dir", "ckpt_path")]
        pairs = "; ".join(f"{key} = {said[key]!r}, read as {value_at(resolved, key)!r}" for key in ignored)
        return f"ignored in silence: {pairs}" if ignored else None
    if code not in (ExitCode.BAD_INPUT, ExitCode.MACHINE, ExitCode.USER_CODE):
        return f"exit code {code}: {out.getvalue()[-500:]}"
    lines = [line for line in out.getvalue().splitlines() if line.startswith("amf: ")]
    return None if len(lines) == 1 else f"{len(lines)} lines instead of one: {out.getvalue()[-500:]}"


def read_many(folder: Path, number: int) -> None:
    """Reads configurations in a folder, without training, and writes down what is wrong with how they were taken."""
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    Trainer.fit = wraps(Trainer.fit)(lambda *_, **__: None)  # type: ignore[method-assign]
    found: list[Found] = []

    @seed(number)
    @settings(
        max_examples=TOGETHER,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(documents())
    def read(document: tuple[str, dict[str, Any]]) -> None:
        text, said = document
        if wrong := complaint(text, said):
            found.append({"wrong": wrong, "text": text})

    read()
    Path("found.json").write_text(json.dumps(found))


def fuzzed(bench: Bench) -> None:
    """Some configurations, all read by one process."""
    bench.inputs += TOGETHER
    number = bench.draw.randrange(1 << 30)
    process = PROCESSES.Process(target=read_many, args=(bench.folder, number))
    process.start()
    process.join(PATIENCE.seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        check(False, f"hangs, or dies, at {(bench.folder / 'fuzz.yaml').read_text(errors='replace')[-1500:]}")
    check(process.exitcode == 0, f"the process that read it ended with {process.exitcode}: see fuzz.yaml")
    found: list[Found] = json.loads((bench.folder / "found.json").read_text())
    for index, each in enumerate(found):
        (bench.folder / f"found-{index}.yaml").write_text(each["text"], errors="surrogatepass")
        bench.note(f"found-{index}.yaml: {each['wrong']}")
    check(not found, f"{len(found)} of {TOGETHER}, see notes.txt. The first: {(found or [{'wrong': ''}])[0]['wrong']}")
