"""A perceptron that predicts several actions at once."""

from collections.abc import Sequence

from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import GaussianDensity, LinearHead
from amf_lightning.policies.encoded import EncodedPolicy, mean_over_chunk, perceptron, piecewise
from amf_lightning.policies.encoder import EncoderFactory
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps, Window


class ChunkedMLP(GaussianDensity, LinearHead, EncodedPolicy):
    """H actions as W h(x) + b, with a ReLU network h of the encoder's features x; trained by mean squared error.

    What is learned is not squashed; predictions are clipped to [-1, 1].

    Args:
        observation: entries of the observation; or the length O of the one vector that it is.
        context_dim: C.
        action_dim: A.
        horizon: H.
        history: observations that it sees.
        encoder: class of the encoder and its options; None: `ConvEncoder`.
        hidden: widths of the hidden layers; the last one is the number of features F.
        action_std: standard deviation declared for `log_prob` and samples; it does not enter the loss.
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
    ) -> None:
        super().__init__(observation, context_dim, action_dim, Window(history, horizon), encoder)
        if not hidden or min(hidden) < 1:
            raise InputError(f"ChunkedMLP: hidden is {list(hidden)}; give at least one width, each at least 1.")
        self.action_std = action_std
        self.backbone = perceptron(self.encoder.size, tuple(hidden))
        self.head = nn.Linear(hidden[-1], horizon * action_dim)

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

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """The mean, or a draw from the normal distribution around it, clipped to [-1, 1]; [N, H, A]."""
        mean = self.outputs(steps).clamp(-1, 1)
        if generator is not None:
            mean = (mean + self.action_std * generator.normal(*self.chunk).to(mean)).clamp(-1, 1)
        return mean

    def loss(self, steps: Steps) -> Tensor:
        """Squared error of what is not clipped, mean over the entries that count, [N]."""
        errors = (self.outputs(steps) - self.shown_chunk(steps)).square()
        return mean_over_chunk(errors, steps.mask)
