"""Which weights of a run should be frozen, and what became of them; all entries of a policy as one vector."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.weights import load_policy
from amf_lightning.retention.retention import Retention
from tiny import TinySuite


def policy_like(path: Path) -> MLPPolicy:
    """The policy in a file of the tiny world."""
    policy = MLPPolicy(2, 1, 1, hidden=[16, 16])
    load_policy(str(path)).load_into(policy)
    return policy


def weights(path: Path) -> Tensor:
    """All parameters of the policy in a file, [P]."""
    return torch.cat([parameter.detach().flatten() for parameter in policy_like(path).parameters()])


def trainable_entries(pretrained: Path, retention: Retention, seed: int = 0) -> dict[str, Tensor]:
    """Which entries of each parameter a retention leaves free: measured here once more, not read from the run."""
    policy = partial(MLPPolicy, hidden=[16, 16])
    model = BehaviouralCloning(TinySuite(), policy, pretrained=str(pretrained), retention=retention, seed=seed)
    model.setup("fit")
    return {
        name: model.masks.get(name, torch.ones_like(value)).bool() for name, value in model.policy.named_parameters()
    }


def frozen_mask(pretrained: Path, retention: Retention, seed: int = 0) -> Tensor:
    """Which parameters a retention freezes, [P] bool."""
    return ~torch.cat([mask.flatten() for mask in trainable_entries(pretrained, retention, seed).values()])
