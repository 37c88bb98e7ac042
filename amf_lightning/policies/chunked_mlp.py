"""A perceptron that predicts several actions at once."""

from collections.abc import Sequence

from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import LinearHead
from amf_lightning.policies.encoded import EncodedPolicy, mean_over_chunk, perceptron, piecewise
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.policies.modes import ModalDensity, Modes, checked_modes, entries_of
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps, Window


class ChunkedMLP(ModalDensity, LinearHead, EncodedPolicy):
    """H actions as W h(x) + b, with a ReLU network h of the encoder's features x; trained by mean squared error.

    What is learned is not squashed; predictions are clipped to [-1, 1]. With several modes W h(x) + b has the logits,
    means and deviations of a mixture of normal distributions of chunks, trained by its likelihood.

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A.
        horizon: H.
        history: observations that it sees.
        encoder: class of the encoder and its options; None: `ConvEncoder`.
        hidden: widths of the hidden layers; the last one is the number of features F.
        action_std: standard deviation declared for `log_prob` and samples; it does not enter the loss. Of one mode.
        modes: M, normal distributions in the mixture; 1: none, and the squared error.
    """

    def __init__(
        self,
        observation: Specs | int,
        context_dim: int,
        action_dim: int,
        horizon: int = 8,
        history: int = 1,
        encoder: EncoderFactory | None = None,
        hidden: Sequence[int] = (256, 256),
        action_std: float = 0.1,
        modes: int = 1,
    ) -> None:
        super().__init__(observation, context_dim, action_dim, Window(history, horizon), encoder)
        if not hidden or min(hidden) < 1:
            raise InputError(f"ChunkedMLP: hidden is {list(hidden)}; give at least one width, each at least 1.")
        self.action_std, self.modes = action_std, checked_modes("ChunkedMLP", modes)
        self.backbone = perceptron(self.encoder.size, tuple(hidden))
        chunk = horizon * action_dim
        self.head = nn.Linear(hidden[-1], chunk if modes == 1 else modes * (1 + 2 * chunk))

    @property
    def output_layer(self) -> nn.Linear:
        return self.head

    def features(self, steps: Steps) -> Tensor:
        """Input of `output_layer`, [N, F]."""
        return piecewise(lambda rows: self.backbone(self.encoder(rows)), steps)

    def outputs(self, steps: Steps) -> Tensor:
        """The chunk before it is clipped, [N, H, A]."""
        outputs: Tensor = self.head(self.backbone(self.encoder(steps)))
        return outputs.reshape(len(steps), *self.chunk)

    def modes_of(self, steps: Steps) -> Modes:
        outputs, (horizon, entries) = self.head(self.backbone(self.encoder(steps))), self.chunk
        logits, shapes = outputs[:, : self.modes], outputs[:, self.modes :]
        return Modes.of(logits, shapes.reshape(len(steps), self.modes, horizon, 2, entries))

    def loss(self, steps: Steps) -> Tensor:
        """Squared error of what is not clipped, mean over the entries that count, or −log p by them; [N]."""
        if self.modes == 1:
            return mean_over_chunk((self.outputs(steps) - self.shown_chunk(steps)).square(), steps.mask)
        modes = self.modes_of(steps)
        return -modes.log_prob(self.shown_chunk(steps), steps.mask) / entries_of(modes.means, steps.mask)
