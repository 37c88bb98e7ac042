"""What a configuration may say: sections, numbers, classes. Everything is parsed and made, nothing is run."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from parsed import changed, made

from amf_lightning.command_line.options import _GROUPS
from amf_lightning.command_line.values import SIGNED
from amf_lightning.configuration import SECTIONS
from amf_lightning.errors import InputError
from amf_lightning.studies.specification import parse_seeds, read_specification

OF_A_WRONG_TYPE = ([{"batch_size": 8}], -1, True, [1], math.nan, None, "8", 0.5, "")


def of(kind: str, **options: Any) -> dict[str, Any]:
    return {"class_path": kind, "init_args": options}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", OF_A_WRONG_TYPE, ids=repr)
def test_a_section_of_a_wrong_type_is_refused_by_name(section: str, value: Any, tmp_path: Path) -> None:
    said = made(tmp_path, {**changed(), section: value})
    assert said is not None and f"run.yaml: '{section}' must hold a mapping" in said, said
    comparison = tmp_path / "compare.yaml"
    (tmp_path / "base.yaml").write_text("active: {budget: 2}")
    strategies = {"A": {section: value}}
    comparison.write_text(f"base: base.yaml\nbaseline: A\nstrategies: {strategies!r}".replace("None", "null"))
    with pytest.raises(InputError, match=f"strategy 'A': '{section}' must hold a mapping"):
        read_specification(comparison)


def test_every_section_is_known() -> None:
    assert set(SECTIONS) == {*_GROUPS, "trainer"}


def test_what_is_right_can_be_made(tmp_path: Path) -> None:
    assert made(tmp_path, changed()) is None


NUMBERS = {
    "suite": ("suite", "Integrator", {"radius": "float", "horizon": "int", "tolerance": "float"}),
    "expert": ("expert", "IntegratorExpert", {"noise": "float", "max_attempts": "int"}),
    "selector": ("selector", "UncertaintySampling", {"rho": "float"}),
    "occupancy": ("selector.occupancy", "PolicyRollout", {"episodes": "int", "states": "int"}),
    "retention": ("retention", "SelfDistillation", {"weight": "float", "episodes": "int", "noise": "float"}),
    "policy": ("model.policy", "MLPPolicy", {"action_std": "float"}),
    "optimiser": ("model.optimizer", "AdamW", {"lr": "float", "eps": "float"}),
}
OPTIONS = [(place, kind, name, of) for place, kind, names in NUMBERS.values() for name, of in names.items()]


@pytest.mark.parametrize(("place", "kind", "name", "type_"), OPTIONS)
def test_no_option_of_a_part_takes_what_is_no_number(
    place: str, kind: str, name: str, type_: str, tmp_path: Path
) -> None:
    wrong: list[Any] = [math.nan, math.inf, -math.inf, True, None]
    wrong += [] if place == "model.optimizer" else [-1]  # torch says that itself when it is made
    wrong += [10**12] if type_ == "int" else []
    for value in wrong:
        part = of(kind, **{name: value})
        content = {
            "selector.occupancy": lambda part: changed(selector=of("UncertaintySampling", occupancy=part)),
            "model.policy": lambda part: changed(model={"policy": part}),
            "model.optimizer": lambda part: changed(model={"optimizer": part}),
        }.get(place, lambda part: changed(**{place: part}))(part)
        assert (said := made(tmp_path, content)) is not None, value
        assert f"{name} is " in said or f"{name}: expected " in said, said


@pytest.mark.parametrize("key", ["data.batch_size", "data.steps_per_round", "active.budget", "active.batch_size"])
def test_no_number_of_a_section_takes_what_is_no_number(key: str, tmp_path: Path) -> None:
    section, _, name = key.partition(".")
    for value in (math.nan, math.inf, -1, 0, True, None, 10**12):
        assert made(tmp_path, changed(**{section: {name: value}})) is not None, value


def test_true_is_no_one_where_one_is_the_default(tmp_path: Path) -> None:
    """Equal to the default, it passed for it."""
    said = made(tmp_path, changed(suite=of("Integrator", radius=True)))
    assert said is not None
    assert made(tmp_path, changed(threads=True)) is not None


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"suite": of("Integrator", angles=[0, math.nan])}, "suite.init_args.angles[1] is nan"),
        ({"model": {"policy": of("MLPPolicy", hidden=[-1])}}, "hidden[0] is -1; it cannot be negative"),
        ({"model": {"policy": None}}, "model.policy is null; give a class"),
        ({"selector": of("InformationGain", embedding=None)}, "selector.init_args.embedding is null; give a class"),
        ({"active": {"stop": {"below": math.nan}}}, "active.stop.below is nan"),
        ({"trainer": {"gradient_clip_val": math.inf}}, "trainer.gradient_clip_val is inf"),
        ({"trainer": {"gradient_clip_val": -1}}, "trainer.gradient_clip_val is -1"),
        ({"trainer": {"check_val_every_n_epoch": 0}}, "trainer.check_val_every_n_epoch is 0"),
        ({"trainer": {"val_check_interval": 0}}, "trainer.val_check_interval is 0"),
        ({"trainer": {"accelerator": "abacus"}}, "invalid accelerator name: `accelerator='abacus'`"),
        ({"trainer": {"accelerator": "tpu"}}, "The trainer cannot be made"),
        ({"trainer": {"strategy": "guess"}}, "invalid strategy name: `strategy='guess'`"),
        ({"trainer": {"devices": "two"}}, "`devices` selected with `CPUAccelerator`"),
        ({"trainer": {"devices": 999, "accelerator": "cpu"}}, "trainer.devices: 999 starts as many processes on"),
        ({"seed_everything": 2**32}, "seed_everything is 4294967296; give a number, at least 0 and below 4294967296"),
        ({"suite": {}}, "TaskSuite is only what such classes have in common"),
        ({"trainer": {"default_root_dir": ""}}, "trainer.default_root_dir is empty"),
        ({"trainer": {"default_root_dir": "x" * 300}}, "is too long for a path"),
        ({"trainer": {"default_root_dir": "a\0b"}}, "cannot be seen"),
        ({"trainer": {"default_root_dir": "~nobody-here/x"}}, "there is no home folder ~nobody-here"),
        ({"config": True}, "'config' must name a file, or a list of files, not true"),
        ({"config": [1]}, "'config' must name a file, or a list of files, not [1]"),
        ({"config": ""}, "config is empty"),
        ({1: 2}, "the key 1 is no name"),
        ({"data": {1: 2}}, "the key 1 below 'data' is no name"),
    ],
)
def test_a_value_is_refused_by_its_key(changes: dict[Any, Any], phrase: str, tmp_path: Path) -> None:
    said = made(tmp_path, {**changed(), **changes})
    assert said is not None and phrase in said and "\n" not in said, said
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_number_that_may_be_negative_may(tmp_path: Path) -> None:
    suite = of("GymnasiumSuite", environment="CartPole-v1", tasks=[{"name": "a"}], return_threshold=-3.0, horizon=5)
    said = made(
        tmp_path,
        changed(suite=suite, expert=of("ActorExpert", actor="tiny.Steer"), model={"policy": "CategoricalMLPPolicy"}),
    )
    assert said is None and "return_threshold" in SIGNED


def test_the_home_folder_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from amf_lightning.configuration import user_path

    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/runs", "--output") == tmp_path / "runs"


@pytest.mark.parametrize("seeds", ["0:99999999999", f"0:{'9' * 5000}", "4294967290:4294967297", "0:10001"])
def test_more_seeds_than_anybody_has_are_refused(seeds: str) -> None:
    with pytest.raises(InputError, match=r"--seeds .* seeds"):
        parse_seeds(seeds)


# -- code that a configuration names ---------------------------------------------------------------------------------

TOUCH = "touch broken-in"
GYM = "GymnasiumSuite"
BREAK_INS: dict[str, dict[str, Any]] = {
    "actor": {"expert": of("ActorExpert", actor="os.system", arguments={"command": TOUCH})},
    "actor of Python": {"expert": of("ActorExpert", actor="subprocess.call", arguments={"args": TOUCH, "shell": True})},
    "actor, a class": {"expert": of("ActorExpert", actor="subprocess.Popen", arguments={"args": TOUCH, "shell": True})},
    "actor, in Python": {"expert": of("ActorExpert", actor="builtins.exec", arguments={})},
    "environment": {"suite": of(GYM, environment="os.system", arguments={"command": TOUCH}, tasks=[{"name": "a"}])},
    "environment, a class": {
        "suite": of(
            GYM, environment="subprocess.Popen", arguments={"args": TOUCH, "shell": True}, tasks=[{"name": "a"}]
        )
    },
    "environment of a task": {
        "suite": of(
            GYM, environment="subprocess.Popen", tasks=[{"name": "a", "arguments": {"args": TOUCH, "shell": True}}]
        )
    },
    "policy": {"model": {"policy": of("os.system", command=TOUCH)}},
    "policy, a class": {"model": {"policy": of("subprocess.Popen", args=TOUCH, shell=True)}},
    "policy, by its name": {"model": {"policy": "os.system"}},
    "optimiser": {"model": {"optimizer": of("os.system", command=TOUCH)}},
    "optimiser, a class": {"model": {"optimizer": of("subprocess.Popen", args=TOUCH, shell=True)}},
    "controller": {"model": {"controller": of("os.system", command=TOUCH)}},
    "suite": {"suite": of("subprocess.Popen", args=TOUCH, shell=True)},
    "expert": {"expert": of("os.system", command=TOUCH)},
    "kwargs": {"expert": {"class_path": "subprocess.Popen", "dict_kwargs": {"args": TOUCH, "shell": True}}},
    "callback": {"trainer": {"callbacks": [of("subprocess.Popen", args=TOUCH, shell=True)]}},
    "logger": {"trainer": {"logger": of("subprocess.Popen", args=TOUCH, shell=True)}},
    "plugin": {"trainer": {"plugins": [of("os.system", command=TOUCH)]}},
    "profiler": {"trainer": {"profiler": of("os.system", command=TOUCH)}},
    "strategy": {"trainer": {"strategy": of("os.system", command=TOUCH)}},
    "function of a callback": {
        "trainer": {
            "callbacks": [of("lightning.pytorch.callbacks.LambdaCallback", setup=of("os.system", command=TOUCH))]
        }
    },
    "function of a callback, by its name": {
        "trainer": {"callbacks": [of("lightning.pytorch.callbacks.LambdaCallback", setup="os.system")]}
    },
    "object among plain values": {
        "expert": of("ActorExpert", actor="tiny.Steer", arguments={"x": of("subprocess.Popen", args=TOUCH, shell=True)})
    },
    "deep in a part": {"selector": of("InformationGain", occupancy=of("os.system", command=TOUCH))},
    "activation": {"expert": of("StateDictExpert", weights="x", activation="subprocess.Popen")},
}


@pytest.mark.parametrize("changes", BREAK_INS.values(), ids=BREAK_INS)
def test_no_configuration_calls_what_its_key_does_not_ask_for(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("os.system", "subprocess.Popen", "os.posix_spawn", "os.exec") and "broken-in" in repr(arguments):
            called.append(event)

    _AUDITED.append(watch)
    try:
        said = made(tmp_path, changed(**changes))
    finally:
        _AUDITED.remove(watch)
    assert said is not None and not called, (said, called)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


_AUDITED: list[Any] = []
sys.addaudithook(lambda event, arguments: [watch(event, arguments) for watch in _AUDITED] and None)  # stays for good


def test_functions_that_say_what_they_make_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_by_hand.py").write_text(
        "import gymnasium\nimport tiny\n"
        "def actor() -> tiny.Steer:\n    return tiny.Steer()\n"
        "def environment() -> 'gymnasium.Env':\n    return gymnasium.make('CartPole-v1')\n"
        "def silent():\n    return tiny.Steer()\n"
        "def other() -> int:\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = {"policy": "CategoricalMLPPolicy"}
    suite = of(GYM, environment="made_by_hand.environment", tasks=[{"name": "a"}], horizon=5, return_threshold=1.0)
    expert = of("ActorExpert", actor="made_by_hand.actor")
    assert made(tmp_path, changed(suite=suite, expert=expert, model=model)) is None
    for name, reason in {
        "silent": "is no class: it is a function whose return type is not a class",
        "other": "has no method act(observations, contexts) (what it returns)",
    }.items():
        said = made(tmp_path, changed(expert=of("ActorExpert", actor=f"made_by_hand.{name}")))
        assert said is not None and reason in said, said


def test_a_training_of_an_expert_refuses_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from amf_lightning.command_line.train_expert import main

    monkeypatch.chdir(tmp_path)
    for text, phrase in {
        "recipe: [1]": "'recipe' must hold a mapping",
        "recipe: {env_steps: 1,\n env_steps: 2}": "'env_steps' stands twice",
        "recipe: {env_steps: -1}": r"recipe\.env_steps is -1",
    }.items():
        (tmp_path / "train.yaml").write_text(text)
        with pytest.raises(InputError, match=phrase):
            main(["--config=train.yaml", "--suite=HalfCheetahVelocity", "--output=out"])


def test_weights_that_no_file_can_be_called_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x" * 300, "a\0b", "~nobody-here/x", ""):
        said = made(tmp_path, changed(model={"pretrained": name}))
        assert said is not None and "No file and no shipped weights" in said, said
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.safetensors").write_bytes(b"")
    assert "truncated or not" in str(made(tmp_path, changed(model={"pretrained": "~/mine.safetensors"})))
