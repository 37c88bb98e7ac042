"""Several policies trained on the same data: where they disagree, the data do not say what the expert does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import cast

import torch
from jsonargparse.typing import lazy_instance
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part, union
from amf_lightning.policies.capabilities import FollowsField
from amf_lightning.policies.protocol import Policy, RefittedPolicy
from amf_lightning.policies.weights import build_policy
from amf_lightning.seeding import Purpose, keyed_generator, lent_global_generators
from amf_lightning.selection.baselines import draw_uniformly, without_scores
from amf_lightning.selection.context import Selection, SelectionContext, Selector
from amf_lightning.selection.occupancies import Expected, Occupancy, PolicyRollout, StateBlocks
from amf_lightning.selection.reference_rollouts import ReferenceRollouts
from amf_lightning.selection.starts import RolledOut
from amf_lightning.tasks.spec import Dimensions
from amf_lightning.tasks.start_state import StartState
from amf_lightning.tasks.steps import Steps, cat

# What the command line shows as the default; the constructor makes an object of its own instead.
_OCCUPANCY: Occupancy = lazy_instance(PolicyRollout)


class EnsembleDisagreement(Selector):
    """Draws tasks with probability ∝ exp(τ·d_c), d_c the disagreement of an ensemble on the states of task c.

    The idea of SAVE (arXiv 2606.18043), on our states. Each round the members are trained anew from different seeds on
    the same data, of which each sees a bootstrap keyed by (seed, round, member): the demonstrations so far and, since
    the pre-training data are gone, what π0 does on its own rollouts of the tasks that its file covers. d_c is the
    standard deviation of what the members predict, averaged over its entries and the expected states of the task: their
    actions, of policies of chunks whole chunks, and of a flow or a diffusion the field, of velocities or of noise, at
    the same times and noises around the chunk that the members predict on average. With nothing to train on the draw is
    uniform.

    Args:
        members: policies in the ensemble, of the class and options of the policy.
        sharpness: τ ≥ 0; 0 draws uniformly. Actions lie in [-1, 1], so d_c is at most about 1.
        steps: optimiser steps of each member in each round.
        batch_size: state-action pairs in a minibatch.
        learning_rate: of Adam.
        occupancy: which states stand for a task.
    """

    gain_is = "disagreement of the ensemble's predictions on the states of the task"
    need, need_is = "disagreement", gain_is
    does_without = (Need.PRETRAINING_STATISTICS,)
    instead = "Choose the selector RoundRobin, or InformationGain with the occupancy Demonstrated."

    def __init__(
        self,
        members: int = 5,
        sharpness: float = 10.0,
        steps: int = 400,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        occupancy: Occupancy = _OCCUPANCY,
    ) -> None:
        occupancy = PolicyRollout() if occupancy is _OCCUPANCY else occupancy
        name = type(self).__name__
        if members < 2:
            raise InputError(f"{name}: members is {members}; it takes at least 2 to disagree.")
        if sharpness < 0:
            raise InputError(f"{name}: sharpness is {sharpness}; it must not be negative.")
        if min(steps, batch_size) < 1 or learning_rate <= 0:
            raise InputError(f"{name}: steps, batch_size and learning_rate must be positive.")
        self.members = members
        self.sharpness = sharpness
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.occupancy = occupancy
        self.needs = union(occupancy.needs, (Need.PRETRAINING_STATISTICS, Need.SIMULATOR, Need.GRADIENT_STEPS))
        self._reference = ReferenceRollouts()

    @property
    def components(self) -> Mapping[str, Part]:
        return {"occupancy": self.occupancy}

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        """Trains the ensemble, then draws the batch with replacement, keyed by (seed, round, position).

        Raises:
            InputError: the policy does not learn by gradient steps.
        """
        if isinstance(context.policy, RefittedPolicy):
            name = type(self).__name__
            raise InputError(f"{name} trains policies by gradient steps; this one is refitted instead.")
        if context.round == 0 and context.statistics is not None:
            self._reference(context)
        first = list(self.occupancy.prefill(context, batch_size))
        unscored = without_scores(first, len(context.suite.tasks))
        if len(first) == batch_size:
            return unscored
        pieces = self._data(context)
        states = self.occupancy.expected(context)
        if not pieces or states is None:
            return draw_uniformly(context, batch_size)
        ensemble = [self._trained(context, member, pieces) for member in range(self.members)]
        scores = self._scores(ensemble, states.targets, len(context.suite.tasks))
        picks: list[int] = []
        for position in range(len(first), batch_size):
            chances = self._chances(scores, context.allowed([*first, *picks]))
            picks.append(int(torch.multinomial(chances, 1, generator=context.generator(position))))
        pairs = zip(context.suite.tasks, scores.tolist(), strict=True)
        diagnostics = {
            **states.diagnostics,
            **{f"disagreement/{task.name}": value for task, value in pairs},
            "environment_steps": float(states.environment_steps + self._reference.steps_in(context.round)),
        }
        rows = (*unscored.scores, *(tuple(scores.tolist()) for _ in picks))
        starts = self._starts(ensemble, states, context, picks)
        return Selection((*first, *picks), rows, diagnostics, starts=(None,) * len(first) + starts if starts else ())

    def _starts(
        self, ensemble: Sequence[Policy], expected: Expected, context: SelectionContext, picks: Sequence[int]
    ) -> tuple[StartState | None, ...]:
        """Where to start each pick: as the rollout does on which the members disagree most, if it stands out."""
        rolled_out = RolledOut(expected, context)
        if not rolled_out.enough:
            return ()
        each = torch.cat(
            [
                self._scores(ensemble, one_by_one(blocks), len(blocks.tasks))
                for blocks in (expected.candidates, expected.targets)
            ]
        )
        starts = tuple(rolled_out.start(task, lambda rows: each[rows]) for task in picks)
        return starts if any(starts) else ()

    def _scores(self, ensemble: Sequence[Policy], blocks: StateBlocks, task_count: int) -> Tensor:
        """How much the members disagree about each task, [K] float64; NaN for a task without states."""
        return disagreement(ensemble, blocks, task_count)

    def _chances(self, scores: Tensor, allowed: Tensor) -> Tensor:
        """With which probability each task is drawn, [K]."""
        return chances_of(scores, allowed, self.sharpness)

    def _data(self, context: SelectionContext) -> list[Steps]:
        """What the members learn from, a piece for each demonstration and each task of π0."""
        pieces = [context.steps_of([demonstration]) for demonstration in context.demonstrations]
        if context.statistics is None:
            return pieces
        steps = self._reference(context)
        return pieces + [steps[task.name] for task in context.suite.tasks if context.statistics.covers.get(task.name)]

    def _trained(self, context: SelectionContext, member: int, pieces: Sequence[Steps]) -> Policy:
        generator = keyed_generator(context.seed, Purpose.ENSEMBLE, context.round, member)
        policy = fresh_like(context.policy, context.suite.dimensions, generator)
        # Whole pieces are drawn: steps of one demonstration are so alike that a draw of steps would hardly differ.
        numbers = torch.randint(len(pieces), (len(pieces),), generator=generator).tolist()
        rows = cat([pieces[i] for i in numbers])
        order = torch.randint(len(rows), (self.steps, self.batch_size), generator=generator).to(rows.device)
        return self._stepped(policy, rows, order, generator)

    def _stepped(self, policy: Policy, rows: Steps, order: Tensor, generator: torch.Generator) -> Policy:
        """The policy after a step of Adam on each of the minibatches, whose row numbers `order` has, [steps, batch]."""
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.learning_rate)
        with torch.enable_grad(), lent_global_generators() as set_to:  # for dropout
            set_to(int(torch.randint(2**62, (1,), generator=generator)))
            for index in order:
                optimizer.zero_grad()
                policy.loss(rows[index]).mean().backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return policy.eval()


def fresh_like(policy: Policy, dimensions: Dimensions, generator: torch.Generator) -> Policy:
    """An untrained policy of the same class, options and device, and with what no training changes.

    That is its buffers (input normalisation) and the weights that its constructor freezes.
    """
    fresh = build_policy(lambda *made_for: type(policy)(*made_for, **policy.options), dimensions, generator)
    given = dict(chain(policy.named_buffers(), policy.named_parameters()))
    frozen = [(name, weight) for name, weight in fresh.named_parameters() if not weight.requires_grad]
    with torch.no_grad():
        for name, tensor in chain(fresh.named_buffers(), frozen):
            tensor.copy_(given[name])
    return fresh.to(policy.device)


@torch.no_grad()
def disagreement(ensemble: Sequence[Policy], blocks: StateBlocks, task_count: int) -> Tensor:
    """Standard deviation of the members' predictions, mean over their entries, states and trajectories; [K] float64.

    NaN for a task without states.
    """
    return task_means(predictions_of(ensemble, blocks).std(dim=0, correction=0).mean(1), blocks, task_count)


def predictions_of(ensemble: Sequence[Policy], blocks: StateBlocks) -> Tensor:
    """What each member predicts in each of N states, [M, N, P] float64: an action, a chunk, or its field around one."""
    steps, first = blocks.states.flatten(), ensemble[0]
    if first.can(FollowsField):
        chunk = torch.stack([member.predict(steps) for member in ensemble]).mean(dim=0)
        predicted = [cast(FollowsField, member).fields(steps, chunk) for member in ensemble]
    elif first.window.horizon > 1:
        predicted = [member.predict(steps) for member in ensemble]
    else:
        predicted = [member.act(steps) for member in ensemble]
    return torch.stack([each.flatten(1).to(torch.float64) for each in predicted])


def task_means(spread: Tensor, blocks: StateBlocks, task_count: int) -> Tensor:
    """Mean of a number of each of N states over the states and trajectories of each task, [K] float64.

    NaN for a task without states.
    """
    means = spread.reshape(blocks.states.shape).mean(1).cpu()
    scores = torch.zeros(task_count, dtype=torch.float64).index_add(0, blocks.tasks, blocks.weights * means)
    covered = torch.zeros(task_count, dtype=torch.bool)
    covered[blocks.tasks] = True
    return torch.where(covered, scores, torch.full_like(scores, torch.nan))


def one_by_one(blocks: StateBlocks) -> StateBlocks:
    """The same trajectories, each as if it were all that is expected of a task of its own."""
    return replace(blocks, tasks=torch.arange(len(blocks.tasks)), weights=torch.ones_like(blocks.weights))


def chances_of(scores: Tensor, allowed: Tensor, sharpness: float) -> Tensor:
    """exp(τ·d)/Σ over the allowed tasks with a score, 0 for the others, [K]; equal for the allowed if none has one.

    >>> chances_of(torch.tensor([0.0, 0.0, float("nan")]), torch.tensor([True, True, True]), 10.0)
    tensor([0.5000, 0.5000, 0.0000])
    """
    usable = allowed & ~scores.isnan()
    if not usable.any():
        return allowed.to(scores.dtype) / allowed.sum()
    return torch.softmax(torch.where(usable, sharpness * scores, torch.full_like(scores, -torch.inf)), dim=0)
