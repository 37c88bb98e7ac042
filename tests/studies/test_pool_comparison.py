"""Two selectors are compared on a pool of recordings, with nothing that simulates, by `amf compare` itself."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from amf_process import amf, fresh
from test_docs import NAMED, blocks, python

from amf_lightning.campaign.curve import MEAN
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.tasks.trajectory import Trajectory

TASKS = ["left", "right", "up"]
GOALS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, 1.0)}


def record(folder: Path) -> None:
    rng, store = np.random.default_rng(0), DemonstrationStore(folder / "recordings")
    for number in range(15):
        task = TASKS[number % 3]
        positions, actions = [rng.uniform(-0.3, 0.3, 2)], []
        for _ in range(12):
            actions.append(np.clip(2 * (np.array(GOALS[task]) - positions[-1]), -1, 1))
            positions.append(positions[-1] + 0.2 * actions[-1])
        observations = {"state": np.array(positions[:-1], dtype=np.float32)}
        store.write(number, Trajectory(observations, np.array(actions, dtype=np.float32), rewards=None, task=task))


def configuration(expert: str = "RecordedPool") -> dict[str, object]:
    kernel = {"observation_lengthscales": 1.0, "context_lengthscales": 1.0}
    return {
        "suite": {
            "class_path": "StaticSuite",
            "init_args": {"name": "pool", "observation": {"state": {"shape": [2]}}, "action_dim": 2, "tasks": TASKS}
            | {"horizon": 12},
        },
        "expert": {"class_path": expert, "init_args": {"folder": "recordings"}},
        "model": {
            "policy": {"class_path": "MLPPolicy", "init_args": {"hidden": [32]}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
        },
        "data": {"batch_size": 16, "steps_per_round": 100},
        "selector": {
            "class_path": "InformationGain",
            "init_args": {
                "embedding": {"class_path": "Kernel", "init_args": kernel},
                "occupancy": "Demonstrated",
            },
        },
        "retention": "NoRetention",
        "evaluation": "HeldOutError",
        "active": {"budget": 3, "batch_size": 1},
        "reports": {"animation": False},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
        | {"num_sanity_val_steps": 0, "use_distributed_sampler": False, "log_every_n_steps": 1},
    }


@pytest.mark.slow
@pytest.mark.timeout(900)  # a busy machine takes its time
def test_two_selectors_on_a_pool(tmp_path: Path) -> None:
    record(tmp_path)
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(configuration()))
    strategies = {
        "base": "pool.yaml",
        "baseline": "Uniform",
        "strategies": {"ours": {}, "Uniform": {"selector": "Uniform"}},
    }
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(strategies))
    options = ("--config=comparison.yaml", "--output=out")
    done = fresh("compare", *options, "--seeds=0:2", "--share-imports", cwd=tmp_path)
    assert done.code == 0, done.said

    text = (tmp_path / "out" / "summary.md").read_text()
    assert "**Nothing was simulated:** no success rates" in text and "1 the expert" not in text
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["strategies"]["ours"]["auc"]["per_seed"]) == 2
    run = RunFolder(tmp_path / "out" / "runs" / "ours" / "seed-0")
    scores = [row.score for row in run.read_curve() if row.task == MEAN]
    assert len(scores) == 4 and all(0 <= score <= 1 for score in scores)
    assert scores[-1] > scores[0] + 0.1, "it learns to do what the held-out recordings show"
    assert "no success rates" in run.report.read_text() and "nan" not in run.report.read_text()
    assert run.read_facts()["tasks"]["left"]["success"] is None
    assert sorted(job.task for job in run.read_selections()) == sorted(TASKS), "each once, before anything is scored"

    other = RunFolder(tmp_path / "out" / "runs" / "ours" / "seed-1")
    shown = [DemonstrationStore(each.demonstrations).read(0).observations["state"][0].tolist() for each in (run, other)]
    assert shown[0] != shown[1], "another seed is another draw from the pool"

    again = amf("compare", *options, "--from-curves", cwd=tmp_path)
    assert again.code == 0, again.said
    assert (tmp_path / "out" / "summary.md").read_text() == text


def test_without_a_pool_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    record(tmp_path)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration("RecordedExpert")))
    done = amf("fit", "--config=run.yaml", "--trainer.default_root_dir=run", cwd=tmp_path)
    assert done.code == 2 and "HeldOutError needs recordings that are held out, but RecordedExpert" in done.stderr
    assert not (tmp_path / "run" / "demonstrations").exists()


def test_the_page_on_pools_runs_and_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    for page in ("no-simulator.md", "recordings.md"):
        for text in blocks(page, "yaml"):
            named = NAMED.match(text)
            assert named is not None
            (tmp_path / named[1]).write_text(text)
    python("-c", blocks("no-simulator.md", "python")[0], cwd=tmp_path)
    (command,) = blocks("recordings.md", "bash")
    dry = amf(*shlex.split(command)[1:], "--dry-run", cwd=tmp_path)
    assert dry.code == 0 and dry.stdout.count("runs/pool/") == 4, dry.said
    small = ("--data.steps_per_round=5", "--trainer.default_root_dir=run", "--reports.animation=false")
    for budget in (1, 3):
        done = amf("fit", "--config=pool.yaml", *small, f"--active.budget={budget}", cwd=tmp_path)
        assert done.code == 0, done.said
    run = RunFolder(tmp_path / "run")
    assert [row.demonstrations for row in run.read_curve() if row.task == MEAN] == [0, 1, 2, 3]
