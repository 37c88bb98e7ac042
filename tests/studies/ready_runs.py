"""Finished run folders with invented numbers."""

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.evaluation.scores import Evaluation

PROGRAM = (sys.executable, str(Path(__file__).with_name("stub_amf.py")))
"""The stub that copies them."""
TASKS = ("slow", "fast")
BUDGET = 4
USES = {"Rebalancing": ["pre-training counts"], "InformationGain": ["simulator rollouts"]}
SPEEDS = {"InformationGain": 0.14, "Rebalancing": 0.1}


def write_run(folder: Path, selector: str, seed: int, budget: int = BUDGET) -> None:
    """A finished run. `slow`, known from pre-training, loses 0.05 a demonstration; the mean rises by `SPEEDS`."""
    run = RunFolder(folder)
    evaluations = []
    for count in range(budget + 1):
        mean = min(0.8, 0.4 + 0.02 * seed + SPEEDS.get(selector, 0.05) * count)
        slow = 0.9 - 0.05 * count
        scores = (slow, 2 * mean - slow)
        returns = (10 * scores[0], 10 * scores[1])
        evaluations.append(Evaluation(count, returns, (1.0, 0.0), scores, math.fsum(scores) / 2))
    picks = [int(selector == "InformationGain" or i % 2) for i in range(budget)]
    run.write_selections([Request(i, i, TASKS[pick], pick, selector, (0.0, 1.0), i) for i, pick in enumerate(picks)])
    run.write_curve(evaluations, TASKS)
    run.write_evaluation(
        evaluations[-1],
        TASKS,
        selector=selector,
        uses=USES.get(selector, []),
        environment_steps=100 * seed if selector == "InformationGain" else 0,
        pretraining_tasks=["slow"],
        budget=budget,
    )
    run.report.write_text("written last but one")
    run.policy.write_bytes(selector.encode())


def lay_ready(folder: Path, selectors: Sequence[str] = ("Uniform", "FromBase", *SPEEDS)) -> None:
    """Puts runs where the stub looks for them, and tells it where that is."""
    for selector in selectors:
        for seed in range(5):
            write_run(folder / selector / str(seed), selector, seed)
    os.environ["STUB_RUNS"] = str(folder)
