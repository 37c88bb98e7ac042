"""Learning curves of tasks beside dense Gaussians that are conditioned at once, world by world."""

import math

import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.quasirandom import SobolEngine

from amf_lightning.selection.learning_curves import LearningCurves
from amf_lightning.selection.learning_worlds import (
    BelievedTasks,
    CorrelatedTasks,
    GaussianTasks,
    LinearTasks,
    Worlds,
)

K, WORLDS, ERROR, DRIFT = 4, 12, 0.2, 0.15
FLOOR, FLOOR_SPREAD = 0.05, 0.2
DISTRIBUTION = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
CONTEXTS = torch.tensor([[0.1, 2.0], [0.3, -1.0], [0.35, 1.0], [0.9, 0.0]], dtype=torch.float64)
BEFORE = torch.tensor([3.0, 0.0, 1.0, 0.0], dtype=torch.float64)


def similarity_of(seed: int) -> Tensor:
    roots = torch.randn(K, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gram = roots @ roots.T + 0.1 * torch.eye(K, dtype=torch.float64)
    deviation = gram.diagonal().sqrt()
    return gram / deviation[:, None] / deviation


def rounds_of(seed: int) -> tuple[Tensor, Tensor]:
    """Gaps measured before each of five rounds and after the last, and what came in each."""
    generator = torch.Generator().manual_seed(100 + seed)
    gaps = torch.rand(6, K, generator=generator, dtype=torch.float64)
    gaps[2, 1] = torch.nan  # a round in which nothing was measured of a task
    counts = torch.randint(0, 3, (5, K), generator=generator).to(torch.float64)
    counts[3] = 0.0  # and one in which nothing came
    return gaps, counts


def told(curves: LearningCurves, gaps: Tensor, counts: Tensor) -> LearningCurves:
    for number, seen in enumerate(gaps):
        if number:
            curves.train(counts[number - 1])
        curves.measure(seen, ERROR)
    return curves


def curves_of(similarity: Tensor, before: Tensor, transfer: float, drift: float, worlds: int) -> LearningCurves:
    return LearningCurves([(CorrelatedTasks(similarity, before, transfer, drift, worlds), 1.0)], remembers=True)


def points_of(dimensions: int) -> list[list[float]]:
    drawn = SobolEngine(dimensions).draw(WORLDS + 1, dtype=torch.float64)  # type: ignore[no-untyped-call]
    rows: list[list[float]] = drawn[1:].tolist()
    return rows


class DenseWorld:
    """One of the worlds, with one matrix for all demonstrations and one Gaussian for all gaps of a task."""

    def __init__(self, prior: Tensor, speed: float, informative: list[float]) -> None:
        self.prior = prior
        noise = [0.5 * math.exp(0.7 * speed - 0.5 * each) for each in informative]
        self.noise = torch.tensor(noise, dtype=torch.float64)

    @classmethod
    def correlated(cls, point: list[float], similarity: Tensor, transfer: float) -> "DenseWorld":
        share = transfer * math.sqrt(point[0])
        prior = share * similarity + (1 - share) * torch.eye(K, dtype=torch.float64)
        return cls(prior, norm.ppf(point[1]), list(norm.ppf(point[2:])))

    @classmethod
    def linear(cls, point: list[float]) -> "DenseWorld":
        x = CONTEXTS / CONTEXTS.std(0, correction=0)
        design = torch.cat([torch.ones(K, 1, dtype=torch.float64), (x - x.mean(0)) / math.sqrt(x.shape[1])], dim=1)
        prior = 0.5 * design @ design.T + 0.001 * torch.eye(K, dtype=torch.float64)
        return cls(prior, norm.ppf(point[0]) + math.log(4) / 0.7, [0.0] * K)

    def unknown(self, numbers: Tensor) -> Tensor:
        """V, [K]: the prior conditioned on every demonstration as a row of its own."""
        tasks = [task for task in range(K) for _ in range(int(numbers[task]))]
        if not tasks:
            return self.prior.diagonal()
        gram = self.prior[tasks][:, tasks] + torch.diag(self.noise[tasks])
        cross = self.prior[:, tasks]
        left: Tensor = (self.prior - cross @ torch.linalg.solve(gram, cross.T)).diagonal()
        return left

    def gaps(self, measured: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, float, Tensor]:
        """Means of each gap in every round, [R, K], and of what can be closed of it now, the log density of all that
        was measured up to a constant, and V."""
        numbers = BEFORE.clone()
        levels = [self.unknown(numbers)]
        for came in counts:
            numbers = numbers + came
            levels.append(self.unknown(numbers))
        rounds, means, closable, total = len(measured), [], [], 0.0
        for task in range(K):
            v = [float(level[task]) for level in levels]
            # g_r = (v_r / v_s) g_s + noise: the joint Gaussian of all rounds, written out.
            mean = torch.tensor([v[r] / v[0] for r in range(rounds)], dtype=torch.float64)
            covariance = torch.zeros(rounds, rounds, dtype=torch.float64)
            for a in range(rounds):
                for b in range(rounds):
                    covariance[a, b] = v[a] * v[b] / v[0] ** 2
                    covariance[a, b] += sum(DRIFT**2 * v[a] * v[b] / v[s] ** 2 for s in range(1, min(a, b) + 1))
            seen = measured[:, task].isfinite()
            gram = covariance[seen][:, seen] + FLOOR_SPREAD**2
            gram = gram + ERROR**2 * torch.eye(int(seen.sum()), dtype=torch.float64)
            residual = measured[seen, task] - mean[seen] - FLOOR
            solved = torch.linalg.solve(gram, residual)
            in_rounds = mean + covariance[:, seen] @ solved
            closable.append(in_rounds[-1])
            means.append(in_rounds + FLOOR + FLOOR_SPREAD**2 * solved.sum())
            total += float(-0.5 * residual @ solved - 0.5 * torch.logdet(gram))
        return torch.stack(means, dim=1), torch.stack(closable), total, levels[-1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transfer", [1.0, 0.5, None], ids=["1", "0.5", "linear"])
def test_it_is_the_mean_over_worlds_that_are_weighted_by_what_was_measured(seed: int, transfer: float | None) -> None:
    similarity, (gaps, counts) = similarity_of(seed), rounds_of(seed)
    if transfer is None:
        points = points_of(1)
        linear = LinearTasks(CONTEXTS, BEFORE, DRIFT, WORLDS)
        curves = told(LearningCurves([(linear, 1.0)], remembers=True), gaps, counts)
        worlds = [DenseWorld.linear(point) for point in points]
    else:
        points = points_of(K + 2)
        curves = told(curves_of(similarity, BEFORE, transfer, DRIFT, WORLDS), gaps, counts)
        worlds = [DenseWorld.correlated(point, similarity, transfer) for point in points]
    beliefs = [world.gaps(gaps, counts) for world in worlds]
    density = torch.tensor([log for _, _, log, _ in beliefs], dtype=torch.float64)
    weights = density.exp() / density.exp().sum()
    torch.testing.assert_close(curves.weights, weights)
    assert curves.log_density == pytest.approx(float(density.logsumexp(0)) - math.log(WORLDS), abs=1e-6)
    of_rounds = torch.einsum("s,srk->rk", weights, torch.stack([mean.clamp(0, 1) for mean, _, _, _ in beliefs]))
    torch.testing.assert_close(curves.gaps, of_rounds[-1])
    torch.testing.assert_close(curves.gaps_of_policies, of_rounds)
    now = torch.stack([part.clamp(0, 1) for _, part, _, _ in beliefs])
    left = torch.stack(
        [
            torch.stack([world.unknown(BEFORE + counts.sum(0) + one) for one in torch.eye(K).double()])
            for world in worlds
        ]
    )
    shares = 1 - left.transpose(1, 2) / torch.stack([level for _, _, _, level in beliefs])[:, :, None]
    torch.testing.assert_close(curves.teaches(), torch.einsum("s,scd->cd", weights, shares))
    expected = torch.stack([weights @ (shares[:, :, d] * now * DISTRIBUTION) for d in range(K)], dim=1)
    torch.testing.assert_close(curves.reductions(DISTRIBUTION), expected)


def test_what_a_demonstration_did_to_other_gaps_is_believed() -> None:
    similarity = torch.full((3, 3), 0.95, dtype=torch.float64).fill_diagonal_(1.0)
    counts = torch.tensor([[1.0, 0.0, 0.0]] * 4, dtype=torch.float64)
    fall = torch.tensor([0.9, 0.3, 0.2, 0.1, 0.05], dtype=torch.float64)
    level = torch.full((5,), 0.9, dtype=torch.float64)
    nothing = torch.zeros(3, dtype=torch.float64)
    alike = told(curves_of(similarity, nothing, 1.0, 0.1, 256), torch.stack([fall, fall, fall], 1), counts)
    apart = told(curves_of(similarity, nothing, 1.0, 0.1, 256), torch.stack([fall, level, level], 1), counts)
    assert alike.teaches()[1, 0] > 2 * apart.teaches()[1, 0]
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert apart.reductions(even).sum(0).argmax() in (1, 2)


def test_the_far_end_of_a_range_is_shown_first_and_tells_what_lies_between() -> None:
    line = torch.arange(6, dtype=torch.float64)[:, None]
    known = torch.tensor([10.0, 10.0, 0, 0, 0, 0], dtype=torch.float64)
    curves = LearningCurves([(LinearTasks(line, known, 0.1, 512), 1.0)])
    curves.measure(torch.tensor([0.1, 0.1, 0.6, 0.6, 0.6, 0.6], dtype=torch.float64), ERROR)
    parts = curves.reductions(torch.full((6,), 1 / 6, dtype=torch.float64))
    assert parts.sum(0).argmax() == 5 and bool((parts[2:, 5] > 0.01).all())
    assert curves.teaches()[2, 5] > curves.teaches()[2, 1]  # what is known on this side has told what it can
    shown = torch.eye(6, dtype=torch.float64)[5]
    for _ in range(2):  # and again, for it is farthest from what is known
        curves.train(shown)
        assert curves.reductions(torch.full((6,), 1 / 6, dtype=torch.float64)).sum(0).argmax() == 5


def test_the_gaps_of_the_first_policy_tell_whether_tasks_are_linear() -> None:
    line = torch.arange(6, dtype=torch.float64)[:, None]
    known = torch.tensor([10.0, 10.0, 0, 0, 0, 0], dtype=torch.float64)
    kinds = LinearTasks(line, known, 0.1, 64), CorrelatedTasks(torch.eye(6).double(), known, 0.0, 0.1, 64)
    farther_is_worse = torch.tensor([0.2, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64)
    not_at_all = torch.tensor([0.0, 0.0, 0.9, 1.0, 1.0, 1.0], dtype=torch.float64)
    for gaps, are_linear in ((farther_is_worse, True), (not_at_all, False)):
        linear, apart = (kind.foretold(gaps) for kind in kinds)
        assert (linear > apart) == are_linear


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "correlated"])
def test_what_is_foretold_of_the_first_policy_is_the_mean_over_worlds_and_errors(linear: bool) -> None:
    gaps, similarity = torch.tensor([0.2, math.nan, 0.7, 0.4], dtype=torch.float64), similarity_of(0)
    if linear:
        worlds: GaussianTasks = LinearTasks(CONTEXTS, BEFORE, DRIFT, WORLDS)
        dense = [DenseWorld.linear(point) for point in points_of(1)]
    else:
        worlds = CorrelatedTasks(similarity, BEFORE, 1.0, DRIFT, WORLDS)
        dense = [DenseWorld.correlated(point, similarity, 1.0) for point in points_of(K + 2)]
    seen = gaps.isfinite()
    unknown = [world.unknown(BEFORE) for world in dense]
    expected = [(0.05 + (v / v.max()).sqrt())[seen].numpy() for v in unknown]
    densities = [norm.pdf(gaps[seen], mean, error).prod() for mean in expected for error in (0.4, 0.3, 0.2, 0.15, 0.1)]
    constant = 0.5 * int(seen.sum()) * math.log(2 * math.pi)
    assert worlds.foretold(gaps) == pytest.approx(math.log(sum(densities) / len(densities)) + constant)


def test_the_density_of_what_was_measured_is_the_mean_over_kinds() -> None:
    line, (gaps, counts) = torch.arange(K, dtype=torch.float64)[:, None], rounds_of(0)

    def kinds() -> list[Worlds]:
        return [CorrelatedTasks(similarity_of(0), BEFORE, 1.0, DRIFT, 64), LinearTasks(line, BEFORE, DRIFT, 32)]

    alone = [told(LearningCurves([(kind, 1.0)]), gaps, counts).log_density for kind in kinds()]
    mixed = told(LearningCurves(list(zip(kinds(), (0.3, 0.7), strict=True))), gaps, counts)
    assert mixed.log_density == pytest.approx(math.log(0.3 * math.exp(alone[0]) + 0.7 * math.exp(alone[1])))


def test_tasks_may_be_linear_only_in_contexts_of_which_some_are_nearer() -> None:
    one_hot = torch.eye(3, dtype=torch.float64)
    for contexts in (one_hot, one_hot[[0, 0, 1, 2]], one_hot[:2], one_hot[:1], one_hot[[0, 0]], torch.zeros(3, 1)):
        assert not LinearTasks.may_hold(contexts)
    assert LinearTasks.may_hold(torch.tensor([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]]))


def test_later_gaps_tell_whether_tasks_are_linear() -> None:
    line, known = torch.arange(5, dtype=torch.float64)[:, None], torch.tensor([10.0, 0, 0, 0, 0], dtype=torch.float64)
    counts = torch.tensor([[0, 0, 0, 0, 1.0]] * 4, dtype=torch.float64)
    all_fall = torch.tensor([0.95, 0.5, 0.25, 0.15, 0.1], dtype=torch.float64)[:, None].expand(5, 5)
    shown_fall = all_fall.clone()
    shown_fall[:, 1:4] = 0.95
    own = torch.eye(5, dtype=torch.float64)
    for gaps, are_linear in ((all_fall, True), (shown_fall, False)):
        kinds = CorrelatedTasks(own, known, 0.0, 0.1, 256), LinearTasks(line, known, 0.1, 256)
        curves = told(LearningCurves([(kind, 0.5) for kind in kinds]), gaps, counts)
        assert curves.kinds[LinearTasks if are_linear else CorrelatedTasks] > 0.9


def test_demonstrations_of_one_task_never_teach_all_of_another() -> None:
    similarity = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    curves = curves_of(similarity, torch.zeros(2, dtype=torch.float64), 1.0, 0.1, 256)
    assert curves.teaches()[0, 0] > curves.teaches()[1, 0] > 0.1
    curves.train(torch.tensor([50.0, 0.0], dtype=torch.float64))
    assert curves.teaches()[1, 0] < 0.01 and curves.teaches()[1, 1] > 0.3


def test_a_gap_that_demonstrations_do_not_close_is_left_alone() -> None:
    nothing, even = torch.zeros(2, dtype=torch.float64), torch.full((2,), 0.5, dtype=torch.float64)
    counts = torch.tensor([[1.0, 0.0]] * 8, dtype=torch.float64)
    gaps = torch.tensor([[0.4, 0.15]] * 9, dtype=torch.float64)
    curves = told(curves_of(torch.eye(2, dtype=torch.float64), nothing, 0.0, 0.1, 256), gaps, counts)
    assert curves.gaps[0] > 0.3
    scores = curves.reductions(even).sum(0)
    assert scores[1] > 3 * scores[0]


BELIEVED = torch.tensor(
    [[1.0, 0.8, 0.6, 0.9], [0.5, 0.7, 0.6, 0.9], [0.3, 0.2, 0.5, 0.8], [0.2, 0.2, 0.1, 0.7]], dtype=torch.float64
)
"""Variances of the belief before each of three rounds and after the last."""


def following(gaps: Tensor, variances: Tensor = BELIEVED) -> LearningCurves:
    """What is believed of both kinds of worlds after these gaps, [R + 1, K], while the variances fell."""
    own = CorrelatedTasks(torch.eye(K, dtype=torch.float64), torch.zeros(K, dtype=torch.float64), 1.0, DRIFT, 256)
    curves = LearningCurves([(own, 0.5), (BelievedTasks(variances[0], DRIFT), 0.5)])
    ones = torch.ones(K, dtype=torch.float64)
    for number, seen in enumerate(gaps):
        if number:
            curves.train(ones, variances[number])
        curves.measure(seen, 0.05)
    return curves


def test_gaps_that_fall_as_the_variance_does_are_expected_to_go_on_so() -> None:
    told = torch.tensor(torch.rand(K, K, generator=torch.Generator().manual_seed(3)).tolist(), dtype=torch.float64)
    follows, against = following(0.9 * BELIEVED / BELIEVED[0]), following(0.9 * (BELIEVED / BELIEVED[0]).flip(1))
    assert follows.kinds[BelievedTasks] > 0.9 > 0.3 > against.kinds[BelievedTasks]
    assert sum(follows.kinds.values()) == pytest.approx(1)
    # A demonstration does then what the belief says, for other tasks, too: at least what a standard deviation loses.
    shares = follows.teaches(told)
    assert (shares > 0.9 * (1 - (1 - told).sqrt())).all() and (shares[told > 0.8] > 0.5).all()


def test_gaps_that_were_never_as_the_belief_says_speak_against_it_from_the_first() -> None:
    as_it_says = BELIEVED[0] / BELIEVED[0].max()
    variances = torch.tensor([[1.0, 0.1, 0.1, 1.0]], dtype=torch.float64)
    assert (
        following(variances, variances).kinds[BelievedTasks]
        > 0.5
        > following(1 - variances, variances).kinds[BelievedTasks]
    )
    assert following(as_it_says[None]).kinds[BelievedTasks] > 0.5


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_what_can_be_closed_is_in_proportion_to_a_power_of_the_variance(exponent: float) -> None:
    worlds = BelievedTasks(BELIEVED[0], DRIFT)
    left = torch.ones(len(worlds.start), K, dtype=torch.float64)
    for after in BELIEVED[1:]:
        left = left * worlds.train(torch.ones(K, dtype=torch.float64), after)
    nearest = (left.log() - exponent * (BELIEVED[-1] / BELIEVED[0]).log()).abs().sum(1).argmin()
    torch.testing.assert_close(left[nearest], (BELIEVED[-1] / BELIEVED[0]) ** exponent, rtol=0.05, atol=0.0)
    # A share that a demonstration would close is what is missing once it has come.
    told = (1 - BELIEVED[1] / BELIEVED[0])[:, None].expand(K, K)
    closed = BelievedTasks(BELIEVED[0], DRIFT)
    torch.testing.assert_close(1 - closed.shares(told)[:, :, 0], closed.train(torch.zeros(K), BELIEVED[1]))


def test_many_tasks_make_do_with_fewer_worlds() -> None:
    similarity = torch.eye(300, dtype=torch.float64)
    curves = curves_of(similarity, torch.zeros(300, dtype=torch.float64), 1.0, 0.1, 256)
    assert 16 <= len(curves.weights) < 64
    assert torch.isfinite(curves.reductions(torch.full((300,), 1 / 300, dtype=torch.float64))).all()
