"""The steps of a round, beside the same steps written out with torch alone."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from tiny_runs import Run
from torch import Tensor, nn
from torch.optim import SGD

from amf_lightning.demonstrations.batches import MicroBatch
from amf_lightning.fine_tuning.round import take_steps, weighted_sum
from amf_lightning.tasks.steps import Steps

SMALLEST = torch.finfo(torch.float32).tiny


def rows(count: int, seed: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(seed)
    observations, contexts, actions = (torch.randn(count, width, generator=generator) for width in (3, 1, 2))
    return {"demonstrations": Steps.of_state(observations, contexts, actions)}


def losses_of(layer: nn.Module, microbatch: MicroBatch) -> dict[str, Tensor]:
    steps = microbatch["demonstrations"]
    error = layer(torch.cat([steps.state, steps.contexts], 1)) - steps.shown_actions
    return {"demonstrations": error.square().mean(), "penalty": sum(p.square().sum() for p in layer.parameters())}


def test_a_step_goes_along_the_mean_gradient_of_its_micro_batches() -> None:
    torch.manual_seed(0)
    layer, factors = nn.Linear(4, 2), {"penalty": 0.3}
    reference = deepcopy(layer)
    steps = [[rows(5, seed), rows(5, seed + 10)] for seed in range(3)]
    complete, seen = [], []
    take_steps(
        steps,
        lambda part: losses_of(layer, part),
        factors,
        SGD(layer.parameters(), lr=0.1, momentum=0.9),
        lambda objective, last: (complete.append(last), objective.backward())[1],  # type: ignore[func-returns-value,no-untyped-call]
        lambda losses: seen.append({name: loss.item() for name, loss in losses.items()}),
    )
    optimizer = SGD(reference.parameters(), lr=0.1, momentum=0.9)
    expected = []
    for first, second in steps:
        optimizer.zero_grad()
        each = [losses_of(reference, part) for part in (first, second)]
        sum((losses["demonstrations"] + 0.3 * losses["penalty"]) / 2 for losses in each).backward()  # type: ignore[union-attr]
        optimizer.step()
        expected.append({name: loss.item() for name, loss in each[1].items()})
    for mine, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert complete == [False, True] * 3
    assert seen == [pytest.approx(losses) for losses in expected]


def test_without_a_graph_a_step_is_counted_and_nothing_moves() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = SGD([weight], lr=0.1)
    taken = []
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    take_steps([[rows(2, 0)]], lambda _: {"demonstrations": torch.ones(())}, {}, optimizer)
    assert taken == [1] and weight.tolist() == [1.0, 1.0]


def test_subnormal_numbers_are_zero_while_the_steps_last_and_not_after_them() -> None:
    products: list[float] = []

    def failing(_: MicroBatch) -> dict[str, Tensor]:
        products.append((torch.tensor(SMALLEST) * 0.25).item())
        raise RuntimeError("in a step")

    with pytest.raises(RuntimeError, match="in a step"):
        take_steps([[rows(2, 0)]], failing, {}, SGD([nn.Parameter(torch.ones(1))], lr=0.1))
    products.append((torch.tensor(SMALLEST) * 0.25).item())
    assert products == [0.0, SMALLEST / 4]


def test_a_loss_that_has_no_factor_counts_once() -> None:
    losses = {"demonstrations": torch.tensor(2.0), "replay": torch.tensor(3.0), "penalty": torch.tensor(0.5)}
    assert weighted_sum(losses, {"demonstrations": 1.0, "replay": 4.0}).item() == 2.0 + 12.0 + 0.5


def test_callbacks_of_the_users_own_see_every_optimiser_step(make_run: Callable[..., Run]) -> None:
    callbacks = {"trainer": {"callbacks": {"class_path": "step_counter.StepCounter"}}}  # one, without a list
    run = make_run("run", callbacks, ("--trainer.accumulate_grad_batches=2",)).complete()
    lines = [line for line in run.log.read_text().splitlines() if line.startswith("steps:")]
    assert lines == ["steps: 36 steps, 72 backward passes, 3 blocks"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--trainer.gradient_clip_algorithm=nrm", "gradient_clip_algorithm is 'nrm'"),
        ("--trainer.accumulate_grad_batches=0", "accumulate_grad_batches is 0"),
    ],
)
def test_options_of_the_trainer_that_the_round_takes_over_are_checked(
    make_run: Callable[..., Run], option: str, message: str
) -> None:
    run = make_run("run", {}, (option,))
    assert run.finish() == 2
    assert message in run.log.read_text()
    assert not run.folder.ledger.exists()
