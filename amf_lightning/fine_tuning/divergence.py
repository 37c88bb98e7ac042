"""Training that diverged ends where it did, with a sentence that says where and what can be done."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from amf_lightning.demonstrations.batches import BLOCK, Block, MicroBatch
from amf_lightning.errors import InputError
from amf_lightning.tasks.task import TaskSuite

if TYPE_CHECKING:
    from amf_lightning.fine_tuning.module import BehaviouralCloning

_HUGE = 1e6
"""Numbers in data beyond which they are named as a likely cause."""


class LossWatch:
    """Remembers the losses of a block of steps, and looks at all of them at once: a look at each would wait for a GPU.

    Args:
        log: called with the losses of each step, too.
    """

    def __init__(self, log: Callable[[Mapping[str, Tensor]], None]) -> None:
        self._log = log
        self._losses: list[dict[str, Tensor]] = []

    def __call__(self, losses: Mapping[str, Tensor]) -> None:
        """Takes the losses of a step."""
        self._losses.append({name: loss.detach() for name, loss in losses.items()})
        self._log(losses)

    def check(self, module: "BehaviouralCloning", block: Block, number: int) -> None:
        """Raises InputError if a loss of the block, or a weight after it, is not finite.

        Args:
            module: that was trained.
            block: that it was trained on.
            number: of the block in its round.
        """
        finite = self._finite()
        bad = {name: (~column).nonzero().flatten().tolist() for name, column in finite.items()}
        if str(module.trainer.precision) == "16-mixed":  # single steps that overflow are left out there
            bad = {name: steps for name, steps in bad.items() if len(steps) == len(finite[name])}
        first = min(((steps[0], f"loss '{name}' is") for name, steps in bad.items() if steps), default=None)
        weights = [parameter.detach().isfinite().all() for parameter in module.policy.parameters()]
        if first is None and weights and not torch.stack(weights).all():
            first = len(self._losses) - 1, "weights are"
        if first is not None:
            step, what = first
            raise InputError(
                f"Round {module.current_epoch}, step {number * BLOCK + step + 1} of {module.data.steps_per_round}: "
                f"training diverged, the {what} not finite. {_advice(block, step, module.suite)}"
            )

    def _finite(self) -> dict[str, Tensor]:
        """Whether each loss of each step is, [steps] bool on the CPU, by name."""
        names = list(dict.fromkeys(name for losses in self._losses for name in losses))
        columns = {name: [losses[name] for losses in self._losses if name in losses] for name in names}
        return {name: torch.stack(column).isfinite().cpu() for name, column in columns.items()}


def _advice(block: Block, step: int, suite: TaskSuite) -> str:
    data = ", ".join(_huge(_microbatches(block, step), suite))
    cause = f"The data of that step reach {data}: correct that entry, or " if data else ""
    begin = "go" if data else "Go"
    return (
        f"{cause}{begin} on from the rounds before, which are kept, with the same command and clipped gradients "
        "(--trainer.gradient_clip_val 1); a lower learning rate (model.optimizer.init_args.lr) is another run, in "
        "another folder."
    )


def _microbatches(block: Block, step: int) -> Sequence[MicroBatch]:
    return next(microbatches for number, microbatches in enumerate(block) if number == step)


def _huge(microbatches: Sequence[MicroBatch], suite: TaskSuite) -> Iterator[str]:
    """Entries of the data with numbers that training can hardly bear: value, entry and task."""
    for microbatch in microbatches:
        for rows in microbatch.values():
            entries = {f"observation '{name}'": entry for name, entry in rows.observations.items()}
            for name, entry in {**entries, "the context": rows.contexts}.items():
                if not entry.is_floating_point():
                    continue
                sizes = entry.detach().abs().flatten(1).amax(dim=1)
                if (largest := float(sizes.max())) > _HUGE:
                    task = suite.tasks[int(rows.tasks[sizes.argmax()])]
                    yield f"{largest:.2g} in {name} of task '{task.name}'"
