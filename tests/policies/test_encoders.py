"""Encoders read any observation, keep rows apart, and draw in training only."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev

from amf_lightning.errors import InputError
from amf_lightning.policies.chunked_mlp import ChunkedMLP
from amf_lightning.policies.conv_encoder import ConvEncoder
from amf_lightning.policies.encoder import Encoder, encoder_of, encoder_recipe
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.picture_encoder import Film, shifted
from amf_lightning.policies.weights import build_policy, load_policy, save_policy
from amf_lightning.retention.importance import diagonal_fisher
from amf_lightning.seeding import drawn_by
from amf_lightning.tasks.spec import Dimensions, Spec
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import gradient_factors, last_layer_features
from tiny import TinySuite

TREE = {
    "image/front": Spec((12, 10, 3), "uint8"),
    "image/wrist": Spec((3, 8, 8), "uint8"),
    "image/touch": Spec((6, 6), "uint8"),
    "state": Spec((4,)),
    "pose": Spec((2, 2)),
    "door": Spec((1,), "int64"),
}
SMALL = {"channels": [4, 6], "resize": 8}
CONTEXT, ACTIONS = 2, 3


def rows(count: int, history: int = 1, horizon: int = 4, seed: int = 0) -> Steps:
    """Random rows of the tree; the chunk of the last one is cut off after an action."""
    rng = np.random.default_rng(seed)
    past = (history,) if history > 1 else ()
    observations = {}
    for name, spec in TREE.items():
        shape = (count, *past, *spec.shape)
        entry = rng.normal(size=shape) * 3 + 1 if spec.is_floating else rng.integers(0, 256, shape)
        observations[name] = torch.from_numpy(entry.astype(spec.dtype))
    contexts = torch.from_numpy(rng.normal(size=(count, CONTEXT)).astype(np.float32))
    actions = torch.from_numpy(rng.uniform(-1, 1, (count, horizon, ACTIONS)).astype(np.float32))
    mask = torch.ones(count, horizon, dtype=torch.bool)
    mask[-1, 1:] = False
    return Steps(observations, torch.zeros(count, dtype=torch.int64), contexts, actions, mask)


@pytest.mark.parametrize("fusion", ["concatenate", "film"])
@pytest.mark.parametrize("history", [1, 2])
def test_any_pictures_and_vectors_become_pieces_and_features_row_by_row(fusion: str, history: int) -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(TREE, CONTEXT, history, **SMALL, fusion=fusion).eval()  # type: ignore[arg-type]
    seen = rows(5, history)
    encoder.fit_normaliser(seen)
    pieces = encoder.pieces(seen)
    assert [tuple(piece.shape) for piece in pieces] == [(5, *shape) for shape in encoder.shapes]
    assert len(pieces) == (5 if fusion == "concatenate" else 4)
    features = encoder(seen)
    assert features.shape == (5, encoder.size)
    torch.testing.assert_close(encoder(seen[1:2]), features[1:2])
    for name, spec in TREE.items():  # nothing is overlooked
        other = {**seen.observations, name: seen.observations[name] + (1 if spec.is_floating else 7)}
        assert not torch.allclose(encoder(Steps(other, seen.tasks, seen.contexts)), features)
    assert encoder(seen[:0]).shape == (0, encoder.size)


def test_a_vector_alone_is_normalised_as_the_mlp_does() -> None:
    state = torch.cat([torch.randn(50, 2) * 4 - 1, torch.full((50, 1), 7.0)], dim=1)
    steps = Steps.of_state(state, torch.zeros(50, 1))
    policy, encoder = MLPPolicy(3, 1, 1, hidden=(4,)), ConvEncoder({"state": Spec((3,))}, 1)
    assert not encoder.is_normalised
    policy.fit_normaliser(steps)
    encoder.fit_normaliser(steps)
    assert encoder.is_normalised and torch.equal(encoder.mean, policy.mean) and torch.equal(encoder.std, policy.std)
    deviations = encoder.deviations(steps)
    assert deviations is not None and torch.equal(deviations, policy.deviations(steps))
    assert encoder.pieces(steps)[0].abs().mean() < 1


def test_pictures_alone_need_no_normalisation() -> None:
    encoder = ConvEncoder({"image": Spec((8, 8), "uint8")}, 0, channels=[4])
    black = {"image": torch.zeros(2, 8, 8, dtype=torch.uint8)}
    steps = Steps(black, torch.zeros(2, dtype=torch.int64), torch.zeros(2, 0))
    assert encoder.is_normalised and encoder(steps).shape == (2, 12)


def test_a_shift_is_a_crop_of_the_padded_picture_and_keeps_the_bytes() -> None:
    pictures = torch.randint(0, 256, (6, 2, 7, 5, 3), dtype=torch.uint8)
    torch.manual_seed(3)
    moved = shifted(pictures, 2)
    assert moved.dtype == torch.uint8
    torch.manual_seed(3)
    offsets = torch.randint(-2, 3, (2, 6))
    assert len(set(offsets.flatten().tolist())) > 2
    for row, (down, across) in enumerate(offsets.T.tolist()):
        padded = np.pad(pictures[row].numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
        crop = padded[:, 2 + down : 9 + down, 2 + across : 7 + across]
        assert (moved[row].numpy() == crop).all()


def test_it_draws_in_training_only_and_the_same_from_the_same_seed() -> None:
    encoder, seen = ConvEncoder(TREE, CONTEXT, **SMALL, shift=2), rows(4)  # type: ignore[arg-type]

    def features(seed: int) -> Tensor:
        torch.manual_seed(seed)
        result: Tensor = encoder(seen)
        return result

    encoder.train()
    assert torch.equal(features(1), features(1)) and not torch.equal(features(1), features(2))
    encoder.eval()
    assert torch.equal(features(1), features(2)) and not drawn_by(lambda: encoder(seen))


def test_resizing_takes_the_mean_over_areas() -> None:
    network = ConvEncoder({"image": Spec((8, 8), "uint8")}, 0, channels=[4], resize=4, shift=0).see[0]
    smaller = ConvEncoder({"image": Spec((4, 4), "uint8")}, 0, channels=[4], resize=4, shift=0).see[0]
    smaller.load_state_dict(network.state_dict())
    small = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    large = small.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(network(large, torch.zeros(3, 0)), smaller(small, torch.zeros(3, 0)))


def test_film_begins_as_the_identity_and_then_follows_the_context() -> None:
    film, entries = Film(CONTEXT, 3), torch.randn(4, 5, 3)
    contexts = torch.randn(4, CONTEXT)
    assert torch.equal(film(entries, contexts), entries)
    torch.nn.init.normal_(film.change.weight)
    changes = contexts @ film.change.weight.T
    expected = (1 + changes[2, :3]) * entries[2] + changes[2, 3:]
    torch.testing.assert_close(film(entries, contexts)[2], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": []}, r"channels \[\]"),
        ({"resize": 0}, "resize 0"),
        ({"fusion": "add"}, "'concatenate' or 'film'"),
        ({"smallest_std": 0.0}, "must be positive"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConvEncoder(TREE, CONTEXT, **options)  # type: ignore[arg-type]


def test_bytes_that_are_no_picture_are_named() -> None:
    with pytest.raises(InputError, match=r"'image/odd' is \[5, 6, 7\] uint8, which is no picture"):
        ConvEncoder({"image/odd": Spec((5, 6, 7), "uint8")}, CONTEXT)


class Seeing(Encoder):
    """An encoder of a user: the context alone."""

    def __init__(self, observation: object, context_dim: int, history: int, factor: float = 1.0) -> None:
        super().__init__()
        self.factor, self.shapes = factor, ((1, context_dim),)

    def pieces(self, steps: Steps) -> list[Tensor]:
        return [self.factor * steps.contexts[:, None]]


def test_a_file_makes_a_policy_again_with_its_encoder(tmp_path: Path) -> None:
    suite = TinySuite()

    def made(observation: object, context_dim: int, history: int) -> Encoder:
        return Seeing(observation, context_dim, history, factor=2.0)

    policy = ChunkedMLP(suite.observation, suite.context_dim, suite.action_dim, encoder=made, hidden=(4,)).eval()
    assert policy.options["encoder"] == {"class_path": f"{__name__}.Seeing", "init_args": {"factor": 2.0}}
    save_policy(tmp_path / "policy.safetensors", policy, suite.signature(), None, {})
    again = load_policy(str(tmp_path / "policy.safetensors")).make()
    assert isinstance(again, ChunkedMLP) and isinstance(again.encoder, Seeing) and again.encoder.factor == 2.0
    assert encoder_recipe(again.encoder) == policy.options["encoder"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"class_path": "nowhere.Encoder"}, "Import its module"),
        ({"class_path": "torch.nn.Linear"}, "not a class of encoders"),
        ({"class": "ConvEncoder"}, "give a class_path"),
    ],
)
def test_a_file_imports_no_code_and_makes_nothing_but_encoders(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder_of(recipe, TREE, CONTEXT, 1)


def chunked(horizon: int = 4, history: int = 1) -> ChunkedMLP:
    def factory(observation: object, context_dim: int, action_dim: int) -> ChunkedMLP:
        encoder = {"class_path": "amf_lightning.policies.conv_encoder.ConvEncoder", "init_args": SMALL}
        options = {"horizon": horizon, "history": history, "encoder": encoder, "hidden": (8, 5)}
        return ChunkedMLP(observation, context_dim, action_dim, **options)  # type: ignore[arg-type]

    policy = build_policy(factory, Dimensions(TREE, CONTEXT, ACTIONS), torch.Generator().manual_seed(1))
    policy.fit_normaliser(rows(20, history))
    assert isinstance(policy, ChunkedMLP)
    return policy.eval()


def test_the_features_of_a_chunked_mlp_are_the_gradients_of_its_last_layer() -> None:
    """Per-sample gradients of the outputs by weight and bias are 1 ⊗ φ, and those of the loss r ⊗ φ."""
    policy, seen = chunked(), rows(6)
    weights = {"head.weight": policy.head.weight.detach(), "head.bias": policy.head.bias.detach()}

    def outputs(weights: dict[str, Tensor], row: Steps) -> Tensor:
        named = {f"policy.{name}": weight for name, weight in weights.items()}
        chunk: Tensor = functional_call(_Outputs(policy), named, (row,))
        return chunk.flatten()

    phi, factors = last_layer_features(policy, seen), gradient_factors(policy, seen)
    for number in (0, 5):
        row = seen[number : number + 1]
        by = jacrev(outputs)(weights, row)
        for output in (0, 7):
            gradient = torch.cat([by["head.weight"][output, output], by["head.bias"][output, output, None]])
            torch.testing.assert_close(gradient, phi[number].float())
        policy.zero_grad()
        policy.loss(row).sum().backward()  # type: ignore[no-untyped-call]
        assert policy.head.weight.grad is not None and policy.head.bias.grad is not None
        true = torch.cat([policy.head.weight.grad, policy.head.bias.grad[:, None]], dim=1)
        residuals, inputs = factors[number, :12].float(), factors[number, 12:].float()
        torch.testing.assert_close(torch.outer(residuals, inputs), true)
        if number == 5:  # of its chunk only the first action lies within the episode
            assert not true[3:].any() and true[:3].any()


class _Outputs(torch.nn.Module):
    def __init__(self, policy: ChunkedMLP) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, steps: Steps) -> Tensor:
        return self.policy.outputs(steps)


def test_the_density_of_a_chunk_counts_what_lies_within_the_episode() -> None:
    policy, seen = chunked(), rows(6)
    drawn = seen.with_actions(policy.sample(seen, torch.Generator().manual_seed(0)))
    log_prob, mean = policy.log_prob(drawn), policy.predict(drawn)
    covariance = policy.action_std**2 * torch.eye(ACTIONS)
    normal = torch.distributions.MultivariateNormal(mean, covariance)
    each: Tensor = normal.log_prob(drawn.shown_actions)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_prob[:5], each[:5].sum(dim=1))
    torch.testing.assert_close(log_prob[5], each[5, 0])
    fisher = diagonal_fisher(policy, drawn)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in fisher.values())
    assert float(fisher["head.bias"].sum()) > 0 and float(fisher["encoder.see.0.convolutions.0.weight"].sum()) > 0


def test_a_single_action_is_a_chunk_too() -> None:
    policy = chunked(horizon=1, history=2)
    seen = rows(6, history=2, horizon=1)
    flat = Steps(seen.observations, seen.tasks, seen.contexts, seen.shown_actions[:, 0])
    assert policy.act(flat).shape == (6, ACTIONS) and policy.log_prob(flat).shape == (6,)
    expected = (policy.outputs(flat)[:, 0] - flat.shown_actions).square().mean(dim=1)
    torch.testing.assert_close(policy.loss(flat), expected)
    assert math.isfinite(float(policy.loss(flat).detach().mean()))
