"""Makes a part of every class that the catalogue finds: with its defaults, or with the example that its class needs."""

import inspect
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from selection_world import demonstrate

from amf_lightning.catalogue import classes, resolve
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.task import TaskSuite


@cache
def stored(suite: TaskSuite) -> "tempfile.TemporaryDirectory[str]":
    """A store with a demonstration of each of the first two tasks, for as long as the tests run."""
    folder = tempfile.TemporaryDirectory()
    for number, trajectory in enumerate(demonstrate(suite, [0, 1])):
        DemonstrationStore(Path(folder.name)).write(number, trajectory)
    return folder


EXAMPLES: dict[str, Callable[[TaskSuite], dict[str, Any]]] = {
    "FixedSchedule": lambda suite: {"tasks": [suite.tasks[i % len(suite.tasks)].name for i in range(12)]},
    "FreezeModules": lambda suite: {"patterns": ["head.*"]},
    "CombinedRetention": lambda suite: {"parts": [resolve("retention", "L2ToPretrained")()]},
    "ExperienceReplay": lambda suite: {"demonstrations": stored(suite).name},
    "StaticSuite": lambda suite: {
        "name": "static",
        "observation": {"state": Spec((3,)), "image/front": Spec((8, 8, 3), "uint8")},
        "action_dim": 2,
        "tasks": ["a", "b"],
    },
}
"""Arguments of classes that cannot be made without any. A class whose arguments all have defaults needs none."""

ELSEWHERE = {
    "DemonstratedFisher": "reads a folder of demonstrations: tests/retention/test_importance.py",
    "StoredImportance": "reads the file of a policy: tests/retention/test_importance.py",
    "GymnasiumSuite": "needs an environment: tests/suites/test_gymnasium_suite.py",
    "Metaworld": "needs an extra: tests/metaworld",
    "MetaworldExpert": "needs an extra: tests/metaworld",
    "BabyAI": "needs an extra: tests/suites/test_babyai.py",
    "BabyAIExpert": "needs an extra: tests/experts/test_babyai_expert.py",
    "Fetch": "needs an extra: tests/metaworld",
    "FetchExpert": "needs an extra: tests/metaworld",
    "ActorExpert": "needs a class of the user: tests/experts/test_own.py",
    "LimitedExpert": "needs another expert: tests/experts/test_limited.py",
    "RecordedExpert": "needs recordings: tests/experts/test_recorded.py",
    "RecordedPool": "needs recordings: tests/experts/test_pool.py",
    "StableBaselines3Expert": "needs a zip: tests/experts/test_stable_baselines3.py",
    "StateDictExpert": "needs a file: tests/experts/test_state_dict.py",
    "LeRobotACT": "needs an extra: tests/formats/test_lerobot_policy.py, and test_policies.py where it is there",
    "PriorMixture": "is made by AdaptivePrior: tests/policies/test_mixture.py",
    "IsolatedPolicy": "is made by ParameterIsolation: tests/policies/test_mixture.py",
}
"""Classes that need something from outside, and where their contract is tested."""


def every(key: str) -> list[Any]:
    """A parameter for each class of a key that can be made here."""
    return [pytest.param(name, id=name) for name in classes(key) if name not in ELSEWHERE]


def made(key: str, name: str, suite: TaskSuite) -> Any:
    """An object of the class; fails, and says what to do, if it can be made neither by defaults nor by an example."""
    cls = resolve(key, name)
    if name in EXAMPLES:
        return cls(**EXAMPLES[name](suite))
    missing = [
        each.name
        for each in list(inspect.signature(cls).parameters.values())
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    assert not missing, f"{name} needs {missing}: give them defaults, or add an example to tests/contracts/making.py"
    return cls()
