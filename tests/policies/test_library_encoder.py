"""Networks of libraries and of users as encoders: trained or frozen, from a local file, with features kept."""

import sys
import types
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_encoders import ACTIONS, CONTEXT, rows
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.chunked_mlp import ChunkedMLP
from amf_lightning.policies.encoder import encoder_of, encoder_recipe
from amf_lightning.policies.library_encoder import LibraryEncoder
from amf_lightning.policies.library_network import LibraryNetwork
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.policies.weights import load_policy, save_policy
from amf_lightning.seeding import drawn_by
from amf_lightning.selection.ensemble import fresh_like
from amf_lightning.tasks.spec import Dimensions, Spec
from amf_lightning.tasks.steps import Steps
from tiny import TinySuite

TREE = {"image/front": Spec((12, 10, 3), "uint8"), "image/wrist": Spec((3, 8, 8), "uint8"), "state": Spec((4,))}
GREY = {"image/touch": Spec((6, 6), "uint8")}


class Tower(nn.Module):
    """A network as libraries ship them: a trunk with batch normalisation, pooling, and a head for classes."""

    def __init__(self, width: int = 6, classes: int = 10) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)
        self.calls = 0

    def forward(self, pictures: Tensor) -> Tensor:
        self.calls += len(pictures)
        logits: Tensor = self.fc(self.pool(self.trunk(pictures)).flatten(1))
        return logits


TOWER = f"{__name__}.Tower"


def encoder(**options: Any) -> LibraryEncoder:
    return LibraryEncoder(TREE, CONTEXT, **{"history": 1, "function": TOWER, "output": "trunk", **options})


def network(of: LibraryEncoder, number: int = 0) -> Any:
    """The `LibraryNetwork` of a picture."""
    return of.see[number]


def see(policy: Any) -> Any:
    """The networks of a policy's pictures."""
    return policy.encoder.see


def seen(count: int = 5, history: int = 1, seed: int = 0) -> Steps:
    steps = rows(count, history, seed=seed)
    return Steps({name: steps.observations[name] for name in TREE}, steps.tasks, steps.contexts, steps.actions)


@pytest.mark.parametrize(("output", "cells"), [("trunk", (30, 16)), ("pool", (1, 1)), (None, (1, 1))])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("history", [1, 2])
def test_pictures_become_cells_of_the_module_that_is_named(
    output: str | None, cells: tuple[int, int], frozen: bool, history: int
) -> None:
    made = encoder(output=output, frozen=frozen, history=history, fusion="film").eval()
    steps = seen(5, history)
    made.fit_normaliser(steps)
    depth = 10 if output is None else 6
    assert made.shapes[:2] == tuple((history * each, depth) for each in cells)
    assert [tuple(piece.shape) for piece in made.pieces(steps)] == [(5, *shape) for shape in made.shapes]
    features = made(steps)
    assert features.shape == (5, made.size) and torch.isfinite(features).all()
    torch.testing.assert_close(made(steps[1:2]), features[1:2])
    assert made(steps[:0]).shape == (0, made.size)
    assert any("fc" in name for name in made.state_dict()) == (output is None), "the head is taken off"


def test_pictures_are_prepared_as_the_network_expects() -> None:
    made = encoder(mean=[0.1, 0.2, 0.3], std=[0.5, 0.4, 0.2]).eval()
    steps = seen(3)
    front = steps.observations["image/front"].permute(0, 3, 1, 2).float() / 255
    expected = network(made).network.trunk(
        (front - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.4, 0.2])[:, None, None]
    )
    torch.testing.assert_close(made.pieces(steps)[0], expected.flatten(2).mT)
    assert network(encoder(resize=16)).cells == 64
    grey = LibraryEncoder(GREY, 0, 1, function=TOWER).eval()
    assert grey.pieces(
        Steps(
            {"image/touch": torch.zeros(2, 6, 6, dtype=torch.uint8)},
            torch.zeros(2, dtype=torch.int64),
            torch.zeros(2, 0),
        )
    )[0].shape == (2, 1, 10)


@pytest.mark.parametrize("name", ["weights.pth", "nested.pth", "weights.safetensors"])
def test_it_begins_with_a_local_file_and_its_own_file_does_without(name: str, tmp_path: Path) -> None:
    source, suite = Tower(), TinySuite()
    nn.init.uniform_(source.get_parameter("trunk.1.weight"))
    file, state = tmp_path / name, source.state_dict()
    if name.endswith("pth"):
        torch.save({"state_dict": state} if "nested" in name else state, file)
    else:
        save_file(state, file)

    options: dict[str, Any] = {"function": TOWER, "output": "trunk", "weights": str(file), "frozen": True}

    def made(*made_for: Any) -> LibraryEncoder:
        return LibraryEncoder(*made_for, **options)

    suite.observation = TREE
    policy = ChunkedMLP(TREE, suite.context_dim, suite.action_dim, encoder=made, hidden=(4,)).eval()
    assert torch.equal(see(policy)[0].network.trunk[1].weight, source.get_parameter("trunk.1.weight"))
    save_policy(tmp_path / "policy.safetensors", policy, suite.signature(), None, {})
    file.unlink()
    again = load_policy(str(tmp_path / "policy.safetensors")).make().eval()
    steps = seen(4)
    narrow = Steps(steps.observations, steps.tasks, steps.contexts[:, :1])
    assert torch.equal(again.act(narrow), policy.act(narrow))
    assert not any(p.requires_grad for p in see(again).parameters())


class Hub(nn.Module):
    """Fetches weights from the network, as a factory of a library does."""

    def __init__(self) -> None:
        super().__init__()
        torch.hub.load_state_dict_from_url("https://weights.example/tower.pth", model_dir="/nowhere", progress=False)


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        raise ValueError("no such width")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arguments": {"pretrained": True}}, r"would fetch weights \(pretrained: True\).*the encoder's own `weights`"),
        ({"arguments": {"weights": "DEFAULT"}}, r"would fetch weights \(weights: 'DEFAULT'\)"),
        ({"function": f"{__name__}.Hub"}, "would download from weights.example.*the encoder's own `weights`"),
        ({"function": f"{__name__}.Broken"}, "cannot be called with .*no such width"),
        ({"function": "os.system", "arguments": {"command": "true"}}, "or a class that extends torch.nn.Module"),
        ({"function": "torch.nn.Nothing"}, "or a class that extends torch.nn.Module"),
        ({"function": "nowhere.Tower"}, "no module 'nowhere'.*Install the library"),
        ({"output": "layer4"}, "no module 'layer4'. There are trunk, pool, fc"),
        ({"cache": "features"}, "Set frozen: true, or no cache"),
        ({"cache": "features", "frozen": True, "shift": 4}, "shift 4 .*Set shift: 0, or no cache"),
        ({"mean": [0.5], "std": [0.5]}, "'image/front' has 3 channels, but mean and std are of 1"),
        ({"std": [0.5, 0.0, 0.5]}, "cannot be"),
        ({"weights": "none.pth"}, "There is no file none.pth"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        encoder(**options)
    assert "\n" not in str(raised.value)


def test_files_of_other_networks_and_of_code_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(Tower(width=3).state_dict(), file)
    with pytest.raises(InputError, match=r"tensor 'trunk.0.bias' is \[3\] in the file and \[6\] in the network"):
        encoder(weights=str(file))
    torch.save(Tower(), file)
    with pytest.raises(InputError, match="holds no plain weights"):
        encoder(weights=str(file))
    torch.save([1], file)
    with pytest.raises(InputError, match="holds no state_dict"):
        encoder(weights=str(file))


def test_a_policy_file_imports_nothing_for_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = encoder_recipe(encoder())
    with torch.no_grad():  # as where a file is read
        again = encoder_of(recipe, TREE, CONTEXT, 1)
    assert not any("fc" in name for name in again.state_dict())
    assert encoder_recipe(again) == recipe
    stranger = {**recipe, "init_args": {**recipe["init_args"], "function": "stranger.Tower"}}
    with pytest.raises(InputError, match="Import its module before"):
        encoder_of(stranger, TREE, CONTEXT, 1)
    module = types.ModuleType("stranger")
    module.Tower = Tower  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger", module)
    assert isinstance(encoder_of(stranger, TREE, CONTEXT, 1), LibraryEncoder)


# -- frozen -----------------------------------------------------------------------------------------------------------


def policy_of(**options: Any) -> ChunkedMLP:
    def made(*made_for: Any) -> LibraryEncoder:
        return LibraryEncoder(*made_for, **{"function": TOWER, "output": "trunk", "frozen": True, **options})

    torch.manual_seed(0)
    policy = ChunkedMLP(TREE, CONTEXT, ACTIONS, horizon=4, encoder=made, hidden=(8,))
    policy.fit_normaliser(seen(20))
    return policy


def trained(policy: ChunkedMLP, steps: int = 12) -> tuple[list[float], torch.optim.Optimizer]:
    learning = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-2, weight_decay=0.1)
    batches, losses = seen(24, seed=3), []
    policy.train()
    for number in range(steps):
        optimizer.zero_grad()
        index = torch.arange(8) + 8 * (number % 3)
        loss = policy.loss(batches[index]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, optimizer


def test_a_frozen_network_stays_to_the_bit_and_the_optimiser_knows_nothing_of_it() -> None:
    policy = policy_of()
    before = deepcopy(see(policy).state_dict())
    losses, optimizer = trained(policy)
    assert losses[-1] < losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in see(policy).state_dict().items())
    held = {id(weight) for group in optimizer.param_groups for weight in group["params"]} | set(
        map(id, optimizer.state)
    )
    assert not held & {id(weight) for weight in see(policy).parameters()}
    assert not see(policy)[0].network.training


def test_one_that_is_trained_learns() -> None:
    policy = policy_of(frozen=False)
    before = deepcopy(see(policy).state_dict())
    trained(policy)
    assert not torch.equal(before["0.network.trunk.0.weight"], see(policy).state_dict()["0.network.trunk.0.weight"])


def test_with_kept_features_training_is_the_same_to_the_bit_and_looks_at_each_frame_once(tmp_path: Path) -> None:
    plain, kept = policy_of(), policy_of(cache=str(tmp_path / "features"))
    assert trained(plain)[0] == trained(kept)[0]
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), kept.state_dict().values(), strict=True))
    tower: Tower = see(kept)[0].network
    looked = tower.calls - see(plain)[0].network.calls
    assert looked == 24 - 12 * 8, "24 frames are drawn 12 · 8 times"
    frozen_copy(kept)  # as at the end of each round: what is new goes to the disk
    segments = sorted((tmp_path / "features").glob("*/*.safetensors"))
    assert len(segments) == 2, "a picture each"

    again = policy_of(cache=str(tmp_path / "features"))
    calls = see(again)[0].network.calls
    assert trained(again)[0] == trained(policy_of())[0]
    assert see(again)[0].network.calls == calls
    frozen_copy(again)
    assert sorted((tmp_path / "features").glob("*/*.safetensors")) == segments
    steps = seen(24, seed=3)
    assert torch.equal(frozen_copy(again).act(steps), frozen_copy(plain).act(steps))


def test_other_weights_have_other_features(tmp_path: Path) -> None:
    policy = policy_of(cache=str(tmp_path))
    trained(policy, 3)
    steps, tower = seen(24, seed=3)[:8], see(policy)[0].network
    with torch.no_grad():
        first = policy.encoder.pieces(steps)[0].clone()
        tower.trunk[0].bias += 1
        assert not torch.equal(policy.encoder.pieces(steps)[0], first)
        tower.trunk[0].bias -= 1


def test_damaged_segments_are_computed_again(tmp_path: Path) -> None:
    losses = trained(policy := policy_of(cache=str(tmp_path)))[0]
    frozen_copy(policy)
    one, other = sorted(tmp_path.glob("*/*.safetensors"))
    one.write_bytes(one.read_bytes()[:100])
    content = bytearray(other.read_bytes())
    content[-200:] = bytes(200)  # a bit is enough
    other.write_bytes(content)
    again = policy_of(cache=str(tmp_path))
    calls = [each.network.calls for each in see(again)]
    assert trained(again)[0] == losses
    looked = [each.network.calls - before for each, before in zip(see(again), calls, strict=True)]
    assert 24 in looked and 0 < min(looked) <= 24


def test_a_full_folder_takes_nothing_more(tmp_path: Path) -> None:
    losses = trained(policy := policy_of(cache=str(tmp_path), cache_gib=0))[0]
    frozen_copy(policy)
    assert not list(tmp_path.glob("*/*")) and losses == trained(policy_of())[0]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Give another folder as cache"):
        policy_of(cache=str(tmp_path / "file"))


def test_per_sample_gradients_pass_through_a_frozen_network(tmp_path: Path) -> None:
    from amf_lightning.retention.importance import diagonal_fisher

    policy = policy_of(cache=str(tmp_path)).eval()
    steps = seen(4)
    fisher = diagonal_fisher(policy, steps.with_actions(policy.sample(steps, torch.Generator().manual_seed(0))))
    assert float(fisher["head.bias"].sum()) > 0


def test_members_of_an_ensemble_have_the_frozen_network() -> None:
    policy = frozen_copy(policy_of())
    fresh = fresh_like(policy, Dimensions(TREE, CONTEXT, ACTIONS), torch.Generator().manual_seed(4))
    names = dict(fresh.named_parameters())
    for name, weight in policy.named_parameters():
        assert torch.equal(weight, names[name]) == ("encoder.see" in name or ("bias" in name and "see" in name))


def test_it_draws_in_training_only_where_it_shifts() -> None:
    made, steps = encoder(shift=2), seen(4)
    made.train()
    assert drawn_by(lambda: made(steps))
    made.eval()
    assert not drawn_by(lambda: made(steps))


# -- what libraries ship ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "options", "depth"),
    [
        ("torchvision", {"function": "torchvision.models.resnet18", "output": "layer4"}, 512),
        ("torchvision", {"function": "torchvision.models.resnet18", "output": "avgpool"}, 512),
        (
            "timm",
            {
                "function": "timm.create_model",
                "arguments": {"model_name": "vit_tiny_patch16_224", "num_classes": 0, "img_size": 32},
                "resize": 32,
            },
            192,
        ),
    ],
)
def test_networks_of_libraries_where_they_are_installed(library: str, options: dict[str, Any], depth: int) -> None:
    pytest.importorskip(library)
    made = LibraryEncoder({"image": Spec((64, 64, 3), "uint8")}, 0, 1, **options).eval()
    assert isinstance(made.see[0], LibraryNetwork) and made.see[0].depth == depth
    steps = Steps(
        {"image": torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))},
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, 0),
    )
    assert made(steps).shape == (2, made.size)
    assert not any(name.startswith("see.0.network.fc") for name in made.state_dict())


class Skipping(nn.Module):
    """Uses one of its modules where no gradient goes, and another never."""

    def __init__(self) -> None:
        super().__init__()
        self.still, self.moving, self.never = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(2, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.no_grad():
            still = self.still(pictures)
        moved: Tensor = self.moving(pictures) + still
        return moved


def test_a_module_that_is_used_without_a_gradient_stays() -> None:
    made = encoder(function=f"{__name__}.Skipping", output=None)
    assert isinstance(network(made).network.still, nn.Conv2d)
