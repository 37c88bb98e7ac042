import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import amf_lightning
from amf_lightning.errors import InputError
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity


def reference_file(folder: Path, **changes: Any) -> Path:
    row = {"random": -300.0, "expert": -20.0, "spread": 2.0}
    content = {"suite": "HalfCheetahVelocity", "horizon": 200, "command": "measure", "tasks": {"v=1": row}}
    path = folder / "reference.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_tasks_are_the_ten_velocities() -> None:
    suite = HalfCheetahVelocity(reference=None)
    assert [task.name for task in suite.tasks] == [f"v={v}" for v in range(-3, 7)]
    assert suite.contexts[:, 0].tolist() == pytest.approx([v / 3 for v in range(-3, 7)])
    assert suite.task("v=-2").options == {"velocity": -2.0}
    assert HalfCheetahVelocity([0.5], reference=None).tasks[0].name == "v=0.5"


def test_one_hot_tells_the_policy_the_number_and_the_expert_the_velocity() -> None:
    suite = HalfCheetahVelocity([-1, 2], one_hot=True, reference=None)
    assert suite.contexts.tolist() == [[1, 0], [0, 1]]
    assert suite.goals[:, 0].tolist() == pytest.approx([-1 / 3, 2 / 3])
    assert suite.signature()["context_dim"] == 2


def test_rewards_success_and_error_follow_their_definitions() -> None:
    suite = HalfCheetahVelocity([2], horizon=20, tolerance=1.7, reference=None)
    stock = gymnasium.make("HalfCheetah-v5")
    env = suite.make(suite.tasks[0])
    observation, _ = env.reset(seed=3, options=dict(suite.tasks[0].options))
    np.testing.assert_array_equal(observation, stock.reset(seed=3)[0])
    rng = np.random.default_rng(0)
    errors = []
    for step in range(20):
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        *_, stock_info = stock.step(action)
        _, reward, terminated, truncated, info = env.step(action)
        errors.append(abs(stock_info["x_velocity"] - 2))
        assert reward == pytest.approx(-errors[-1] - 0.05 * float((action**2).sum()))
        assert (terminated, truncated) == (False, step == 19)
        if step < 6:
            assert not info["success"]
        else:
            assert info["metrics"]["velocity_error"] == pytest.approx(np.mean(errors[6:]))
            assert info["success"] == (np.mean(errors[6:]) < 1.7)


def test_reference_returns_are_read_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    rows = {f"v={v}": {"random": -float(v), "expert": float(v), "spread": 0.5} for v in (2, 1)}
    suite = HalfCheetahVelocity([1, 2], reference=str(reference_file(tmp_path, tasks=rows)))
    assert suite.reference is not None
    assert (suite.reference.random, suite.reference.expert) == ((-1.0, -2.0), (1.0, 2.0))
    assert (suite.reference.spread, suite.reference.command) == ((0.5, 0.5), "measure")


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"suite": "Other"}, {}, "belong to suite 'Other'"),
        ({}, {"targets": [1, 7]}, "no reference returns of task 'v=7'"),
        ({}, {"horizon": 100}, "200-step episodes, task 'v=1' has 100"),
        ({"tasks": 3}, {}, "is not a file of reference returns"),
    ],
)
def test_references_that_do_not_belong_are_refused(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    path = reference_file(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        HalfCheetahVelocity(**{"targets": [1], "reference": str(path)} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "at least one velocity"),
        ({"targets": [1, 1]}, "all different"),
        ({"horizon": 0}, "must be positive"),
        ({"tolerance": 0.0}, "must be positive"),
        ({"reference": "halfcheetah/refrence"}, "No file and no shipped weights are called"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HalfCheetahVelocity(**{"reference": None} | options)


def test_an_episode_without_a_target_is_refused() -> None:
    suite = HalfCheetahVelocity(reference=None)
    with pytest.raises(InputError, match="no default target"):
        suite.make(suite.tasks[0]).reset(seed=0)


def test_mujoco_is_quiet_and_leaves_no_log_file(tmp_path: Path) -> None:
    code = (
        "from amf_lightning.suites.halfcheetah import HalfCheetahVelocity as S\n"
        "s = S(reference=None); s.make(s.tasks[0]).reset(seed=0, options=dict(s.tasks[0].options))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(amf_lightning.__file__).parents[1])}
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout + process.stderr == ""
    assert list(tmp_path.iterdir()) == []
