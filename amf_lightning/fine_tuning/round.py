"""The training of one round: one function for the run itself and for `Lookahead`, which tries a round on copies."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, Protocol

import torch
from torch import Tensor

from amf_lightning.demonstrations.batches import MicroBatch, Rows, demonstration_rows
from amf_lightning.policies.protocol import Policy, RefittedPolicy
from amf_lightning.retention.retention import Retention
from amf_lightning.seeding import Purpose, keyed_global_generators, lent_global_generators
from amf_lightning.tasks.steps import Window, cat
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

REPLAY = "replay"
"""The source of what a retention replays."""


class Stepper(Protocol):
    """The part of an optimiser that a round needs; Lightning's wrapper of one has it too."""

    def zero_grad(self) -> None:
        """Forgets the gradients."""

    def step(self) -> Any:
        """Moves the weights along their gradients."""


def round_rows(
    demonstrations: list[Trajectory], suite: TaskSuite, retention: Retention, balance_tasks: bool, window: Window
) -> dict[str, Rows]:
    """What a round trains on, by the name of its source: the demonstrations, and what the retention replays.

    Args:
        demonstrations: of all rounds so far, this one's included.
        suite: whose tasks they are of.
        retention: prepared.
        balance_tasks: draw every demonstrated task equally often.
        window: what the policy sees and predicts at each step.

    Raises:
        InputError: there is no demonstration.
    """
    rows = {"demonstrations": demonstration_rows(demonstrations, suite, balance_tasks, window)}
    demonstrated = frozenset(suite.task(demonstration.task).index for demonstration in demonstrations)
    if (replay := retention.replay(demonstrated)) is not None:
        rows[REPLAY] = replay
    return rows


def meet_demonstrations(
    policy: Policy, pretrained: Policy, rows: Rows, device: torch.device, seed: int, round: int
) -> None:
    """What happens to a policy before the steps of a round: a fresh one is normalised, a `RefittedPolicy` is refitted.

    Args:
        policy: changed in place.
        pretrained: π0, which a refit starts from.
        rows: of all demonstrations so far.
        device: where the policy is.
        seed: of the run.
        round: its number; what the policy draws by itself is a function of both.
    """
    if policy.is_normalised and not isinstance(policy, RefittedPolicy):
        return
    steps = rows.everything().to(device)
    with keyed_global_generators(seed, Purpose.MEET, round):
        if not policy.is_normalised:
            policy.fit_normaliser(steps)
        if isinstance(policy, RefittedPolicy):
            policy.refit(pretrained, steps)


def losses_of(policy: Policy, retention: Retention, microbatch: MicroBatch) -> dict[str, Tensor]:
    """Mean loss of each source of a micro-batch, and the retention's penalty, if it has one; scalars."""
    replayed = microbatch.get(REPLAY)
    apart = None if replayed is None else retention.replay_loss(policy, replayed)
    # One pass for all sources: at this size the overhead of a second one is a fifth of the step.
    together = {name: rows for name, rows in microbatch.items() if apart is None or name != REPLAY}
    sources = list(together.values())
    each = retention.loss(policy, cat(sources))
    parts = torch.split(each, [len(source) for source in sources]) if len(sources) > 1 else (each,)
    losses: dict[str, Tensor] = {name: part.mean() for name, part in zip(together, parts, strict=True)}
    if apart is not None:
        losses[REPLAY] = apart.mean()
    if (penalty := retention.penalty(policy)) is not None:
        losses["penalty"] = penalty
    return losses


def weighted_sum(losses: Mapping[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """The objective: each loss times its factor, 1 if it has none."""
    # A factor of 1 is left out and nothing is stacked: each operation costs a hundredth of a step.
    terms = [loss if factors.get(name, 1.0) == 1.0 else factors[name] * loss for name, loss in losses.items()]
    return sum(terms[1:], terms[0])


def propagate(objective: Tensor, last: bool) -> None:
    """The plain backward pass of `take_steps`."""
    objective.backward()  # type: ignore[no-untyped-call]


def take_steps(
    steps: Iterable[Sequence[MicroBatch]],
    losses: Callable[[MicroBatch], dict[str, Tensor]],
    factors: Mapping[str, float],
    optimizer: Stepper,
    backward: Callable[[Tensor, bool], None] = propagate,
    after_step: Callable[[Mapping[str, Tensor]], None] = lambda _: None,
    seeds: Iterable[Sequence[int]] | None = None,
) -> None:
    """Takes optimiser steps, each along the mean gradient of its micro-batches.

    What is done to complete gradients (masks, clipping) and to the new weights hangs on the optimiser's own hooks.

    Args:
        steps: the micro-batches of each step, at least one.
        losses: named scalar losses of a micro-batch; without a graph, the step is taken with no gradient.
        factors: of the losses in the objective; 1 where none is named.
        optimizer: of the trained weights.
        backward: adds an objective's gradient; its second argument says whether the gradient is complete with it.
        after_step: gets the losses of the last micro-batch of each step.
        seeds: for each micro-batch of each step, of what its loss draws by itself for dropout or noise; None: it draws
            on from where the global generators stand.
    """
    with _subnormal_numbers_as_zero(), lent_global_generators() as set_to:
        for microbatches, of_microbatches in zip(steps, repeat(()) if seeds is None else seeds, strict=False):
            optimizer.zero_grad()
            for number, microbatch in enumerate(microbatches, start=1):
                if of_microbatches:
                    set_to(of_microbatches[number - 1])
                named_losses = losses(microbatch)
                objective = weighted_sum(named_losses, factors)
                if len(microbatches) > 1:
                    objective = objective / len(microbatches)
                if objective.requires_grad:  # else the policy is refitted, and no weight has a gradient
                    backward(objective, number == len(microbatches))
            optimizer.step()
            after_step(named_losses)


@contextmanager
def _subnormal_numbers_as_zero() -> Iterator[None]:
    """The momentum of a unit that died shrinks to subnormal numbers and stays there; with them Adam is half as fast.

    They are taken as zero while the steps last: times a learning rate they move no weight either way.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
