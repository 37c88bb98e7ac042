"""Zips that Stable-Baselines3 2.9.2 wrote (stable_baselines3_zips/make.py), against what its own `predict` said."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

from amf_lightning.errors import InputError
from amf_lightning.experts.stable_baselines3 import StableBaselines3Expert, read_zip
from amf_lightning.experts.state_dict import read_tensors
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.tasks.task import Episode
from tiny import actor_of

ZIPS = Path(__file__).parent / "stable_baselines3_zips"
SAYS: dict[str, dict[str, Any]] = json.loads((ZIPS / "says.json").read_text())
TASKS = [GymnasiumTask("one", [1.0]), GymnasiumTask("two", [2.0])]


@pytest.fixture(scope="module")
def pendulum() -> GymnasiumSuite:
    return GymnasiumSuite("Pendulum-v1", TASKS, horizon=5, return_threshold=-1e9)


@pytest.fixture(scope="module")
def cartpole() -> GymnasiumSuite:
    return GymnasiumSuite("CartPole-v1", TASKS, horizon=5, return_threshold=1)


def rewritten(name: str, path: Path, data: dict[str, Any], tensors: dict[str, Any]) -> str:
    """A zip with some entries of `data` and some tensors replaced; None takes one away."""
    with zipfile.ZipFile(ZIPS / f"{name}.zip") as old, zipfile.ZipFile(path, "w") as new:
        weights = torch.load(io.BytesIO(old.read("policy.pth")), weights_only=True) | tensors
        stream = io.BytesIO()
        torch.save({key: value for key, value in weights.items() if value is not None}, stream)
        new.writestr("policy.pth", stream.getvalue())
        new.writestr("data", json.dumps(json.loads(old.read("data")) | data))
    return str(path)


@pytest.mark.parametrize("name", ["sac", "td3", "ppo"])
def test_a_continuous_actor_says_what_stable_baselines3_says(name: str, pendulum: GymnasiumSuite) -> None:
    actor = actor_of(StableBaselines3Expert(str(ZIPS / f"{name}.zip")), pendulum)
    observations = torch.tensor(SAYS[name]["observations"])
    ours = actor.act(observations, torch.zeros(len(observations), 1))
    torques = torch.tensor(SAYS[name]["actions"])  # in [-2, 2], the environment's own units
    assert torques.std() > 0.1
    torch.testing.assert_close(2 * ours, torques, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["ppo-discrete", "dqn"])
def test_a_discrete_actor_makes_the_choices_of_stable_baselines3(name: str, cartpole: GymnasiumSuite) -> None:
    actor = actor_of(StableBaselines3Expert(str(ZIPS / f"{name}.zip")), cartpole)
    observations = torch.tensor(SAYS[name]["observations"])
    ours = actor.act(observations, torch.zeros(len(observations), 1))
    assert ours.sum(dim=1).tolist() == [1.0] * len(ours)
    assert ours.argmax(dim=1).tolist() == SAYS[name]["actions"]
    assert set(SAYS[name]["actions"]) == {0, 1}


def test_each_task_can_have_an_expert_of_its_own(pendulum: GymnasiumSuite) -> None:
    files = {"one": str(ZIPS / "sac.zip"), "two": str(ZIPS / "td3.zip")}
    asked = [Episode(pendulum.tasks[index], 3) for index in (1, 0)]
    mixed = StableBaselines3Expert(files).demonstrate(pendulum, asked)
    alone = [StableBaselines3Expert(files[e.task.name]).demonstrate(pendulum, [e])[0] for e in asked]
    for one, other in zip(mixed, alone, strict=True):
        assert one.actions.tobytes() == other.actions.tobytes()
    assert not np.array_equal(mixed[0].actions, mixed[1].actions)
    with pytest.raises(InputError, match="names no file for two"):
        StableBaselines3Expert({"one": files["one"]}).demonstrate(pendulum, asked)


def test_an_actor_that_was_trained_with_the_goal_gets_it(tmp_path: Path, pendulum: GymnasiumSuite) -> None:
    narrow = SAYS["sac"]["observations"][0]
    with zipfile.ZipFile(ZIPS / "sac.zip") as old:
        first = torch.load(io.BytesIO(old.read("policy.pth")), weights_only=True)["actor.latent_pi.0.weight"]
    wide = torch.cat([first, torch.ones(len(first), 1)], dim=1)
    file = rewritten("sac", tmp_path / "wide.zip", {}, {"actor.latent_pi.0.weight": wide})
    actor = actor_of(StableBaselines3Expert(file), pendulum)
    at = torch.tensor([narrow, narrow])
    without, with_goal = actor.act(at, torch.tensor([[0.0], [1.0]]))
    torch.testing.assert_close(2 * without, torch.tensor(SAYS["sac"]["actions"][0]), atol=2e-6, rtol=1e-5)
    assert (without - with_goal).abs() > 1e-3


def test_what_cannot_be_read_is_refused_with_the_reason(
    tmp_path: Path, pendulum: GymnasiumSuite, cartpole: GymnasiumSuite
) -> None:
    def refused(file: str, *reasons: str) -> None:
        with pytest.raises(InputError) as error:
            actor_of(StableBaselines3Expert(file), pendulum)
        assert all(reason in str(error.value) for reason in reasons), error.value

    refused(str(tmp_path / "none.zip"), "There is no file")
    (tmp_path / "text.zip").write_text("hello")
    refused(str(tmp_path / "text.zip"), "not a zip that Stable-Baselines3 has saved")
    refused(rewritten("sac", tmp_path / "sde.zip", {"use_sde": True}, {}), "gSDE", "ActorExpert")
    odd = {"policy_kwargs": {"activation_fn": "<class 'mine.Swish'>"}}
    refused(rewritten("sac", tmp_path / "odd.zip", odd, {}), "mine.Swish")
    refused(rewritten("sac", tmp_path / "cut.zip", {}, {"actor.mu.weight": None}), "holds no actor")
    refused(str(ZIPS / "dqn.zip"), "2 discrete actions", "1 continuous ones")
    five = {"actor.latent_pi.0.weight": torch.zeros(6, 5)}
    refused(rewritten("sac", tmp_path / "five.zip", {}, five), "reads 5 numbers", "observations of 3")
    with pytest.raises(InputError, match=r"1 continuous actions.*2 discrete ones"):
        four = {"actor.latent_pi.0.weight": torch.zeros(6, 4)}
        actor_of(StableBaselines3Expert(rewritten("sac", tmp_path / "four.zip", {}, four)), cartpole)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def test_a_zip_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("evil.zip", "w") as file:
        file.writestr("data", "{}")
        file.writestr("policy.pth", pickle.dumps(Payload(), protocol=2))
    with pytest.raises(InputError, match="damaged"):
        StableBaselines3Expert("evil.zip")
    assert not Path("ran").exists()


def test_a_zip_that_unpacks_to_far_more_than_it_is_is_not_read(tmp_path: Path) -> None:
    """Of Stable-Baselines3, of torch, and of torch within Stable-Baselines3."""
    inner = io.BytesIO()
    for name in ("bomb.zip", "bomb.pt", "nested.zip"):
        with ZipFile(tmp_path / name, "w", ZIP_DEFLATED) as file:
            if name == "nested.zip":
                file.writestr("data", "{}")
                file.writestr("policy.pth", inner.getvalue())
                continue
            with file.open("policy.pth" if name == "bomb.zip" else "archive/data.pkl", "w") as member:
                for _ in range(80):
                    member.write(bytes(2**20))
        inner = io.BytesIO((tmp_path / "bomb.pt").read_bytes()) if name == "bomb.pt" else inner
        assert (tmp_path / name).stat().st_size < 2**20
    for name, read in (("bomb.zip", read_zip), ("nested.zip", read_zip), ("bomb.pt", read_tensors)):
        with pytest.raises(InputError, match=rf"{name} unpacks to .* times its size"):
            read(tmp_path / name)
