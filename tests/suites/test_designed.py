import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from amf_lightning.demonstrations.batches import demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import check_scorable, normalised_scores
from amf_lightning.experts.scripted import IntegratorExpert, UnsteadyExpert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.policies.capabilities import embedded
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import build_policy
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.designed import MisleadingGoals, OverlappingGoals, PreciseGoals
from amf_lightning.tasks.task import Episode, TaskSuite


def distances(suite: TaskSuite) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    goals = suite.contexts.double()
    return torch.cdist(goals, goals).numpy()


def test_without_overlap_goals_are_evenly_spaced() -> None:
    near = np.sort(distances(OverlappingGoals(overlap=0.0)), axis=1)[:, 1:3]
    np.testing.assert_allclose(near, 2 * np.sin(np.pi / 12), rtol=1e-5)


def test_overlap_brings_goals_of_a_cluster_together_and_no_others() -> None:
    cluster = np.repeat(np.arange(4), (6, 3, 2, 1))
    same = (cluster[:, None] == cluster) & ~np.eye(12, dtype=bool)
    within, between = [], []
    for overlap in (0.0, 0.5, 0.99):
        suite = OverlappingGoals(overlap=overlap)
        within.append(distances(suite)[same].max())
        between.append(distances(suite)[~same & ~np.eye(12, dtype=bool)].min())
    assert within[0] > within[1] > within[2] and within[2] < 0.03
    assert between[0] < between[1] < between[2]
    assert [task.name for task in suite.tasks[5:8]] == ["a6", "b1", "b2"]
    assert [task.name[0] for task in suite.tasks] == ["abcd"[c] for c in cluster]


@pytest.mark.parametrize("suite", [OverlappingGoals(overlap=0.9), PreciseGoals()], ids=lambda suite: suite.name)
def test_reference_returns_are_those_of_episodes(suite: TaskSuite) -> None:
    check_scorable(suite)
    assert suite.reference is not None
    asked = [Episode(task, 100 * task.index + i) for task in suite.tasks for i in range(30)]
    shown = IntegratorExpert(successes_only=False).demonstrate(suite, asked)
    assert all(trajectory.success for trajectory in shown)
    for ran, returns in (
        (shown, suite.reference.expert),
        (rollout(UniformActor(2), suite, asked), suite.reference.random),
    ):
        each = np.array([trajectory.episode_return for trajectory in ran]).reshape(-1, 30)
        error = each.std(1, ddof=1) / np.sqrt(30) + 0.02
        assert (abs(each.mean(1) - returns) < 4 * error).all()


def test_precise_tasks_succeed_within_their_own_precision() -> None:
    suite = PreciseGoals(radii=[0.1, 1.0], precision=0.2)
    for task, width in zip(suite.tasks, (0.02, 0.2), strict=True):
        env = suite.make(task)
        env.reset(seed=0, options=dict(task.options))
        for off, wanted in ((0.9, True), (1.1, False)):
            env.unwrapped.__dict__["_position"] = np.add(task.context, (off * width, 0))
            _, reward, _, _, info = env.step(np.zeros(2))
            assert info["success"] is wanted
            assert float(reward) == pytest.approx(-min(off, 1.0))


def test_the_hard_tasks_are_those_of_small_features() -> None:
    """A network that has seen each task once is worst at the nearest goals, where its features are shortest."""
    suite = PreciseGoals()
    assert suite.reference is not None
    shown = IntegratorExpert().demonstrate(suite, [Episode(task, task.index) for task in suite.tasks])
    rows = demonstration_rows(shown, suite)
    generator = torch.Generator().manual_seed(0)
    policy = build_policy(lambda o, c, a: MLPPolicy(o, c, a, hidden=(64, 64)), suite.dimensions, generator)
    policy.fit_normaliser(rows.everything())
    optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
    for _ in range(800):
        optimizer.zero_grad()
        policy.loss(rows.take(rows.draw((1, 128), generator)[0])).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    ran = rollout(policy, suite, [Episode(task, 1000 + i) for task in suite.tasks for i in range(8)])
    returns = torch.tensor([trajectory.episode_return for trajectory in ran]).reshape(-1, 8).mean(1)
    scores = normalised_scores(returns, suite.reference)
    lengths = [demonstration_rows([one], suite) for one in shown]
    norms = [embedded(policy, row.everything()).norm(dim=1).mean().item() for row in lengths]
    assert spearmanr(norms, range(8)).statistic > 0.9
    assert int(scores.argmin()) == 0 and scores[:2].mean() + 0.08 < scores[2:].mean()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OverlappingGoals(overlap=1.0), "overlap is 1.0"),
        (lambda: OverlappingGoals(overlap=-0.1), "overlap is -0.1"),
        (lambda: OverlappingGoals(clusters=[3, 0]), r"got \[3, 0\]"),
        (lambda: OverlappingGoals(clusters=[]), r"got \[\]"),
        (lambda: PreciseGoals(radii=[1, 1]), "all different"),
        (lambda: PreciseGoals(radii=[]), "radii must be positive"),
        (lambda: PreciseGoals(precision=0), "precision positive"),
        (lambda: PreciseGoals(radii=[2.0, 1.0], horizon=0), "horizon 0"),
    ],
)
def test_impossible_worlds_are_refused(make: object, reason: str) -> None:
    assert callable(make)
    with pytest.raises(InputError, match=reason):
        make()


def test_misleading_contexts_are_those_of_other_goals_and_neighbours_do_not_stay_neighbours() -> None:
    suite = MisleadingGoals()
    assert sorted(map(tuple, suite.contexts.tolist())) == sorted(map(tuple, suite.goals.tolist()))
    true, seen = (torch.cdist(points, points).numpy() for points in (suite.goals.double(), suite.contexts.double()))
    nearest = np.sort(true, axis=1)[:, 1].max() + 1e-6
    assert not ((true < nearest) & (seen < nearest) & ~np.eye(12, dtype=bool)).any()
    episodes = [Episode(task, task.index) for task in suite.tasks]
    assert all(shown.success for shown in IntegratorExpert(successes_only=False).demonstrate(suite, episodes))


@pytest.mark.parametrize("stride", [1, 11, 3, 12, 13])
def test_contexts_that_would_not_mislead_are_refused(stride: int) -> None:
    with pytest.raises(InputError, match=f"a stride of {stride} among 12"):
        MisleadingGoals(stride=stride)


def test_an_unsteady_expert_is_off_where_it_is_told_to_be_and_reaches_its_goals_all_the_same() -> None:
    suite = OverlappingGoals(overlap=0.0)
    episodes = [Episode(suite.task(name), seed) for name in ("a1", "a2") for seed in range(200)]
    steady = IntegratorExpert().demonstrate(suite, episodes)
    off = {"tremor": UnsteadyExpert(["a2"], tremor=0.1), "bias": UnsteadyExpert(["a2"], bias=0.1)}
    for kind, expert in off.items():
        shown = expert.demonstrate(suite, episodes)
        assert [each.success for each in shown] == [True] * 400
        for clean, each in zip(steady[:200], shown[:200], strict=True):
            np.testing.assert_array_equal(each.actions, clean.actions)
        # Steps at which nothing was clipped.
        wrong = np.stack([each.actions - clean.actions for clean, each in zip(steady, shown, strict=True)])[200:]
        free = np.stack([abs(each.actions).max(1) < 1 for each in shown])[200:].all(1)
        wrong = wrong[free]
        assert len(wrong) > 20 and wrong.std() == pytest.approx(0.1, abs=0.02)
        assert wrong.std(axis=1).mean() == pytest.approx(0.1 if kind == "tremor" else 0.0, abs=0.02)
    with pytest.raises(InputError, match="needs tremor >= 0"):
        UnsteadyExpert(bias=-1)
    with pytest.raises(InputError, match="a9"):
        UnsteadyExpert(["a9"]).demonstrate(suite, episodes[:1])
