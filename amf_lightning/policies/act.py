"""The action chunking transformer (Zhao et al., ACT, arXiv 2304.13705)."""

from typing import Literal

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Embeds
from amf_lightning.policies.encoded import EncodedPolicy, mean_over_chunk, piecewise, with_one
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.policies.modes import ModalDensity, Modes, checked_modes, entries_of
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps, Window


class ActionChunkingTransformer(ModalDensity, Embeds, EncodedPolicy):
    """H queries attend to what a transformer encoder makes of the encoder's pieces: cells of pictures, state, context.

    With a latent it is a conditional variational autoencoder: in training a second transformer compresses the expert's
    chunk into z, whose divergence from a standard normal is added to the loss; when it acts, and in the loss in
    evaluation mode, z is 0. What is learned is not squashed; predictions are clipped to [-1, 1].

    States are alike by the input of the action head, averaged over the chunk: the gradient of the chunk's mean action
    by the last layer. With several modes the head says means and deviations of each at each step, another layer their
    logits from the average, and the likelihood of the mixture takes the place of the regression.

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A.
        horizon: H.
        history: observations that it sees.
        encoder: class of the encoder and its options; None: `ConvEncoder`.
        width: of tokens and features; a multiple of `heads`.
        heads: of each attention.
        encoder_layers: of the transformer encoder, and of the one that makes z.
        decoder_layers: of the decoder.
        latent: length of z; 0: none.
        kl_weight: of the divergence.
        regression: `l1` as in the paper, or `mse`.
        dropout: in training.
        action_std: standard deviation declared for `log_prob` and samples; it does not enter the loss. Of one mode.
        modes: M, normal distributions of chunks in a mixture; 1: none.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        horizon: int = 16,
        history: int = 1,
        encoder: EncoderFactory | None = None,
        width: int = 256,
        heads: int = 8,
        encoder_layers: int = 4,
        decoder_layers: int = 1,
        latent: int = 32,
        kl_weight: float = 10.0,
        regression: Literal["l1", "mse"] = "l1",
        dropout: float = 0.1,
        action_std: float = 0.1,
        modes: int = 1,
    ) -> None:
        super().__init__(observation, context_dim, action_dim, Window(history, horizon), encoder)
        if min(width, heads, encoder_layers, decoder_layers) < 1 or width % heads:
            raise InputError(
                f"ActionChunkingTransformer: width {width} must be a multiple of heads, {heads}, in layers."
            )
        if latent < 0 or kl_weight < 0 or not 0 <= dropout < 1 or regression not in ("l1", "mse"):
            raise InputError(
                "ActionChunkingTransformer: latent, kl_weight >= 0, dropout in [0, 1), regression l1 or mse."
            )
        self.kl_weight, self.absolute, self.action_std = kl_weight, regression == "l1", action_std
        self.modes = checked_modes("ActionChunkingTransformer", modes)
        shapes = self.encoder.shapes
        self.project = nn.ModuleList(nn.Linear(depth, width) for _, depth in shapes)
        self.places = nn.ParameterList(nn.Parameter(0.02 * torch.randn(cells, width)) for cells, _ in shapes)
        self.read = nn.ModuleList(encoder_layer(width, heads, dropout) for _ in range(encoder_layers))
        self.read_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.randn(horizon, width))
        self.write = nn.ModuleList(
            nn.TransformerDecoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(decoder_layers)
        )
        self.write_norm = nn.LayerNorm(width)
        self.style = Style(shapes, self.chunk, width, heads, encoder_layers, latent, dropout) if latent else None
        self.choice = nn.Linear(width, modes) if modes > 1 else None
        self.head = nn.Linear(width, action_dim if modes == 1 else modes * 2 * action_dim)

    def decoded(self, pieces: list[Tensor], z: Tensor | None = None) -> Tensor:
        """Input of the action head, [N, H, width], for the encoder's pieces, with z [N, latent], None: 0."""
        rows = len(pieces[0])
        tokens = [
            project(piece) + place for project, piece, place in zip(self.project, pieces, self.places, strict=True)
        ]
        if self.style is not None:
            tokens.append(self.style.token(tokens[0].new_zeros(rows, self.style.latent) if z is None else z))
        seen = torch.cat(tokens, dim=1)
        for layer in self.read:
            seen = layer(seen)
        seen = self.read_norm(seen)
        written = self.queries.expand(rows, *self.queries.shape)
        for layer in self.write:
            written = layer(written, seen)
        decoded: Tensor = self.write_norm(written)
        return decoded

    def outputs(self, steps: Steps) -> Tensor:
        """The chunk before it is clipped, [N, H, A], with z = 0."""
        outputs: Tensor = self.head(self.decoded(self.encoder.pieces(steps)))
        return outputs

    def embed(self, steps: Steps) -> Tensor:
        """The input of the action head, averaged over the chunk, and a 1, [N, width + 1]."""
        return piecewise(lambda rows: with_one(self.decoded(self.encoder.pieces(rows)).mean(dim=1)), steps)

    def modes_of(self, steps: Steps) -> Modes:
        """With z = 0."""
        return self._modes(self.decoded(self.encoder.pieces(steps)))

    def _modes(self, decoded: Tensor) -> Modes:
        assert self.choice is not None
        shapes = self.head(decoded).unflatten(2, (self.modes, 2, self.chunk[1]))
        return Modes.of(self.choice(decoded.mean(dim=1)), shapes.movedim(1, 2))

    def loss(self, steps: Steps) -> Tensor:
        """Error of what is not clipped, mean over the entries that count (or −log p by them), and in training the
        divergence of z; [N]."""
        pieces, z, divergence = self.encoder.pieces(steps), None, None
        if self.style is not None and self.training:
            mean, log_variance = self.style(pieces, self.shown_chunk(steps), steps.mask)
            z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        errors = self._errors(self.decoded(pieces, z), steps)
        return errors if divergence is None else errors + self.kl_weight * divergence

    def _errors(self, decoded: Tensor, steps: Steps) -> Tensor:
        chunk = self.shown_chunk(steps)
        if self.modes > 1:
            modes = self._modes(decoded)
            return -modes.log_prob(chunk, steps.mask) / entries_of(modes.means, steps.mask)
        errors = self.head(decoded) - chunk
        return mean_over_chunk(errors.abs() if self.absolute else errors.square(), steps.mask)


class Style(nn.Module):
    """What is particular about a chunk of the expert, as a normal distribution of z.

    A transformer reads a token of its own, one of the vectors that are seen (not the pictures), and the actions.

    Args:
        shapes: of the pieces.
        chunk: H and A.
        width: of the tokens.
        heads: of each attention.
        layers: of the transformer.
        latent: length of z.
        dropout: in training.
    """

    def __init__(
        self,
        shapes: tuple[tuple[int, int], ...],
        chunk: tuple[int, int],
        width: int,
        heads: int,
        layers: int,
        latent: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.latent = latent
        self.vectors = [number for number, (cells, _) in enumerate(shapes) if cells == 1]
        self.start = nn.Parameter(0.02 * torch.randn(1, width))
        self.of_vectors = nn.Linear(sum(shapes[number][1] for number in self.vectors), width) if self.vectors else None
        self.of_actions = nn.Linear(chunk[1], width)
        self.places = nn.Parameter(0.02 * torch.randn(chunk[0], width))
        self.layers = nn.ModuleList(encoder_layer(width, heads, dropout) for _ in range(layers))
        self.distribution = nn.Linear(width, 2 * latent)
        self.of_z = nn.Linear(latent, width)

    def token(self, z: Tensor) -> Tensor:
        """What z [N, latent] is for the policy, [N, 1, width]."""
        token: Tensor = self.of_z(z)[:, None]
        return token

    def forward(self, pieces: list[Tensor], chunk: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of z, [N, latent] each, for chunks [N, H, A] of which `mask` [N, H] counts."""
        tokens = [self.start.expand(len(chunk), 1, -1)]
        if self.of_vectors is not None:
            tokens.append(self.of_vectors(torch.cat([pieces[number] for number in self.vectors], dim=2)))
        seen, ignored = torch.cat([*tokens, self.of_actions(chunk) + self.places], dim=1), None
        if mask is not None:
            ignored = torch.cat([mask.new_zeros(len(mask), len(tokens)), ~mask], dim=1)
        for layer in self.layers:
            seen = layer(seen, src_key_padding_mask=ignored)
        mean, log_variance = self.distribution(seen[:, 0]).chunk(2, dim=1)
        return mean, log_variance


def encoder_layer(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """A layer that normalises what it reads. Each is made on its own: `nn.TransformerEncoder` copies one's weights."""
    return nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
