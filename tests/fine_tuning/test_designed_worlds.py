"""What selectors do in worlds whose answer is known."""

import json
from collections import Counter
from pathlib import Path

from amf_process import amf

from amf_lightning.campaign.run_folder import RunFolder


def picks(folder: Path, config: str, budget: int) -> list[str]:
    options = ["--trainer.default_root_dir=run", "--reports.animation=false", "--trainer.enable_progress_bar=false"]
    options += [f"--active.budget={budget}", "--data.evaluation_episodes=1"]
    outcome = amf("fit", f"--config=configs/{config}.yaml", *options, cwd=folder)
    assert outcome.code == 0, outcome.said
    return [json.loads(line)["task"] for line in RunFolder(folder / "run").selections.read_text().splitlines()]


def test_information_gain_asks_clusters_not_tasks_where_tasks_overlap(tmp_path: Path) -> None:
    """Half of the tasks are in a; one demonstration in each of the largest clusters is worth more than two there."""
    assert [task[0] for task in picks(tmp_path, "overlapping-goals", 3)] == ["a", "b", "c"]


def test_without_overlap_it_asks_no_task_twice(tmp_path: Path) -> None:
    assert max(Counter(picks(tmp_path, "compare/bases/separate-goals", 8)).values()) == 1


def test_it_asks_far_goals_first_where_these_have_the_large_features(tmp_path: Path) -> None:
    """The known weakness that this world is made to show: the far goals are not the hard ones."""
    assert picks(tmp_path, "precise-goals", 1) == ["radius=1.6"]
