"""Grids of numbers as one-hot codes, tile by tile, and the rest as `ConvEncoder` reads it."""

import numpy as np
import pytest
import torch

from amf_lightning.errors import InputError
from amf_lightning.policies.conv_encoder import ConvEncoder
from amf_lightning.policies.encoder import encoder_of, encoder_recipe
from amf_lightning.policies.grid_encoder import GridEncoder
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.steps import Steps

TREE = {"state": Spec((4,)), "image/symbolic": Spec((3, 2, 2), "uint8"), "image/front": Spec((8, 8, 3), "uint8")}
KINDS = (3, 2)


def rows(count: int, history: int = 1) -> Steps:
    rng = np.random.default_rng(0)
    past = (history,) if history > 1 else ()
    entries = {
        "state": rng.normal(size=(count, *past, 4)).astype(np.float32),
        "image/symbolic": rng.integers(0, KINDS, (count, *past, 3, 2, 2)).astype(np.uint8),
        "image/front": rng.integers(0, 256, (count, *past, 8, 8, 3)).astype(np.uint8),
    }
    contexts = torch.from_numpy(rng.normal(size=(count, 1)).astype(np.float32))
    observations = {name: torch.from_numpy(entry) for name, entry in entries.items()}
    return Steps(observations, torch.zeros(count, dtype=torch.int64), contexts)


@pytest.mark.parametrize("history", [1, 2])
def test_a_tile_says_what_is_there_and_where(history: int) -> None:
    encoder, steps = GridEncoder(TREE, 1, history, kinds=KINDS), rows(5, history)
    tiles = encoder.pieces(steps)[0]
    assert tiles.shape == (5, history * 6, 7) == (5, *encoder.shapes[0])
    grids = steps.observations["image/symbolic"].reshape(5, history, 3, 2, 2)
    for row, past, i, j in np.ndindex(5, history, 3, 2):
        code = tiles[row, past * 6 + i * 2 + j].tolist()
        kind, state = grids[row, past, i, j].tolist()
        wanted = [float(number == kind) for number in range(3)] + [float(number == state) for number in range(2)]
        assert code == [*wanted, float(i - 1), float(2 * j - 1)]


@pytest.mark.parametrize("history", [1, 2])
def test_everything_else_is_read_as_without_grids(history: int) -> None:
    torch.manual_seed(0)
    encoder, steps = GridEncoder(TREE, 1, history, kinds=KINDS).eval(), rows(5, history)
    torch.manual_seed(0)
    other = ConvEncoder({name: TREE[name] for name in ("state", "image/front")}, 1, history).eval()
    assert not encoder.is_normalised
    for each in (encoder, other):
        each.fit_normaliser(steps)
    assert encoder.is_normalised
    pieces, wanted = encoder.pieces(steps)[1:], other.pieces(steps)
    assert all(torch.equal(a, b) for a, b in zip(pieces, wanted, strict=True))
    assert [tuple(piece.shape[1:]) for piece in encoder.pieces(steps)] == list(encoder.shapes)
    features = encoder(steps)
    assert features.shape == (5, encoder.size)
    assert torch.equal(features[:, history * 42 :], other(steps))
    torch.testing.assert_close(encoder(steps[1:2]), features[1:2])


def test_a_grid_alone_is_enough() -> None:
    encoder = GridEncoder({"image/symbolic": TREE["image/symbolic"]}, 0, kinds=KINDS)
    steps = rows(3)
    alone = Steps({"image/symbolic": steps.observations["image/symbolic"]}, steps.tasks, torch.zeros(3, 0))
    assert encoder.is_normalised and encoder(alone).shape == (3, 42) == (3, encoder.size)


def test_its_recipe_makes_another_like_it() -> None:
    encoder = GridEncoder(TREE, 1, 2, kinds=KINDS)
    other = encoder_of(encoder_recipe(encoder), TREE, 1, 2)
    other.load_state_dict(encoder.state_dict())
    steps = rows(4, 2)
    assert torch.equal(other.eval()(steps), encoder.eval()(steps))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kinds": (3, 2, 1)}, r"'image/symbolic' must be an entry of integers \[H, W, 3\], but an observation"),
        ({"kinds": KINDS, "grids": ("image/other",)}, "'image/other' must be an entry of integers"),
        ({"kinds": (4,), "grids": ("state",)}, "'state' must be an entry of integers"),
        ({"kinds": ()}, "must not be empty"),
        ({"kinds": (0, 2)}, "below 1"),
        ({"grids": ()}, "must not be empty"),
    ],
)
def test_what_is_no_grid_is_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        GridEncoder(TREE, 1, **options)  # type: ignore[arg-type]
