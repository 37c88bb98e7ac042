from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from amf_lightning.errors import InputError
from amf_lightning.experts.goal_actor import GoalActor, goal_signature, load_goal_actor, save_goal_actor
from amf_lightning.experts.trained import TrainedExpert
from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
from amf_lightning.suites.humanoid import HumanoidVelocity
from amf_lightning.tasks.task import Episode


@pytest.fixture
def actor() -> GoalActor:
    return GoalActor([18, 8, 8, 6], goal_signature(HalfCheetahVelocity(reference=None)))


def test_actions_follow_the_formula(actor: GoalActor) -> None:
    rng = np.random.default_rng(0)
    s, g = rng.normal(size=(5, 17)).astype(np.float32), rng.normal(size=(5, 1)).astype(np.float32)
    hidden = np.concatenate([s, g], axis=1)
    state = {name: tensor.numpy() for name, tensor in actor.state_dict().items()}
    for layer in range(3):
        hidden = hidden @ state[f"layers.{layer}.weight"].T + state[f"layers.{layer}.bias"]
        hidden = np.tanh(hidden) if layer == 2 else np.maximum(hidden, 0)
    found = actor.act(torch.from_numpy(s), torch.from_numpy(g)).detach().numpy()
    np.testing.assert_allclose(found, hidden, atol=1e-6)


def test_a_file_gives_the_same_actor_and_facts_and_the_same_bytes(tmp_path: Path, actor: GoalActor) -> None:
    path = tmp_path / "expert.safetensors"
    save_goal_actor(path, actor, {"mean_return": -1.5})
    loaded, facts = load_goal_actor(str(path))
    assert (loaded.sizes, loaded.suite, facts) == (actor.sizes, actor.suite, {"mean_return": -1.5})
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in actor.state_dict().items())
    again = tmp_path / "again.safetensors"
    save_goal_actor(again, loaded, facts)
    assert again.read_bytes() == path.read_bytes()


def test_files_that_are_no_expert_are_refused(tmp_path: Path, actor: GoalActor) -> None:
    path = tmp_path / "expert.safetensors"
    save_goal_actor(path, actor, {})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"expert\.safetensors is truncated or not a safetensors file"):
        TrainedExpert(str(path))
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, other)
    with pytest.raises(InputError, match="not an expert of this package"):
        TrainedExpert(str(other))
    with pytest.raises(InputError, match="No file and no shipped weights"):
        TrainedExpert("halfcheetah/expret")


def test_an_expert_of_another_suite_is_refused(tmp_path: Path, actor: GoalActor) -> None:
    path = tmp_path / "expert.safetensors"
    save_goal_actor(path, actor, {})
    suite = HumanoidVelocity(reference=None)
    with pytest.raises(InputError, match=r"another suite: name 'HalfCheetahVelocity' instead of 'HumanoidVelocity'"):
        TrainedExpert(str(path)).demonstrate(suite, [Episode(suite.tasks[0], 0)])
