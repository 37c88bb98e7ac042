"""The network of a trained expert, on torch alone, and its file."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError
from amf_lightning.policies.policy_file_check import SHA256, content_hash
from amf_lightning.policies.weights import read_safetensors
from amf_lightning.reading import parse_json
from amf_lightning.shipped import checkpoint_path
from amf_lightning.tasks.task import TaskSuite

FORMAT = "amf-goal-actor/1"


class GoalActor(nn.Module):
    """a = tanh(MLP([s, g])) with ReLU between the layers: the mean of a soft actor-critic policy.

    Args:
        sizes: widths of all layers, input [O + G] to output [A].
        suite: signature of the suite it was trained for.
    """

    def __init__(self, sizes: list[int], suite: Mapping[str, Any]) -> None:
        super().__init__()
        self.sizes, self.suite = list(sizes), dict(suite)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        """Actions [N, A] for observations [N, O] and goals [N, G] given as contexts."""
        hidden = torch.cat([observations, contexts], dim=1)
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        return torch.tanh(self.layers[-1](hidden))

    def check_suite(self, suite: TaskSuite, where: str) -> None:
        """Raises InputError if the actor was trained for another suite than `suite`; `where` names its file."""
        signature = goal_signature(suite)
        differing = [key for key in signature if self.suite.get(key) != signature[key]]
        if differing:
            parts = ", ".join(f"{key} {self.suite.get(key)!r} instead of {signature[key]!r}" for key in differing)
            raise InputError(f"The expert {where} belongs to another suite: {parts}. Choose an expert of this suite.")


def goal_signature(suite: TaskSuite) -> dict[str, Any]:
    """What must agree for an expert to serve a suite: its own goals count, not the contexts that policies get."""
    return {
        "name": suite.name,
        "observation_dim": suite.observation_dim,
        "action_dim": suite.action_dim,
        "goal_dim": suite.goals.shape[1],
    }


def save_goal_actor(path: Path, actor: GoalActor, facts: Mapping[str, Any]) -> None:
    """Writes an actor durably as float32 safetensors; `facts` of plain types go into its metadata."""
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in actor.state_dict().items()}
    content = {"format": FORMAT, "sizes": actor.sizes, "activation": "relu", "squash": "tanh", "suite": actor.suite}
    content = json.loads(json.dumps(content | {"facts": dict(facts)}))
    content[SHA256] = content_hash(tensors, content)
    write_durably(path, save(tensors, metadata={"expert": json.dumps(content)}))


def load_goal_actor(name: str) -> tuple[GoalActor, dict[str, Any]]:
    """The actor and the facts of shipped weights, by name, or of a file of the user.

    Raises:
        InputError: the file is missing, truncated, or not an expert of this package.
    """
    path = checkpoint_path(name)
    tensors, metadata = read_safetensors(path)
    advice = "Restore it, or train the expert again."
    content = parse_json(metadata.get("expert", "{}"), f"The header of {path}", advice)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is a safetensors file but not an expert of this package (expected {FORMAT}).")
    try:
        if content.get(SHA256) not in (None, content_hash(tensors, content)):
            raise ValueError("its SHA-256 is not that of its contents: it was changed after it was written")
        actor = GoalActor(content["sizes"], content["suite"])
        actor.load_state_dict(tensors)
        facts = dict(content["facts"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"The expert {path} is damaged ({type(error).__name__}: {reason}). {advice}") from error
    return actor.eval().requires_grad_(False), facts
