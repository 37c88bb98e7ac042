"""Returns of random actions and of an expert, task by task; `amf measure` is the command."""

from dataclasses import dataclass

import numpy as np

from amf_lightning.errors import InputError, moved
from amf_lightning.experts.expert import Expert
from amf_lightning.experts.uniform import UniformActor
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.outcomes import check_learner, counted_return
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import Episode, TaskSuite


@dataclass(frozen=True)
class Measured:
    """One task, over some episodes."""

    random: float
    """Mean return of uniformly random actions."""
    random_spread: float
    """Standard deviation of it over episodes."""
    expert: float
    """Mean return of the expert."""
    spread: float
    """Standard deviation of it over episodes."""
    success: float
    """Share of the expert's episodes that succeed."""
    length: float
    """Mean length of the expert's episodes in steps."""
    metrics: dict[str, float]
    """Mean of each of the suite's metrics over the expert's episodes."""


def measure(suite: TaskSuite, expert: Expert, episodes: int) -> dict[str, Measured]:
    """Runs random actions and the expert on every task of the suite, from the same initial states.

    Returns are those that scores take (`counted_return`): an episode of either that ends early has none to gain by it.

    Args:
        suite: its tasks are measured.
        expert: should give every demonstration at the first attempt, failed or not (`successes_only: false`).
        episodes: for each task.

    Raises:
        InputError: no episode is asked for, or the expert does not answer at once.
    """
    if episodes < 1:
        raise InputError(f"episodes is {episodes}; at least one of each task is needed to measure anything.")
    measurements = {}
    for task in suite.tasks:
        runs = [Episode(task, keyed_seed(0, Purpose.MEASURE, task.index, number)) for number in range(episodes)]
        demonstrations = [trajectory for trajectory in expert.demonstrate(suite, runs) if trajectory is not None]
        if len(demonstrations) != episodes:
            raise InputError(
                f"{type(expert).__name__} gave {len(demonstrations)} of {episodes} demonstrations of task "
                f"'{task.name}'. Only an expert that answers at once can be measured."
            )
        # From the same initial states as the expert, so that the gap is not one of luck.
        blind = rollout(UniformActor(suite.action_dim), suite, runs, may_fail=True)
        check_learner(blind, "episodes of random actions")
        random = [counted_return(trajectory, task.horizon, 0.0) for trajectory in blind]
        returns = [counted_return(trajectory, task.horizon, 0.0) for trajectory in demonstrations]
        names = sorted({name for trajectory in demonstrations for name in trajectory.metrics})
        measurements[task.name] = Measured(
            random=float(np.mean(random)),
            random_spread=float(np.std(random)),
            expert=float(np.mean(returns)),
            spread=float(np.std(returns)),
            success=float(np.mean([trajectory.success for trajectory in demonstrations])),
            length=float(np.mean([trajectory.length for trajectory in demonstrations])),
            metrics={
                name: float(np.mean([t.metrics[name] for t in demonstrations if name in t.metrics])) for name in names
            },
        )
    return measurements


def table(measured: dict[str, Measured]) -> str:
    """The numbers in Markdown, a row a task."""
    names = sorted({name for row in measured.values() for name in row.metrics})
    head = ["task", "random return", "expert return", "success", "length", *(name.replace("_", " ") for name in names)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for task, row in measured.items():
        metrics = [f"{row.metrics[name]:.3f}" if name in row.metrics else "" for name in names]
        returns = [f"{row.random:.1f} ± {row.random_spread:.1f}", f"{row.expert:.1f} ± {row.spread:.1f}"]
        lines.append([task, *returns, f"{100 * row.success:.0f} %", f"{row.length:.0f}", *metrics])
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


if __name__ == "__main__":
    moved("measure")
