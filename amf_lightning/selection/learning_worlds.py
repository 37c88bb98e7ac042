"""What may be true of how gaps fall with demonstrations: samples of three kinds of worlds. Pure tensors."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

_NOISE = (0.5, 0.7)
"""Median of ν, the variance of what a demonstration tells, and standard deviation of its logarithm."""
_INFORMATIVE = 0.5
"""Standard deviation of the logarithm of how much more a demonstration of one task tells than one of another."""
_CALMEST = 0.1
"""The smallest drift in units of the largest."""
_SMALLEST = 1e-9
_ENTRIES, _FEWEST = 2**22, 16
"""Entries of all covariances together that are aimed at, and the number of worlds below which that is not."""
_BELIEVED = 64
"""Samples of the worlds in which gaps follow the belief."""
_FLATTEST = 0.5
"""The smallest exponent of the variance, with which it is a standard deviation."""
_LINEAR_NOISE = 2.0
"""Median of ν where tasks are linear."""
_APART = 1e-3
"""What there is to know about a task that is its own where tasks are linear."""
_FIRST_ERRORS = (0.4, 0.3, 0.2, 0.15, 0.1)
"""Standard deviations of a gap of π0 from what π0's demonstrations lead to, one of which is the right one."""
_FIRST_FLOOR = 0.05
"""The gap of a task of which nothing is unknown."""
_DOUBT = 0.5
"""Standard deviation of the gap that a believed world expects at the start, in units of that gap."""


class Worlds(ABC):
    """S worlds, in each of which the gaps of K tasks fall in a way of its own."""

    start: Tensor
    """What can be closed of each gap, as it is expected when the first gaps are measured, [S, K]."""
    deviation: Tensor
    """Standard deviation of that, [S, K]."""
    drift: Tensor
    """Standard deviation of what a round does to a gap besides what is expected of it, [S, 1]."""

    @abstractmethod
    def train(self, counts: Tensor, variances: Tensor | None) -> Tensor:
        """The share that training on so many demonstrations, [K], leaves of what can be closed of each gap, [S, K].

        Args:
            counts: of each task, [K] float64.
            variances: of the belief about the expert afterwards, mean over the states of each task, [K].
        """

    @abstractmethod
    def shares(self, told: Tensor | None) -> Tensor:
        """The share that one more demonstration of d closes of what can be closed of gap c, [S, c, d].

        Args:
            told: the share of the belief's variance in task c that a demonstration of d removes, [c, d].
        """


class GaussianTasks(Worlds):
    """The expert's behaviour in task c is one Gaussian number of unit variance, correlated between tasks.

    A demonstration of task d observes it with noise ν_d. What is unknown of task c, V_c, so falls with demonstrations
    of c like 1/(1 + n/ν), a power law of learning curves (Hestness et al. 2017), and with those of others as far as the
    tasks are correlated, but not below what only c itself shows. What can be closed of a gap shrinks like V_c.

    Args:
        covariance: of the tasks in each world, [S, K, K] float64.
        noise: ν of each task in each world, [S, K].
        before: demonstrations of each task before anything was measured, [K] float64.
        drift: of every world.
    """

    def __init__(self, covariance: Tensor, noise: Tensor, before: Tensor, drift: float) -> None:
        self._covariance, self._noise = covariance, noise
        worlds, k = noise.shape
        self.drift = covariance.new_full((worlds, 1), drift)
        # A gap says more of what π0 does than the number of its demonstrations: they count from the first round on.
        self.start, self.deviation = covariance.new_ones(worlds, k), covariance.new_ones(worlds, k)
        self._condition(before)

    def train(self, counts: Tensor, variances: Tensor | None) -> Tensor:
        """See `Worlds`."""
        before = self._unknown
        self._condition(counts)
        return self._unknown / before

    def shares(self, told: Tensor | None) -> Tensor:
        """1 − V_c(n + e_d)/V_c(n): the downdate of rank one."""
        unknown = self._unknown
        told = self._covariance.square() / (self._noise + unknown)[:, None, :]
        return (told / unknown[:, :, None]).clamp(max=1)

    def foretold(self, gaps: Tensor) -> float:
        """Logarithm of the density of the gaps of π0, [K], up to what is the same for all worlds of the same K.

        They are in proportion to the standard deviation √V, and the least known task is not done at all. To be asked
        before any training. Gaps that are NaN count for nothing.
        """
        unknown = self._unknown / self._unknown.max(1, keepdim=True).values
        surprise = torch.where(gaps.isfinite(), gaps - _FIRST_FLOOR - unknown.sqrt(), 0.0)
        error = torch.tensor(_FIRST_ERRORS, dtype=torch.float64)[:, None, None]
        density = -0.5 * (surprise / error).square() - error.log()
        each = torch.where(gaps.isfinite(), density, 0.0).sum(2)
        return float(each.logsumexp((0, 1))) - math.log(each.numel())

    @property
    def _unknown(self) -> Tensor:
        """V, [S, K]."""
        return self._covariance.diagonal(dim1=1, dim2=2).clamp(min=_SMALLEST)

    def _condition(self, counts: Tensor) -> None:
        """On so many demonstrations of each task, [K]."""
        for task in torch.nonzero(counts).flatten().tolist():
            column = self._covariance[:, :, task]
            total = self._noise[:, task] / counts[task] + column[:, task]
            self._covariance = self._covariance - column[:, :, None] * (column / total[:, None])[:, None, :]


class CorrelatedTasks(GaussianTasks):
    """Tasks tell of each other what the belief about the expert says, or less.

    Args:
        similarity: correlations of tasks, [K, K] float64, positive semidefinite with a unit diagonal.
        before: demonstrations of each task before anything was measured, [K] float64.
        transfer: the share of `similarity` that may be real, at most 1. Its square is uniform between 0 and the square
            of this, and the rest of what there is to know about a task is its own.
        drift: of every world.
        worlds: S at most; with more than 128 tasks fewer, but at least 16, since each of them is a [K, K] matrix.
    """

    def __init__(self, similarity: Tensor, before: Tensor, transfer: float, drift: float, worlds: int) -> None:
        points = _points(_affordable(worlds, len(before)), len(before) + 2)
        share = (transfer * points[:, 0].sqrt())[:, None, None]
        covariance = share * similarity + (1 - share) * torch.eye(len(before), dtype=torch.float64)
        normal = torch.special.ndtri(points[:, 1:])
        noise = _NOISE[0] * (_NOISE[1] * normal[:, :1] - _INFORMATIVE * normal[:, 1:]).exp()
        super().__init__(covariance, noise, before, drift)


class LinearTasks(GaussianTasks):
    """What the expert does is a linear function of the numbers that policies are told, and little else.

    So is what a network does that reads them, beyond what it was shown: it goes on as it went. There is one function to
    be learned, offset and slopes, so that the pace is one for all tasks, and a demonstration tells the more the farther
    its task lies from what is known. Offset and slopes have the same variance, and the mean over tasks of what there is
    to know is 1, but for a thousandth that is each task's own.

    Args:
        contexts: of all tasks, [K, C] float64. Each entry that differs between tasks counts in units of its standard
            deviation from its mean over tasks, and the slopes of all of them share the variance of one.
        before: demonstrations of each task before anything was measured, [K] float64.
        drift: of every world.
        worlds: see `CorrelatedTasks`.
    """

    def __init__(self, contexts: Tensor, before: Tensor, drift: float, worlds: int) -> None:
        points = _points(_affordable(worlds, len(before)), 1)
        deviation = contexts.std(0, unbiased=False)
        x = ((contexts - contexts.mean(0)) / deviation)[:, deviation > 0]
        own = _APART * torch.eye(len(before), dtype=torch.float64)
        covariance = (1 + x @ x.T / x.shape[1]) / 2 + own
        noise = _LINEAR_NOISE * (_NOISE[1] * torch.special.ndtri(points)).exp()
        super().__init__(covariance.repeat(len(points), 1, 1), noise.repeat(1, len(before)), before, drift)

    @staticmethod
    def may_hold(contexts: Tensor) -> bool:
        """Whether some of K contexts, [K, C], are nearer to each other than others; one-hot ones and two are not."""
        apart = torch.pdist(contexts)
        apart = apart[apart > 0]
        return len(apart) > 1 and bool(apart.max() > (1 + 1e-6) * apart.min())


class BelievedTasks(Worlds):
    """What can be closed of a gap is proportional to a power of what the belief about the expert does not know.

    The exponent is uniform between ½ and 1. The least known task is expected to be not done at all, and the others as
    far as the belief knows them.

    Args:
        variances: of the belief when the first gaps are measured, mean over the states of each task, [K] float64.
        drift: the largest; its logarithm is uniform over a decade below.
    """

    def __init__(self, variances: Tensor, drift: float) -> None:
        points = _points(_BELIEVED, 2)
        self._exponent = _FLATTEST + (1 - _FLATTEST) * points[:, :1]  # [S, 1]
        self.drift = drift * _CALMEST ** points[:, 1:]
        self._variances = variances.clamp(min=_SMALLEST)
        self.start = (self._variances / self._variances.max()) ** self._exponent
        self.deviation = _DOUBT * self.start

    def train(self, counts: Tensor, variances: Tensor | None) -> Tensor:
        """See `Worlds`."""
        assert variances is not None
        before, self._variances = self._variances, variances.clamp(min=_SMALLEST)
        return (self._variances / before) ** self._exponent

    def shares(self, told: Tensor | None) -> Tensor:
        """See `Worlds`."""
        assert told is not None
        return 1 - (1 - told.clamp(0, 1)) ** self._exponent[:, :, None]


def _affordable(worlds: int, tasks: int) -> int:
    """How many [K, K] matrices, of so many that are asked for."""
    return min(worlds, max(_FEWEST, _ENTRIES // tasks**2))


def _points(number: int, dimensions: int) -> Tensor:
    """A fixed sample of the unit cube, the same for every run, [number, dimensions] float64."""
    # The first one is the corner of all cubes, where quantiles are infinite.
    sobol = SobolEngine(dimensions, scramble=False)  # type: ignore[no-untyped-call]
    return sobol.draw(number + 1, dtype=torch.float64)[1:]
