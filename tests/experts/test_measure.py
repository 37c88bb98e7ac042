import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from amf_lightning import shipped
from amf_lightning.command_line import measure as module
from amf_lightning.command_line.measure import main
from amf_lightning.errors import InputError, cause
from amf_lightning.experts.goal_actor import GoalActor, goal_signature, save_goal_actor
from amf_lightning.experts.measure import Measured, measure, table
from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.seeding import Purpose, keyed_seed
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.tasks.task import Episode


class Still:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.zeros(len(observations), 6)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """An expert that does nothing, which is the right thing at v = 0 only."""
    actor = GoalActor([18, 6], goal_signature(HalfCheetahVelocity(reference=None)))
    with torch.no_grad():
        for parameter in actor.parameters():
            parameter.zero_()
    save_goal_actor(tmp_path / "still.safetensors", actor, {})
    return tmp_path / "still.safetensors"


def test_numbers_are_means_and_spreads_over_the_episodes(weights: Path) -> None:
    suite = HalfCheetahVelocity([0, 2], horizon=30, reference=None)
    found = measure(suite, TrainedExpert(str(weights), successes_only=False), 3)
    task = suite.tasks[1]
    own = rollout(Still(), suite, [Episode(task, keyed_seed(0, Purpose.MEASURE, 1, i)) for i in range(3)])
    returns = [trajectory.episode_return for trajectory in own]
    row = found["v=2"]
    assert (row.expert, row.spread) == pytest.approx((np.mean(returns), np.std(returns)))
    assert row.metrics["velocity_error"] == pytest.approx(np.mean([t.metrics["velocity_error"] for t in own]))
    assert (row.success, found["v=0"].success, row.length) == (0.0, 1.0, 30.0)
    assert row.random < row.expert


def test_the_table_has_a_row_for_each_task() -> None:
    row = Measured(-300.25, 10.0, -20.5, 1.0, 0.5, 200.0, {"velocity_error": 0.1234})
    lines = table({"v=1": row, "v=2": row}).splitlines()
    piped = table({"left|right\nup": replace(row, metrics={"m|s": 1.0})}).splitlines()
    assert piped[2].startswith("| left\\|right up |") and len(piped) == 3
    assert piped[0].endswith(" length | m\\|s |"), "a measure's name breaks no table either"
    assert lines[0] == "| task | random return | expert return | success | length | velocity error |"
    assert lines[2] == "| v=1 | -300.2 ± 10.0 | -20.5 ± 1.0 | 50 % | 200 | 0.123 |"
    assert len(lines) == 4


def test_publishing_gives_a_reference_that_the_suite_reads(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    monkeypatch.setattr(shipped, "shipped_folder", lambda kind: tmp_path / kind)
    monkeypatch.setattr(module, "shipped_folder", lambda kind: tmp_path / kind)
    shipped.publish(weights, "still/expert.safetensors", "how it was made")
    suite_options = ["--suite.targets", "[0,2]", "--suite.horizon", "30", "--suite.reference", "null"]
    arguments = ["--suite", "HalfCheetahVelocity", *suite_options, "--weights", "still/expert", "--episodes", "2"]
    main([*arguments, "--publish"])
    suite = HalfCheetahVelocity([2, 0], horizon=30, reference="still/reference")
    assert suite.reference is not None
    assert suite.reference.expert[0] < suite.reference.expert[1]
    assert suite.reference.command.endswith("--suite.reference null --weights still/expert --episodes 2")
    card = (folder / "still/expert.md").read_text()
    assert "how it was made" in card
    assert capsys.readouterr().out in card
    assert set(json.loads((folder / "manifest.json").read_text())) == {
        "still/expert.safetensors",
        "still/reference.json",
    }


CONFIGURATION = """
suite:
  class_path: GymnasiumSuite
  init_args:
    environment: Pendulum-v1
    horizon: 9
    return_threshold: 0
    reference: not-there.json
    tasks: [{name: one}]
expert:
  class_path: LimitedExpert
  init_args: {limits: {one: 1}, expert: {class_path: ActorExpert, init_args: {actor: test_measure.Nothing}}}
"""


class Nothing:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return torch.zeros(len(observations), 1)


def test_a_configuration_is_measured_with_what_the_command_line_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(CONFIGURATION)
    main(["--config", str(tmp_path / "run.yaml"), "--episodes", "2", "--suite.horizon", "4"])
    said = capsys.readouterr().out
    assert "| 0 % | 4 |" in said, "failures of an expert within another are measured"
    with pytest.raises(InputError, match="episodes is 0"):
        main(["--config", str(tmp_path / "run.yaml"), "--episodes", "0"])


@pytest.mark.parametrize(
    ("before", "after", "phrase"),
    [
        ("Pendulum-v1", "Pendulumm-v1", "there is no environment 'Pendulumm-v1'"),
        ("measure.Nothing", "measure.Nothin", "has no 'Nothin'"),
    ],
)
def test_a_mistake_in_the_configuration_is_found(tmp_path: Path, before: str, after: str, phrase: str) -> None:
    (tmp_path / "run.yaml").write_text(CONFIGURATION.replace(before, after))
    with pytest.raises(Exception) as error:
        main(["--config", str(tmp_path / "run.yaml")])
    assert phrase in str(cause(error.value, InputError))
