"""The training command; what needs JAX is skipped where the extra `[experts]` is not installed."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amf_lightning.command_line.train_expert import main
from amf_lightning.command_line.training_curve import main as draw_curve
from amf_lightning.errors import InputError
from amf_lightning.experts.goal_actor import GoalActor, goal_signature, load_goal_actor
from amf_lightning.experts.training.curve import training_figure
from amf_lightning.experts.training.practice import VelocityPractice
from amf_lightning.experts.training.progress import Counters, Progress
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity

needs_sbx = pytest.mark.skipif(find_spec("sbx") is None, reason="training needs the extra [experts] (JAX)")

SHORT = """
--suite HalfCheetahVelocity --suite.reference null --suite.horizon 20 --suite.targets [0,1]
--recipe.environments 4 --recipe.gradient_steps 2 --recipe.learning_starts 40 --recipe.actor [16,16]
--recipe.critic [16,16] --evaluate_every 40 --save_every 40 --episodes 1
""".split()  # noqa: SIM905 - easier to read


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "progress.csv").read_text().splitlines()))


@needs_sbx
def test_a_killed_training_goes_on_with_the_identical_command(tmp_path: Path) -> None:
    """Killed without warning, as a process; what it had saved counts and what it had not is done again."""
    command = [*SHORT, "--recipe.env_steps", "600", "--output", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-m", "amf_lightning", "train-expert", *command],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert "env_steps=160" in lines[-1]
        process.kill()
    (saved,) = (p for p in (tmp_path / "out").glob("checkpoint-*") if not p.suffix)
    counters = json.loads((saved / "counters.json").read_text())
    assert counters["env_steps"] >= 120
    main(command)
    steps = [int(row["env_steps"]) for row in rows(tmp_path / "out")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 600
    seconds = [float(row["wall_seconds"]) for row in rows(tmp_path / "out")]
    assert seconds == sorted(seconds)


@needs_sbx
def test_a_checkpoint_holds_everything_that_learning_needs(tmp_path: Path) -> None:
    import jax

    from amf_lightning.experts.training.checkpoints import Checkpoints
    from amf_lightning.experts.training.learner import make_model, torch_actor
    from amf_lightning.experts.training.recipe import Recipe

    suite = HalfCheetahVelocity([0, 1], horizon=20, reference=None)
    recipe = Recipe(environments=4, learning_starts=40, actor=[16, 16], critic=[16, 16], buffer_size=400)
    model = make_model(suite, recipe, seed=0, done=0)
    model.learn(120)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(model, 12.5)
    assert checkpoints.counters() == Counters(12.5, 120, model._n_updates)
    other = make_model(suite, recipe, seed=1, done=0)
    checkpoints.restore(other)
    for name in ("actor_state", "qf_state"):
        kept, found = (jax.tree_util.tree_leaves(getattr(m.policy, name)) for m in (model, other))
        assert len(kept) > 10
        assert all(np.array_equal(a, b) for a, b in zip(kept, found, strict=True))
    assert np.array_equal(model.replay_buffer.observations[:30], other.replay_buffer.observations[:30])
    assert (other.replay_buffer.pos, other.num_timesteps) == (30, 120)
    inputs = np.random.default_rng(0).normal(size=(9, 18)).astype(np.float32)
    actor = torch_actor(other, suite)
    found = actor.act(torch.from_numpy(inputs[:, :17]), torch.from_numpy(inputs[:, 17:])).numpy()
    np.testing.assert_allclose(found, model.predict(inputs, deterministic=True)[0], atol=1e-6)


@needs_sbx
def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    main([*SHORT, "--recipe.env_steps", "40", "--output", str(tmp_path)])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match="belongs to another training"):
        main([*SHORT, "--recipe.env_steps", "40", "--seed", "1", "--output", str(tmp_path)])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@needs_sbx
def test_more_steps_can_be_asked_for_after_the_end(tmp_path: Path) -> None:
    for total in ("40", "80"):
        main([*SHORT, "--recipe.env_steps", total, "--output", str(tmp_path)])
    assert [row["env_steps"] for row in rows(tmp_path)] == ["40", "80"]


@pytest.mark.skipif(find_spec("sbx") is not None, reason="the extra is installed")
def test_without_the_extra_the_message_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pip install 'amf-lightning\[experts\]'"):
        main([*SHORT, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_best_actor_is_kept_not_the_last(tmp_path: Path) -> None:
    suite = HalfCheetahVelocity([0], horizon=20, reference=None)
    still = GoalActor([18, 6], goal_signature(suite))
    wild = GoalActor([18, 6], goal_signature(suite))
    with torch.no_grad():
        for parameter in still.parameters():
            parameter.zero_()
        for parameter in wild.parameters():
            parameter.fill_(0.7)
    for steps, actor in ((10, wild), (20, still), (30, wild)):
        # A new object each time: what was best survives an interruption.
        progress = Progress(tmp_path, suite, episodes=2, seed=0, done=steps)
        progress.evaluate(actor, Counters(float(steps), steps, steps))
    assert [row["best"] for row in rows(tmp_path)] == ["1", "1", "0"]
    best, facts = load_goal_actor(str(progress.best_path))
    assert facts["env_steps"] == 20
    assert not best.state_dict()["layers.0.weight"].any()
    # Rows after the checkpoint that is continued come again.
    Progress(tmp_path, suite, episodes=2, seed=0, done=15).evaluate(wild, Counters(16.0, 16, 16))
    assert [row["env_steps"] for row in rows(tmp_path)] == ["10", "16"]


def test_the_curve_of_a_training_is_drawn_from_its_rows(tmp_path: Path) -> None:
    suite = HalfCheetahVelocity([0, 1], horizon=20, reference=None)
    progress, picture = tmp_path / "progress.csv", tmp_path / "curve.png"
    with pytest.raises(InputError, match=r"progress\.csv does not exist"):
        draw_curve([str(progress), str(picture)])
    for steps in (10, 20):
        evaluations = Progress(tmp_path, suite, episodes=1, seed=0, done=steps)
        evaluations.evaluate(GoalActor([18, 6], goal_signature(suite)), Counters(1.0, steps, steps))
    draw_curve([str(progress), str(picture)])
    with Image.open(picture) as image:
        assert image.format == "PNG"
    errors, lengths = training_figure(rows(tmp_path)).axes
    assert [line.get_label() for line in errors.lines][:2] == ["v=0", "v=1"]
    assert [np.asarray(line.get_xdata()).tolist() for line in lengths.lines][:2] == [[1e-5, 2e-5]] * 2
    assert [np.asarray(line.get_ydata()).tolist() for line in lengths.lines][:2] == [[20.0, 20.0]] * 2
    progress.write_text("")
    with pytest.raises(InputError, match="no evaluation yet"):
        draw_curve([str(progress), str(picture)])


def test_practice_draws_targets_from_the_range_that_is_within_reach() -> None:
    suite = HalfCheetahVelocity(horizon=5, reference=None)
    for reach, top in ((1.0, 6.0), (0.25, -0.75)):
        practice = VelocityPractice(suite, np.random.default_rng(0), lambda reach=reach: reach)  # type: ignore[misc]
        goals = np.array([practice.reset()[0][-1] for _ in range(200)]) * 3
        assert -3 <= goals.min() < -2.8 * 1
        assert top - 0.2 < goals.max() <= top
    observation, reward, *_, info = practice.step(np.zeros(6, dtype=np.float32))
    assert observation.shape == (18,)
    assert observation.dtype == np.float32
    assert reward == pytest.approx(-abs(info["x_velocity"] - 3 * observation[-1]), abs=1e-5)
