"""The belief of a policy that is a belief itself: AMF-GP (arXiv 2410.05026)."""

import torch
from torch import Tensor

from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.policies.gaussian_process import GaussianProcessPolicy
from amf_lightning.tasks.steps import Steps
from amf_lightning.uncertainty.embeddings import Embedding
from amf_lightning.uncertainty.kernels import RBF
from amf_lightning.uncertainty.knowledge import Embedded, Knowledge
from amf_lightning.uncertainty.posterior import FunctionSpacePosterior


class PolicyBelief(Embedding):
    """The posterior of a `GaussianProcessPolicy` itself: its kernel, lengthscales and rows, those of π0 included.

    With `rho` equal to noise² of the policy the variances are those of the policy, in units of noise², up to a capacity
    of 2,000 rows. The rows of π0 are what others have as pre-training statistics.
    """

    needs = (Need.PRETRAINING_STATISTICS, Need.OWN_POSTERIOR)
    does_without = (Need.PRETRAINING_STATISTICS,)  # they are the rows of π0 itself
    instead = "Choose the embedding LastLayerFeatures, or Kernel."
    weighs_noise = False

    def embed(self, knowledge: Knowledge, candidates: Steps, targets: Steps, ridge: float) -> Embedded:
        """See `Embedding.embed`.

        Raises:
            InputError: the policy is of another class, or the observation noise of the demonstrations differs.
        """
        policy = knowledge.policy
        if not isinstance(policy, GaussianProcessPolicy):
            raise InputError(
                f"PolicyBelief is the belief of a GaussianProcessPolicy; the policy is a {type(policy).__name__}. "
                "Use LastLayerFeatures, or Kernel."
            )
        if knowledge.noise is not None:
            raise InputError(
                "PolicyBelief is the belief of the policy, in which all demonstrations have the same noise. Do without "
                "the selector's `noise` and demonstrations that carry one, or choose the embedding Kernel."
            )
        observed, count = policy.known
        prior = FunctionSpacePosterior(RBF(), ridge)
        posterior = prior.condition(observed.to(knowledge.device), 1 / count) if len(observed) else prior
        ahead, at_targets = (_points(policy, states).to(knowledge.device) for states in (candidates, targets))
        return Embedded(posterior, ahead, at_targets)


def _points(policy: GaussianProcessPolicy, states: Steps) -> Tensor:
    with torch.no_grad():
        return policy.points(states)
