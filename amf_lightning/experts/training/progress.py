"""How a training goes: evaluations, their curve, and the best actor so far."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amf_lightning.durable import remove_leftovers, write_durably
from amf_lightning.errors import InputError
from amf_lightning.experts.goal_actor import GoalActor, load_goal_actor, save_goal_actor
from amf_lightning.reading import read_text
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.task import Episode, TaskSuite


@dataclass(frozen=True)
class Counters:
    """How far a training is, over all its resumptions."""

    wall_seconds: float
    env_steps: int
    gradient_steps: int


class Progress:
    """Evaluates actors on the suite's tasks, always from the same initial states, and keeps the best one.

    The best is the one with the highest return averaged over tasks. Files: `progress.csv`, a row an evaluation, with
    mean |v_x − v| in m/s and length of each task, and `expert.safetensors`.

    Args:
        folder: where the files are; those of an interrupted training are continued.
        suite: whose tasks are evaluated.
        episodes: for each task and evaluation.
        seed: of the training.
        done: environment steps of the checkpoint that is continued; later rows are dropped, as they will come again.
    """

    def __init__(self, folder: Path, suite: TaskSuite, episodes: int, seed: int, done: int) -> None:
        self._folder, self._suite = folder, suite
        self._episodes = [
            Episode(task, keyed_seed(seed, Purpose.EVALUATE, task.index, i))
            for task in suite.tasks
            for i in range(episodes)
        ]
        remove_leftovers(folder)
        self._rows = [row for row in self._read() if int(row["env_steps"]) <= done]
        self._best = -np.inf
        if self.best_path.is_file():
            self._best = float(load_goal_actor(str(self.best_path))[1]["mean_return"])

    @property
    def best_path(self) -> Path:
        """The best actor so far."""
        return self._folder / "expert.safetensors"

    def evaluate(self, actor: GoalActor, counters: Counters) -> str:
        """Evaluates, adds a row, keeps the actor if it is the best; returns a line for people."""
        trajectories = rollout(actor, self._suite, self._episodes, may_fail=True)
        row: dict[str, float | str] = {
            "wall_seconds": round(counters.wall_seconds, 1),
            "env_steps": counters.env_steps,
            "gradient_steps": counters.gradient_steps,
        }
        score = float(np.mean([trajectory.episode_return for trajectory in trajectories]))
        is_best = score > self._best
        row |= {"mean_return": round(score, 3), "best": int(is_best)}
        for task in self._suite.tasks:
            own = [trajectory for trajectory in trajectories if trajectory.task == task.name]
            errors = [trajectory.metrics.get("velocity_error", np.nan) for trajectory in own]
            row[f"error {task.name}"] = round(float(np.mean(errors)), 4)
            row[f"length {task.name}"] = round(float(np.mean([trajectory.length for trajectory in own])), 1)
        if is_best:
            self._best = score
            facts = {"mean_return": score, "env_steps": counters.env_steps, "gradient_steps": counters.gradient_steps}
            save_goal_actor(self.best_path, actor, facts)
        self._rows.append({key: str(value) for key, value in row.items()})
        self._write()
        return " ".join(f"{key}={value}" for key, value in row.items())

    def _read(self) -> list[dict[str, str]]:
        path = self._folder / "progress.csv"
        if not path.is_file():
            return []
        advice = "Restore it, or choose another --output."
        try:
            rows = list(csv.DictReader(read_text(path, advice).splitlines()))
            if all(row["env_steps"].isdecimal() for row in rows):
                return rows
        except (csv.Error, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is not the table of a training ({error!r}). {advice}") from error
        raise InputError(f"{path} has a row without a number of environment steps. {advice}")

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_durably(self._folder / "progress.csv", text.getvalue())
