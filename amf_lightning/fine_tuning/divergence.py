"""Training that diverged ends where it did, with a sentence that says where and what can be done."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from amf_lightning.demonstrations.batches import BLOCK, Block, MicroBatch
from amf_lightning.errors import InputError
from amf_lightning.tasks.task import TaskSuite

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

    def check(self, policy: nn.Module, block: Block, where: "Position", suite: TaskSuite, scaled: bool) -> None:
        """Raises InputError if a loss of the block, or a weight after it, is not finite.

        Args:
            policy: that is trained.
            block: that was trained on.
            where: in the run.
            suite: whose tasks they are.
            scaled: whether the losses are scaled, in precision 16-mixed: single steps that overflow are left out then.
        """
        finite = self._finite()
        bad = {name: (~column).nonzero().flatten().tolist() for name, column in finite.items()}
        if scaled:
            bad = {name: steps for name, steps in bad.items() if len(steps) == len(finite[name])}
        if first := min(((steps[0], name) for name, steps in bad.items() if steps), default=None):
            step, name = first
            raise InputError(f"{where.told(step)}: the loss '{name}' is not finite. {_advice(block, step, suite)}")
        weights = [parameter.detach().isfinite().all() for parameter in policy.parameters()]
        if weights and not torch.stack(weights).all():
            step = len(self._losses) - 1
            raise InputError(f"{where.told(step)}: the weights are not finite. {_advice(block, step, suite)}")

    def _finite(self) -> dict[str, Tensor]:
        """Whether each loss of each step is, [steps] bool on the CPU, by name."""
        names = list(dict.fromkeys(name for losses in self._losses for name in losses))
        columns = {name: [losses[name] for losses in self._losses if name in losses] for name in names}
        return {name: torch.stack(column).isfinite().cpu() for name, column in columns.items()}


class Position:
    """Where in a run a block of steps is.

    Args:
        round: of the run.
        block: number of the block in the round.
        steps: of a round.
    """

    def __init__(self, round: int, block: int, steps: int) -> None:
        self._round, self._first, self._steps = round, block * BLOCK, steps

    def told(self, step: int) -> str:
        """For messages, of a step of the block."""
        return f"Round {self._round}, step {self._first + step + 1} of {self._steps}: training diverged"


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
