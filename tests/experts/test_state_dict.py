from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from amf_lightning.errors import InputError
from amf_lightning.experts.state_dict import StateDictExpert
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from tiny import actor_of


@pytest.fixture(scope="module")
def suite() -> GymnasiumSuite:
    tasks = [GymnasiumTask("one", [1.0]), GymnasiumTask("two", [2.0])]
    return GymnasiumSuite("Pendulum-v1", tasks, horizon=5, return_threshold=-1e9)


class Actor(nn.Module):
    """More than ten layers, so that their order is not the alphabet's; named so that the last one comes last."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        widths = [4, *range(5, 12)]
        layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ELU())]
        self.body = nn.Sequential(*layers)
        self.top = nn.Linear(11, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top: torch.Tensor = self.top(self.body(x))
        return top


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """The same actor beside a critic in a safetensors file, as a state dict, within a checkpoint, and pickled whole."""
    actor = Actor()
    named = {f"actor.{name}": tensor for name, tensor in actor.state_dict().items()}
    named |= {"critic.weight": torch.ones(1, 4), "critic.bias": torch.zeros(1)}
    paths = {name: str(tmp_path / f"actor.{name}") for name in ("safetensors", "pt", "ckpt", "pkl")}
    save_file(named, paths["safetensors"])
    torch.save(named, paths["pt"])
    torch.save({"state_dict": named, "epoch": 3}, paths["ckpt"])
    torch.save(actor, paths["pkl"])
    return paths


OPTIONS: dict[str, Any] = {"prefix": "actor.", "activation": nn.ELU}


@pytest.mark.parametrize("kind", ["safetensors", "pt", "ckpt"])
@pytest.mark.parametrize("tanh", [True, False])
def test_it_acts_as_the_module_that_was_saved(
    kind: str, tanh: bool, files: dict[str, str], suite: GymnasiumSuite
) -> None:
    observations, goals = torch.randn(20, 3), torch.randn(20, 1)
    outputs = Actor()(torch.cat([observations, goals], dim=1))
    wanted = torch.tanh(outputs) if tanh else outputs.clamp(-2, 2) / 2  # torques lie in [-2, 2]
    acts = actor_of(StateDictExpert(files[kind], tanh=tanh, **OPTIONS), suite).act(observations, goals)
    torch.testing.assert_close(acts, wanted)


def test_a_pickle_is_opened_only_by_the_flag(files: dict[str, str], suite: GymnasiumSuite) -> None:
    with pytest.raises(InputError, match="unsafe_pickle: true"):
        StateDictExpert(files["pkl"], activation=nn.ELU)
    observations, goals = torch.randn(4, 3), torch.randn(4, 1)
    opened = actor_of(StateDictExpert(files["pkl"], activation=nn.ELU, unsafe_pickle=True), suite)
    safe = actor_of(StateDictExpert(files["pt"], **OPTIONS), suite)
    assert torch.equal(opened.act(observations, goals), safe.act(observations, goals))


def test_layers_can_be_named(files: dict[str, str], suite: GymnasiumSuite) -> None:
    names = [*(f"body.{2 * i}" for i in range(7)), "top"]
    observations, goals = torch.randn(4, 3), torch.randn(4, 1)
    named = actor_of(StateDictExpert(files["pt"], layers=names, **OPTIONS), suite).act(observations, goals)
    assert torch.equal(named, actor_of(StateDictExpert(files["pt"], **OPTIONS), suite).act(observations, goals))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "do not follow one another"),  # the critic is among the layers
        ({"prefix": "Actor."}, r"no layers 'Actor.NAME.weight'. Set expert.prefix; there are actor.body.0.bias"),
        ({"activation": nn.Linear}, "expert.activation is Linear, which needs arguments"),
        ({"layers": []}, "names none"),
        ({"prefix": "actor.", "layers": ["body.0", "head"]}, r"no linear layer 'actor.head'.*body\.0.*top"),
    ],
)
def test_layers_that_are_no_network_are_refused(options: dict[str, Any], reason: str, files: dict[str, str]) -> None:
    with pytest.raises(InputError, match=reason):
        StateDictExpert(files["safetensors"], **options)


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors", "text.pt", "text.safetensors", "list.pt"])
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match=name):
        StateDictExpert(str(tmp_path / name))


def test_a_normalisation_is_not_left_out(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 1))
    torch.save(network.state_dict(), tmp_path / "normalised.pt")
    for layers in (None, ["0", "3"]):
        with pytest.raises(InputError, match=r"'1\.weight'.*ActorExpert"):
            StateDictExpert(str(tmp_path / "normalised.pt"), layers=layers)


def test_the_largest_output_is_the_choice(tmp_path: Path) -> None:
    layer = nn.Linear(4, 2)
    torch.save({f"only.{name}": tensor for name, tensor in layer.state_dict().items()}, tmp_path / "choice.pt")
    suite = GymnasiumSuite("CartPole-v1", [GymnasiumTask("stand")], horizon=5, return_threshold=1)
    observations = torch.randn(20, 4)
    acts = actor_of(StateDictExpert(str(tmp_path / "choice.pt")), suite).act(observations, torch.zeros(20, 1))
    assert acts.sum(dim=1).tolist() == [1.0] * 20
    assert torch.equal(acts.argmax(dim=1), layer(observations).argmax(dim=1))


def test_only_what_asks_for_code_is_answered_with_the_flag(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "class.pt").write_text("class X:\n    pass\n")
    (tmp_path / "cut.pt").write_bytes(Path(files["pt"]).read_bytes()[:-100])
    for name in ("class.pt", "cut.pt", "."):
        with pytest.raises(InputError, match="damaged or no file") as error:
            StateDictExpert(str(tmp_path / name))
        assert "unsafe_pickle" not in str(error.value)
    monkeypatch.delattr(f"{__name__}.Actor")
    with pytest.raises(InputError, match=r"a class that is not here.*Actor"):
        StateDictExpert(files["pkl"], unsafe_pickle=True)
