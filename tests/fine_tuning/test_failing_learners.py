"""Runs in which the learner fails: they end, and say how it failed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from event_reader import Events
from process_groups import end_of
from test_two_processes import start as start_processes
from tiny_runs import Run, assert_same_outcome

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.command_line.measure import main as measure
from amf_lightning.demonstrations.batches import RoundBatches, Shards, demonstration_rows
from amf_lightning.errors import InputError
from amf_lightning.evaluation.scores import Evaluation
from amf_lightning.fine_tuning.divergence import LossWatch
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.tasks.task import checked_parallel
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

MakeRun = Callable[..., Run]


def fragile(way: str, **changes: Any) -> dict[str, Any]:
    return {"suite": {"class_path": "fragile.FragileSuite", "init_args": {"way": way}}, **changes}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, runs_from: Callable[[Path], MakeRun]) -> Run:
    """π0, which goes left whatever it is told, drives environments into an error in evaluations and rollouts."""
    left = {"selector": {"class_path": "FixedSchedule", "init_args": {"tasks": {"goal=-1": 1}}}}
    folder = tmp_path_factory.mktemp("broken")
    pretraining = {**left, "data": {"steps_per_round": 100}, "active": {"budget": 1, "batch_size": 1}}
    pretrained = Run(folder / "pretraining", pretraining | {"retention": "NoRetention"}).complete().folder.policy
    changes = fragile("raises", model={"pretrained": str(pretrained)}, active={"budget": 2, "batch_size": 1})
    return runs_from(folder)("run", changes).complete()


def test_a_run_whose_learner_fails_ends_and_the_same_command_finds_it_finished(broken: Run) -> None:
    facts = broken.folder.read_facts()
    before = broken.folder.report.read_bytes()
    assert facts["demonstrations"] == 2 and "Traceback" not in broken.log.read_text()
    broken.complete()
    assert broken.folder.report.read_bytes() == before


def test_failures_are_counted_by_reason(broken: Run) -> None:
    tasks = broken.folder.read_facts()["tasks"]
    failed = {name: task["failures"] for name, task in tasks.items() if "failures" in task}
    assert (
        failed and set(failed) <= {"goal=0.5", "goal=1"} and all(set(each) == {"exception"} for each in failed.values())
    )
    report = broken.folder.report.read_text()
    assert "## What failed" in report
    for name, each in failed.items():
        assert f"| {name} " in report.partition("## What failed")[2] and each["exception"] in (1, 2)
    events = Events(broken.folder.path)
    for name, each in failed.items():
        assert events.scalars(f"by_demonstrations/failures/exception/{name}")[2] == each["exception"]
    assert any(tag.startswith("selection/failed_rollouts/exception/goal=") for tag in events.tags())
    page = (Path(__file__).parents[2] / "docs" / "tensorboard.md").read_text()
    counted = {tag for tag in events.tags() if "/exception/" in tag}
    for tag in counted:
        assert f"`{tag.partition('exception')[0]}REASON/TASK`" in page, tag
    said = broken.log.read_text()
    assert "evaluation episodes broke off and count as failures (environment raised" in said
    assert "ValueError: joint limit" in said and "episodes of the selector broke off" in said


def test_an_evaluation_keeps_its_failures_in_a_checkpoint_and_one_without_any_is_as_it_was() -> None:
    evaluation = Evaluation(1, (0.0,), (0.0,), (0.0,), 0.0, failures=({"early": 2},))
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
    assert "failures" not in Evaluation(1, (0.0,), (0.0,), (0.0,), 0.0, failures=({},)).to_dict()


def test_random_actions_may_break_an_environment_when_it_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "returns.json"
    suite = ["--suite", "fragile.FragileSuite", "--expert", "tiny.TinyExpert"]
    with pytest.warns(UserWarning, match="episodes of random actions broke off"):
        measure([*suite, "--episodes", "20", "--output", str(output)])
    assert json.loads(output.read_text())["tasks"]["goal=1"]["random"] < -2.0


# -- training that diverges -------------------------------------------------------------------------------------------

EXPLODING = {
    "model": {
        "policy": {"class_path": "exploding.ExplodingPolicy"},
        "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 1.0}},
    },
    "data": {"steps_per_round": 60},
    "selector": "RoundRobin",
    "retention": "NoRetention",
    "active": {"budget": 2, "batch_size": 1},
}


def test_a_loss_that_is_not_finite_ends_the_round_and_clipped_gradients_go_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", EXPLODING)
    for _ in range(2):  # nothing is stuck in another state than before
        assert run.finish() == 2
        said = run.log.read_text()
        assert "Round 0, step " in said and " of 60: training diverged, the " in said
        assert "--trainer.gradient_clip_val 1" in said and "model.optimizer.init_args.lr" in said
        assert "Traceback" not in said and not run.folder.checkpoint.exists()
        assert len(Campaign(run.path, TinySuite()).arrived()) == 1, "the demonstration is kept"
    Run(tmp_path / "run", EXPLODING, ("--trainer.gradient_clip_val=0.01",)).complete()
    assert run.folder.finished(2)


@pytest.mark.parametrize(
    ("losses", "weight", "what"),
    [
        ([1.0, float("nan")], 0.0, r"step 52 of 60: training diverged, the loss 'demonstrations' is not finite"),
        ([1.0, 2.0], float("inf"), r"step 52 of 60: training diverged, the weights are not finite"),
    ],
)
def test_the_message_names_the_step_and_the_entry_of_the_data(losses: list[float], weight: float, what: str) -> None:
    suite, policy = TinySuite(), MLPPolicy(2, 1, 1, [4])
    torch.nn.init.constant_(policy.head.bias, weight)
    states = np.zeros((5, 2), np.float32)
    states[:, 1] = 3e30
    shown = [Trajectory({"state": states}, np.zeros((5, 1), np.float32), None, "goal=0.5")]
    rows = {"demonstrations": demonstration_rows(shown, suite)}
    batches = RoundBatches(lambda: rows, lambda: 3, 4, 60, Shards.of(0, 1, 1), seed=0)
    watch = LossWatch(lambda _: None)
    for loss in losses:
        watch({"demonstrations": torch.tensor(loss)})
    module: Any = SimpleNamespace(
        policy=policy,
        suite=suite,
        current_epoch=3,
        trainer=SimpleNamespace(precision="32-true"),
        data=SimpleNamespace(steps_per_round=60),
    )
    with pytest.raises(InputError, match=f"Round 3, {what}.* 3e\\+30 in observation 'state' of task 'goal=0.5'"):
        watch.check(module, list(batches)[1], 1)
    policy.head.bias.data.zero_()
    fine = LossWatch(lambda _: None)
    fine({"demonstrations": torch.tensor(1.0)})
    fine.check(module, list(batches)[1], 1)


# -- what cannot be repeated, and what is dear ------------------------------------------------------------------------

ONE: dict[str, Any] = {"selector": "RoundRobin", "retention": "NoRetention", "active": {"budget": 1, "batch_size": 1}}


def test_a_suite_that_ignores_its_seed_is_told_of_once(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", ONE | {"suite": "fragile.GloballyRandomSuite"}).complete()
    run.complete()
    assert run.log.read_text().count("does not repeat: the same actions from the same seed") == 1
    assert "**This suite does not repeat:**" in run.folder.report.read_text()
    sound = Run(tmp_path / "sound", ONE).complete()
    assert "not repeat" not in sound.log.read_text() + sound.folder.report.read_text()


def dying_at_reset(number: int, log: Path) -> None:
    """The process notes the resets in evaluations, and that the policy is on the disk; it dies at one of them."""
    import kill_points
    from fragile import FragileEnv

    from amf_lightning.evaluation.simulated import SimulatedEvaluation

    run, reset, evaluating, count = SimulatedEvaluation.run, FragileEnv.reset, [False], [0]

    def noting(self: Any, **options: Any) -> Any:
        if evaluating[0]:
            count[0] += 1
            with log.open("a") as file:
                file.write(
                    f"{options['options']['goal']} {options['seed']} {len(list(log.parent.glob('*/judged/*')))}\n"
                )
            if count[0] == number:
                kill_points.die(f"at reset {number}")
        return reset(self, **options)

    def marked(self: Any, jobs: Any) -> None:
        evaluating[0] = True
        run(self, jobs)
        evaluating[0] = False

    SimulatedEvaluation.run, FragileEnv.reset = marked, noting  # type: ignore[method-assign]


def test_an_evaluation_on_one_robot_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    suite = {"class_path": "fragile.FragileSuite", "init_args": {"way": "none", "parallel_episodes": 1}}
    run, log = Run(tmp_path / "run", ONE | {"suite": suite}), tmp_path / "resets"
    assert run.finish(dying_at_reset, 6, log) == -9  # in the evaluation of π0, of eight episodes
    assert run.finish(dying_at_reset, 7, log) == -9  # in that of the first round
    assert run.finish(dying_at_reset, 0, log) == 0
    reference = Run(tmp_path / "reference", ONE | {"suite": suite}).complete()
    assert_same_outcome(run, reference)
    resets = [line.split() for line in log.read_text().splitlines()]
    twice = [reset for number, reset in enumerate(resets) if reset[:2] in [other[:2] for other in resets[:number]]]
    assert len(resets) == 16 + 2, "one that was killed is run again, and no other"
    assert len(twice) == 8 + 2 and all(int(files) >= 1 for *_, files in resets)
    assert sorted(path.name for path in (run.path / "judged").iterdir()) == ["000000.safetensors", "000001.safetensors"]


def test_a_suite_that_runs_one_episode_at_a_time_is_run_by_one_process() -> None:
    assert checked_parallel(1, "Suite 'robot'") == 1 and checked_parallel(None, "Suite 'robot'", 2) is None
    with pytest.raises(InputError, match=r"but 2 processes would run some each\. Set trainer\.devices: 1"):
        checked_parallel(1, "Suite 'robot'", 2)


@pytest.mark.slow
def test_two_processes_cannot_share_one_robot(tmp_path: Path) -> None:
    suite = {"class_path": "fragile.FragileSuite", "init_args": {"parallel_episodes": 1}}
    run = Run(tmp_path / "run", ONE | {"suite": suite, "trainer": {"devices": 2, "accelerator": "cpu"}})
    assert end_of(start_processes(run), within=240) != 0
    assert "but 2 processes would run some each. Set trainer.devices: 1" in run.log.read_text()


def answering(text: str) -> None:
    import io
    import sys

    sys.stdin = io.StringIO(text)


def trials(run: Run) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (run.path / "outcomes.jsonl").read_text().splitlines()]


def test_a_person_is_asked_about_a_policy_on_the_disk_and_never_the_same_twice(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", ONE | {"evaluation": "AskedEpisodes", "data": {"evaluation_episodes": 2}})
    assert run.finish(answering, "y\nno\nperhaps\ny\n") == 2
    assert f"Run {run.path}/judged/000000.safetensors on 'goal=-0.5', trial 2 of 2. Success?" in run.log.read_text()
    assert "nobody answers" in run.log.read_text() and "at a terminal" in run.log.read_text()
    assert [trial["success"] for trial in trials(run)] == [1, 0, 1]
    assert (run.path / "judged" / "000000.safetensors").is_file()
    assert run.finish(answering, "n\n" * 5 + "y\n" * 3) == 2, "π0 is judged, the first round in part"
    assert len(trials(run)) == 11
    run.finish(answering, "y\n" * 5)
    kept = trials(run)
    assert len(kept) == 16 and [trial["demonstrations"] for trial in kept] == [0] * 8 + [1] * 8
    scores = {(row.demonstrations, row.task): row.score for row in run.folder.read_curve()}
    assert (scores[0, "goal=-1"], scores[0, "goal=-0.5"], scores[1, "mean"]) == (0.5, 0.5, 1.0)
    assert run.folder.finished(1)


def test_whoever_reports_later_finds_every_policy(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", ONE | {"evaluation": "ReportedEpisodes"}).complete()
    assert sorted(path.name for path in (run.path / "judged").iterdir()) == ["000000.safetensors", "000001.safetensors"]
    again = {"model": {"pretrained": str(run.path / "judged" / "000001.safetensors")}}
    Run(tmp_path / "next", ONE | again).complete()
