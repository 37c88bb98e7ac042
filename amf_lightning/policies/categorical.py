"""Policies of discrete actions: a choice is a one-hot vector, learned by cross-entropy."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.policies.capabilities import Density
from amf_lightning.policies.mlp import Perceptron
from amf_lightning.policies.protocol import Policy
from amf_lightning.seeding import RowGenerators
from amf_lightning.tasks.spec import Specs
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import TaskSuite


class CategoricalPolicy(Density, Policy):
    """π(a | s, c) = softmax(z)_a with logits z: it acts by the largest one, as a one-hot vector [A].

    Actions that it is given count by their largest entry, as in environments (`OneHot`). A subclass gives `logits`,
    the output of its last linear layer.
    """

    discrete = True

    @abstractmethod
    def logits(self, steps: Steps) -> Tensor:
        """z, [N, A]."""

    def act(self, steps: Steps) -> Tensor:
        logits = self.logits(steps)
        return F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits)

    def predict(self, steps: Steps, generator: RowGenerators | None = None) -> Tensor:
        """The likeliest choice, or a draw; [N, 1, A] one-hot."""
        if generator is None:
            return self.act(steps)[:, None]
        logits = self.logits(steps)
        # The largest of logits with Gumbel noise is a draw from their softmax.
        noise = -torch.log(-torch.log(generator.uniform(logits.shape[1]).clamp(min=1e-20))).to(logits)
        return F.one_hot((logits + noise).argmax(dim=1), logits.shape[1]).to(logits)[:, None]

    def loss(self, steps: Steps) -> Tensor:
        """Cross-entropy, [N]; its derivative by z is softmax(z) − one-hot(a)."""
        return -self.log_prob(steps)

    def log_prob(self, steps: Steps) -> Tensor:
        """log π(a | s, c), [N]."""
        logs = torch.log_softmax(self.logits(steps), dim=1)
        return logs.gather(1, steps.shown_actions.argmax(dim=1, keepdim=True)).squeeze(1)

    @torch.no_grad()
    def sample(self, steps: Steps, generator: torch.Generator) -> Tensor:
        logits = self.logits(steps)
        chances = torch.softmax(logits, dim=1).cpu()
        choice = torch.multinomial(chances, 1, generator=generator).squeeze(1)
        return F.one_hot(choice, chances.shape[1]).to(logits)


class CategoricalMLPPolicy(CategoricalPolicy, Perceptron):
    """z = W h(s, c) + b with a ReLU network h, for environments of discrete actions.

    Args:
        observation: entries of the observation, of which it reads one vector; or its length O.
        context_dim: C.
        action_dim: A, the number of actions.
        hidden: widths of the hidden layers; the last one is the number of features F.
    """

    def __init__(
        self, observation: Specs | int, context_dim: int, action_dim: int, hidden: Sequence[int] = (256, 256)
    ) -> None:
        super().__init__(observation, context_dim, action_dim, hidden)

    def logits(self, steps: Steps) -> Tensor:
        return self.outputs(steps)


def check_actions(policy: Policy, suite: TaskSuite) -> None:
    """Raises InputError if one of policy and suite has discrete actions and the other has not."""
    if policy.discrete != suite.discrete:
        kinds = {True: "discrete", False: "continuous"}
        advice = "CategoricalMLPPolicy" if suite.discrete else "MLPPolicy"
        raise InputError(
            f"{type(policy).__name__} has {kinds[policy.discrete]} actions, suite '{suite.name}' has "
            f"{kinds[suite.discrete]} ones. Set model.policy, e.g. to {advice}."
        )
