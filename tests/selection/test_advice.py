"""The advisor makes the picks of `InformationGain` from features alone, and says why."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from selection_world import context_of, demonstrate, mlp, statistics_of

from amf_lightning.errors import InputError
from amf_lightning.selection.advice import advise
from amf_lightning.selection.context import SelectionContext
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import Demonstrated
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.uncertainty.embeddings import last_layer_features
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)
NAMES = [task.name for task in SUITE.tasks]


def features_of(context: SelectionContext, trajectories: list[Trajectory]) -> dict[str, list[Any]]:
    """What a hook on the last layer would see, by task; the 1 for the bias is the advisor's."""
    found: dict[str, list[Any]] = {}
    for trajectory in trajectories:
        rows = last_layer_features(context.pretrained, context.steps_of([trajectory]))[:, :-1]
        found.setdefault(trajectory.task, []).append(rows.numpy())
    return found


@pytest.mark.parametrize("shown", [[], [0, 0, 2], [3, 1, 1, 1, 0]])
@pytest.mark.parametrize("pending", [(), (1, 1)])
def test_with_the_features_of_fit_it_makes_the_picks_of_fit(shown: list[int], pending: tuple[int, ...]) -> None:
    known = statistics_of(POLICY, SUITE, demonstrate(SUITE, [0, 1], seed=7))
    context = context_of(SUITE, POLICY, statistics=known, demonstrations=demonstrate(SUITE, shown), pending=pending)
    noise, costs = {NAMES[1]: 4.0}, {NAMES[0]: 2.0}
    selection = InformationGain(noise=noise, costs=costs).select(context, 6)
    rollouts = context.rollout(context.policy, context.rollout_episodes(2))
    advice = advise(
        features_of(context, rollouts),
        features_of(context, list(context.demonstrations)),
        count=6,
        pretraining=known,
        horizons={task.name: task.horizon for task in SUITE.tasks},
        distribution=dict(zip(NAMES, SUITE.distribution.tolist(), strict=True)),
        noise=noise,
        costs=costs,
        pending=[NAMES[task] for task in pending],
    )
    assert [request.task for request in advice.requests] == [NAMES[pick] for pick in selection.picks]
    theirs = [row[pick] for row, pick in zip(selection.scores, selection.picks, strict=True)]
    assert [request.score for request in advice.requests] == pytest.approx(theirs, rel=1e-9)
    assert [advice.variances[name] for name in NAMES] == pytest.approx(
        [selection.diagnostics[f"variance/{name}"] for name in NAMES], rel=1e-9
    )


def test_from_demonstrations_alone_it_makes_the_picks_of_the_occupancy_demonstrated() -> None:
    """Of a pool of recordings, say. Without an occupancy that extrapolates nothing is clipped in `fit`, nor here."""
    context = context_of(
        SUITE,
        POLICY,
        statistics=statistics_of(POLICY, SUITE, demonstrate(SUITE, [0, 1, 2, 3], seed=7)),
        demonstrations=demonstrate(SUITE, [0, 1, 1, 2, 3, 3]),
    )
    selection = InformationGain(occupancy=Demonstrated(demonstrations=2)).select(context, 4)
    shown = features_of(context, list(context.demonstrations))
    horizons = {task.name: task.horizon for task in SUITE.tasks}
    advice = advise({}, shown, count=4, pretraining=context.statistics, horizons=horizons)
    assert [request.task for request in advice.requests] == [NAMES[pick] for pick in selection.picks]


def separate(task: int, steps: int = 20, seed: int = 0) -> Any:
    """Features of three tasks: 0 and 1 nearly the same direction, 2 another one."""
    centre = torch.eye(4, dtype=torch.float64)[0 if task < 2 else 2] + 0.01 * task
    noise = torch.randn(steps, 4, generator=torch.Generator().manual_seed(10 * task + seed), dtype=torch.float64)
    return (5 * centre + 0.01 * noise).numpy()


def test_a_task_that_another_one_teaches_is_not_asked_for_and_the_reason_says_it() -> None:
    features = {name: [separate(task), separate(task, seed=1)] for task, name in enumerate(("a", "b", "c"))}
    advice = advise(features, {"a": [separate(0, seed=2)] * 3}, count=1)
    (request,) = advice.requests
    assert request.task == "c" and advice.counts == {"c": 1} and advice.demonstrated == {"a": 3, "b": 0, "c": 0}
    assert (
        "the least known of 3" in request.reason
        and "0 demonstrated" in request.reason
        and request.reason.count(".") <= 2
    )
    assert request.runner_up == "b" and request.runner_up_score is not None and request.score > request.runner_up_score
    (first, *_) = advise(features, {}, count=1).requests
    assert first.task in "ab" and next(iter(first.teaches)) in "ab"
    assert f"'{next(iter(first.teaches))}'" in first.reason


def test_it_says_where_to_start_where_one_episode_stands_out() -> None:
    far = separate(2, seed=1) @ np.diag([1, 1, 0.9, 1]) + np.array([0, 0, 0, 1.5])
    features = {"c": [separate(2, seed=1), far, separate(2, seed=3), separate(2, seed=4)]}
    first, second = advise(features, {"c": [separate(2, seed=5)]}, count=2).requests
    assert first.start is not None and first.start.episode == 1
    assert first.start.variance > 1.25 * first.start.others
    assert (
        f"Start as episode 1 does: its variance is {first.start.variance / first.start.others:.2g} times"
        in first.reason
    )
    assert second.start is None and "Start" not in second.reason, "the others are alike"
    # By hand: P = 0.1·I + Σ φφᵀ/s², s² the mean of ‖φ‖²; the variance of a point x is xᵀP⁻¹x.
    rows = [np.hstack([each, np.ones((len(each), 1))]) for each in (*features["c"], separate(2, seed=5))]
    scale = np.sqrt(np.mean(np.square(np.concatenate(rows)).sum(1)))
    precision = 0.1 * np.eye(5) + rows[4].T @ rows[4] / scale**2
    kept = rows[1][((np.arange(16) + 0.5) * 20 / 16).astype(int)] / scale
    assert first.start.variance == pytest.approx(np.mean((kept @ np.linalg.inv(precision) * kept).sum(1)))


@pytest.mark.parametrize("episodes", [1, 2, 3])
def test_it_says_nothing_of_starts_where_there_are_few_episodes_or_all_are_alike(episodes: int) -> None:
    features = {"a": [separate(0, seed=seed) for seed in range(episodes)]}
    assert all(request.start is None for request in advise(features, {}, count=3).requests)


def test_costs_and_what_is_left_steer_the_batch() -> None:
    features = {name: [separate(task), separate(task, seed=1)] for task, name in enumerate(("a", "b", "c"))}
    assert advise(features, {}, costs={"a": 100, "b": 100}).requests[0].task == "c"
    advice = advise(features, {}, count=4, remaining={"a": 0, "b": 1})
    assert advice.counts == {"c": 3, "b": 1}
    with pytest.raises(InputError, match="no demonstration is left after 1"):
        advise(features, {}, count=2, remaining={"a": 0, "b": 0, "c": 1})


def test_episodes_of_the_pretraining_count_as_their_statistics() -> None:
    features = {"a": [separate(0)], "c": [separate(2)]}
    assert advise(features, {}, pretraining=[separate(0, 200)]).requests[0].task == "c"
    assert advise(features, {}, pretraining=[separate(2, 200)]).requests[0].task == "a"


def test_tensors_and_half_precision_will_do() -> None:
    whole = advise({"a": [separate(0)], "c": [separate(2)]}, {})
    tensors = advise({"a": [torch.from_numpy(separate(0)).half()], "c": [torch.from_numpy(separate(2)).float()]}, {})
    assert tensors.requests[0].task == whole.requests[0].task


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        ({}, {}, "there is no episode"),
        ({"a": []}, {}, "task 'a' has no episode at all"),
        ({"a": [np.zeros(3)]}, {}, r"features\['a'\]\[0\] has shape \[3\]"),
        ({"a": [np.zeros((0, 3))]}, {}, "holds nothing"),
        ({"a": [np.full((2, 3), np.nan)]}, {}, "holds NaN"),
        ({"a": [np.array([["x"]])]}, {}, "features are real numbers"),
        ({"a": [np.zeros((2, 3))], "b": [np.zeros((2, 4))]}, {}, "3, 4 features; all must be alike"),
        ({"a": [np.ones((2, 3))]}, {"pending": ["b"]}, "pending names task 'b', of which there is no episode"),
        ({"a": [np.ones((2, 3))]}, {"costs": {"b": 1}}, "costs names task 'b'"),
        ({"a": [np.ones((2, 3))]}, {"noise": {"a": 0}}, "noise of task 'a' is 0"),
        ({"a": [np.ones((2, 3))]}, {"horizons": {"a": -1}}, "horizons of task 'a' is -1"),
        ({"a": [np.ones((2, 3))]}, {"count": 0}, "count is 0"),
        ({"a": [np.ones((2, 3))]}, {"states": 0}, "must be at least 1"),
        ({"a": [np.ones((2, 3))]}, {"pretraining": [np.ones((2, 4))]}, r"need \[4, 4\]"),
        ({"a": [np.ones((2, 3))]}, {"rho": 0.0}, "the ridge must be positive"),
        ({"a": [np.ones((2, 3))]}, {"kappa": 0.0}, "kappa is 0"),
    ],
)
def test_what_cannot_be_used_is_named(features: Any, options: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        advise(features, {}, **options)


def test_it_needs_numpy_and_torch_and_nothing_else() -> None:
    code = """
import sys
for name in ("lightning", "gymnasium", "jsonargparse", "safetensors", "yaml", "mujoco", "matplotlib", "tensorboard"):
    sys.modules[name] = None  # importing it now raises
import numpy as np
from amf_lightning import advise
print(advise({"a": [np.ones((3, 2))], "b": [2 * np.eye(2)]}, {"a": [np.ones((3, 2))]}).requests[0].task)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "b"
