"""A transformer that chooses among discrete actions by what it has seen so far."""

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.act import encoder_layer
from amf_lightning.policies.capabilities import LinearHead
from amf_lightning.policies.categorical import CategoricalPolicy
from amf_lightning.policies.encoded import EncodedPolicy
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps, Window


class CategoricalTransformer(LinearHead, CategoricalPolicy, EncodedPolicy):
    """A token of its own reads the encoder's pieces, cells of pictures, vectors and context, and becomes the logits.

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A, the number of actions.
        history: observations that it sees.
        encoder: class of the encoder and its options; None: `ConvEncoder`.
        width: of tokens and features; a multiple of `heads`.
        heads: of each attention.
        layers: of the transformer.
        dropout: in training.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        history: int = 4,
        encoder: EncoderFactory | None = None,
        width: int = 128,
        heads: int = 4,
        layers: int = 3,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(observation, context_dim, action_dim, Window(history), encoder)
        if min(width, heads, layers) < 1 or width % heads or not 0 <= dropout < 1:
            raise InputError(
                f"CategoricalTransformer: width {width} must be a multiple of heads, {heads}, with at least one layer, "
                f"and dropout {dropout} in [0, 1)."
            )
        shapes = self.encoder.shapes
        self.project = nn.ModuleList(nn.Linear(depth, width) for _, depth in shapes)
        self.places = nn.ParameterList(nn.Parameter(0.02 * torch.randn(cells, width)) for cells, _ in shapes)
        self.reader = nn.Parameter(0.02 * torch.randn(1, width))
        self.layers = nn.ModuleList(encoder_layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, action_dim)

    @property
    def output_layer(self) -> nn.Linear:
        return self.head

    def logits(self, steps: Steps) -> Tensor:
        pieces = self.encoder.pieces(steps)
        tokens = [
            project(piece) + place for project, piece, place in zip(self.project, pieces, self.places, strict=True)
        ]
        seen = torch.cat([*tokens, self.reader.expand(len(steps), 1, -1)], dim=1)
        for layer in self.layers:
            seen = layer(seen)
        logits: Tensor = self.head(self.norm(seen[:, -1]))
        return logits
