"""Selectors that ask where a demonstration would teach most, by a Gaussian belief about the expert."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from jsonargparse.typing import lazy_instance
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part, union
from amf_lightning.selection.baselines import draw_uniformly, without_scores
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.selection.greedy import choose_greedily
from amf_lightning.selection.information_gain import (
    Aggregate,
    Marginal,
    Problem,
    Variance,
    information_by_task,
    information_scores,
    task_variances,
)
from amf_lightning.selection.occupancies import Expected, Occupancy, PolicyRollout
from amf_lightning.selection.reference_rollouts import ReferenceRollouts
from amf_lightning.selection.starts import BelievedStarts
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.uncertainty.embeddings import Embedding, LastLayerFeatures
from amf_lightning.uncertainty.knowledge import Knowledge
from amf_lightning.uncertainty.posterior import Posterior

# What the command line shows as defaults. A constructor that is given one of them makes an object of its own instead.
_EMBEDDING: Embedding = lazy_instance(LastLayerFeatures)
_OCCUPANCY: Occupancy = lazy_instance(PolicyRollout)
_AGGREGATE: Aggregate = lazy_instance(Marginal)


class InformedSelector(Selector):
    """What `InformationGain` and `UncertaintySampling` share: the belief, the expected states, the greedy batch.

    Nothing but a cache is carried from round to round, so a run that was killed goes on with the same picks.
    """

    need = "variance"
    need_is = "variance of the belief about the expert on the states of the task, in units of the observation noise"

    def __init__(
        self, embedding: Embedding, occupancy: Occupancy, rho: float, noise: dict[str, float] | None = None
    ) -> None:
        embedding = LastLayerFeatures() if embedding is _EMBEDDING else embedding
        occupancy = PolicyRollout() if occupancy is _OCCUPANCY else occupancy
        if Need.EXPERT_ACTIONS in embedding.needs and not occupancy.has_actions:
            raise InputError(
                f"{type(self).__name__}: {type(embedding).__name__} needs the expert's actions at the expected states, "
                f"which {type(occupancy).__name__} does not know. Use ImportanceWeighted, or LastLayerFeatures."
            )
        if noise and not embedding.weighs_noise:
            raise InputError(
                f"{type(self).__name__}: `noise` is given, but in {type(embedding).__name__} all demonstrations have "
                "the same noise. Leave it out, or choose the embedding Kernel."
            )
        if rho <= 0:
            raise InputError(f"{type(self).__name__}: rho is {rho}; the ridge must be positive.")
        self.embedding = embedding
        self.occupancy = occupancy
        self.rho = rho
        self.noise = _positive("noise", noise)
        self.needs = union(embedding.needs, occupancy.needs)
        self.assumes_retention = embedding.assumes_retention
        self._reference = ReferenceRollouts()

    @property
    def components(self) -> Mapping[str, Part]:
        return {"embedding": self.embedding, "occupancy": self.occupancy}

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Raises InputError if `noise` names a task that the suite lacks."""
        _by_task(suite, self.noise)

    @abstractmethod
    def score(self, posterior: Posterior, problem: Problem) -> Tensor:
        """How much each task deserves the next demonstration, [K]; NaN where no states are expected of it."""

    def teach(self, posterior: Posterior, problem: Problem, task: int) -> Tensor:
        """What of the score of a task is about each task, [K]; empty if that cannot be told."""
        return torch.empty(0)

    def diagnose(self, posterior: Posterior, problem: Problem) -> dict[str, float]:
        """Numbers about the belief before the first pick, beyond those that every informed selector gives."""
        return {}

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Scores every task, picks the best, conditions on its expected states, and so on for the batch.

        The belief is conditioned on the expected states of what is pending before the first pick.
        """
        if context.round == 0 and Need.SIMULATOR in self.embedding.needs:
            self._reference(context)  # in the first round of any run, so that their cost does not depend on restarts
        first = list(self.occupancy.prefill(context, batch_size))
        unscored = without_scores(first, len(context.suite.tasks))
        if len(first) == batch_size:
            return unscored
        states = self.occupancy.expected(context)
        if states is None:
            return draw_uniformly(context, batch_size)
        posterior, problem, about = self._embed(context, states)
        teaches, starts = list[Tensor](), BelievedStarts(states, context, problem)

        def explain(belief: Posterior, task: int) -> None:
            teaches.append(self.teach(belief, problem, task))
            starts.name(belief, task)

        picks, scores = choose_greedily(
            posterior,
            problem.candidates,
            lambda belief: self.score(belief, problem),
            batch_size - len(first),
            lambda picked: context.allowed([*first, *picked]),
            lambda position: context.generator(len(first) + position),
            context.pending,
            explain,
        )
        variances = task_variances(posterior, problem.targets, len(context.suite.tasks)).tolist()
        diagnostics = {
            **states.diagnostics,
            **{f"variance/{task.name}": v for task, v in zip(context.suite.tasks, variances, strict=True)},
            **self.diagnose(posterior, problem),
            **about,
            "environment_steps": float(states.environment_steps + self._reference.steps_in(context.round)),
        }
        rows = (*unscored.scores, *(tuple(row.tolist()) for row in scores))
        unknown = (Tensor(),) * len(first)
        taught = [*unknown, *teaches] if any(map(len, teaches)) else []
        told = tuple(tuple(row.tolist()) for row in taught)
        return Selection((*first, *picks), rows, diagnostics, told, starts.of_picks(len(first)))

    def belief(self, context: SelectionContext, states: Expected) -> tuple[Posterior, Problem, int]:
        """The belief given the history, the problem in its points, and steps taken beyond those of `states`."""
        posterior, problem, _ = self._embed(context, states)
        return posterior, problem, self._reference.steps_in(context.round)

    def _embed(self, context: SelectionContext, expected: Expected) -> tuple[Posterior, Problem, dict[str, float]]:
        """The belief given the history, the problem in its points, and numbers about the belief."""
        knowledge = Knowledge(
            policy=context.policy,
            pretrained=context.pretrained,
            statistics=context.statistics,
            history=context.demonstrated_steps,
            reference=lambda: self._reference(context),
            clip=self.occupancy.extrapolates,
            noise=self._noise_of_history(context),
            trainable=context.trainable,
            device=context.device,
        )
        embedded = self.embedding.embed(knowledge, expected.candidates.states, expected.targets.states, self.rho)
        candidates, device = expected.candidates.embedded(embedded.candidates), embedded.targets.device
        if (levels := _by_task(context.suite, self.noise)) is not None:
            candidates = replace(candidates, levels=levels.to(device)[candidates.tasks])
        targets = expected.targets.embedded(embedded.targets)
        distribution = context.suite.distribution.to(device)
        problem = Problem(candidates, targets, distribution, self.costs_of(context.suite))
        return embedded.posterior, problem, dict(embedded.diagnostics)

    def costs_of(self, suite: TaskSuite) -> Tensor | None:
        """What a demonstration of each task costs, [K] float64; None if all are the same."""
        return None

    def _noise_of_history(self, context: SelectionContext) -> Tensor | None:
        """Level of each demonstrated state: its task's times its demonstration's own, [N]; None if all are 1."""
        levels = [self.noise.get(trajectory.task, 1.0) * trajectory.noise for trajectory in context.demonstrations]
        if all(level == 1 for level in levels):
            return None
        lengths = torch.tensor([trajectory.length for trajectory in context.demonstrations])
        return torch.tensor(levels, dtype=torch.float64).repeat_interleave(lengths).to(context.policy.device)


class InformationGain(InformedSelector):
    """Asks for the demonstration that tells most about the expert on all tasks (AMF, arXiv 2410.05026).

    argmax_c' E_{c~μ} E_{τ~ρ(·|c)} E_{τ'~p(·|c')} [ Σ_t I(π*(s_t, c); τ' | D) ], in a Gaussian model of the expert.
    It depends on states only, never on the actions seen: failure to imitate is invisible to it.

    Args:
        embedding: what makes two states alike.
        occupancy: which states stand for a demonstration not yet given.
        aggregate: how information is summed over states.
        rho: ridge ρ of the belief, in units of the observation noise.
        noise: observation noise of demonstrations of tasks, by name, in units of that of the others: 4 for a task
            whose expert has twice the spread. What was demonstrated and what is expected both count for less. A
            demonstration that carries a `noise` of its own counts for less by that factor, too.
        costs: what a demonstration of a task costs, by name, in units of that of the others; the score is then the
            gain per cost.
    """

    def __init__(
        self,
        embedding: Embedding = _EMBEDDING,
        occupancy: Occupancy = _OCCUPANCY,
        aggregate: Aggregate = _AGGREGATE,
        rho: float = 0.1,
        noise: dict[str, float] | None = None,
        costs: dict[str, float] | None = None,
    ) -> None:
        super().__init__(embedding, occupancy, rho, noise)
        aggregate = Marginal() if aggregate is _AGGREGATE else aggregate
        self.costs = _positive("costs", costs)
        if aggregate.needs_other_targets and not self.occupancy.separates_roles:
            raise InputError(
                f"InformationGain: {type(aggregate).__name__} needs target states other than the candidate's, and "
                f"{type(self.occupancy).__name__} uses the same for both. Use PolicyRollout, or Marginal."
            )
        if isinstance(aggregate, Variance) and self.occupancy.extrapolates:
            warnings.warn(
                "Variance is unbounded: a rollout that fails far outside the data can rule the choice. "
                "Marginal is safer with PolicyRollout.",
                stacklevel=2,
            )
        self.aggregate = aggregate
        self.gain_is = aggregate.gain_is if costs is None else f"{aggregate.gain_is}, for each unit of cost"
        self._warned = False

    def check(self, suite: TaskSuite, budget: int) -> None:
        """Raises InputError if `noise` or `costs` name a task that the suite lacks."""
        super().check(suite, budget)
        self.costs_of(suite)

    def costs_of(self, suite: TaskSuite) -> Tensor | None:
        """See `costs`."""
        return _by_task(suite, self.costs)

    def score(self, posterior: Posterior, problem: Problem) -> Tensor:
        """Expected information gain of each task, for each unit of cost."""
        return information_scores(posterior, problem, self.aggregate)

    def teach(self, posterior: Posterior, problem: Problem, task: int) -> Tensor:
        """See `InformedSelector.teach`."""
        return information_by_task(posterior, problem, self.aggregate, task)

    def diagnose(self, posterior: Posterior, problem: Problem) -> dict[str, float]:
        """Range of log10(v/κ) over the target states; warns once if κ drowns all variances."""
        if (kappa := self.aggregate.kappa) is None:
            return {}
        ratios = posterior.variance(posterior.prepare(problem.targets.points)) / kappa
        smallest, largest = ratios.clamp(min=1e-12).log10().aminmax()
        if largest < -1 and not self._warned:
            self._warned = True
            warnings.warn(
                f"The largest variance of the belief is {10 ** float(largest):.2g} κ: below κ/10 the gain is in effect "
                f"the variance removed, and nearly flat. Consider a smaller kappa (now {kappa:g}) or rho.",
                stacklevel=2,
            )
        return {
            "log10_variance_over_kappa/smallest": float(smallest),
            "log10_variance_over_kappa/largest": float(largest),
        }


class UncertaintySampling(InformedSelector):
    """Asks for the task whose states have the largest mean variance v_D, without looking ahead.

    The same belief as `InformationGain`; the comparison of the two says what looking ahead is worth.

    Args:
        embedding: what makes two states alike.
        occupancy: which states stand for a demonstration not yet given.
        rho: ridge ρ of the belief, in units of the observation noise.
    """

    gain_is = InformedSelector.need_is

    def __init__(
        self,
        embedding: Embedding = _EMBEDDING,
        occupancy: Occupancy = _OCCUPANCY,
        rho: float = 0.1,
    ) -> None:
        super().__init__(embedding, occupancy, rho)

    def score(self, posterior: Posterior, problem: Problem) -> Tensor:
        """Mean v_D over the expected states of each task."""
        return task_variances(posterior, problem.targets, len(problem.distribution))


def _positive(name: str, values: dict[str, float] | None) -> dict[str, float]:
    for task, value in (values or {}).items():
        if value <= 0:
            raise InputError(f"{name} of task '{task}' is {value}; it must be positive.")
    return values or {}


def _by_task(suite: TaskSuite, values: Mapping[str, float]) -> Tensor | None:
    """The value of every task, 1 where none is named, [K] float64; None if none is named at all."""
    if not values:
        return None
    levels = torch.ones(len(suite.tasks), dtype=torch.float64)
    for name, value in values.items():
        levels[suite.task(name).index] = value
    return levels
