"""Policy files: weights, feature statistics and pre-training counts in one safetensors file, no pickle."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.parameter import is_lazy

from amf_lightning.durable import write_durably
from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.policies.mixture import ComposedPolicy
from amf_lightning.policies.policy_file_check import SHA256, check_contents, content_hash
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.recipe import first_difference, from_recipe, recipe_of
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.seeding import lent_global_generators
from amf_lightning.shipped import checkpoint_path
from amf_lightning.tasks.spec import Dimensions, Specs
from amf_lightning.tasks.task import dimensions_of

FORMAT = "amf-policy/1"
PolicyFactory = Callable[[Specs, int, int], Policy]
"""Makes a policy for the entries of an observation and the lengths C and A of context and action."""


@dataclass(frozen=True, eq=False)
class PolicyFile:
    """The contents of a policy file."""

    path: Path
    tensors: Mapping[str, Tensor]
    """`state_dict` of the policy."""
    policy_class: str
    """Import path of the policy's class."""
    dimensions: Dimensions
    """What the policy was made for."""
    options: Mapping[str, Any]
    """Further arguments of its constructor."""
    suite: Mapping[str, Any]
    """Signature of the suite it was trained for."""
    statistics: FeatureStatistics | None
    pretraining_counts: Mapping[str, int]
    """Demonstrations of each task, by name, that it was trained on in all its life."""
    importance: Mapping[str, Tensor] = field(default_factory=dict)
    """How much each weight matters to it, by name of the parameter; empty unless it was asked for."""
    demonstrations: frozenset[str] = frozenset()
    """`fingerprint` of each demonstration that it was trained on; files of 0.1 have none."""

    def load_into(self, policy: Policy) -> None:
        """Copies the weights into a policy of the same shapes; InputError names the first difference."""
        state = policy.state_dict()
        for name in sorted(state.keys() | self.tensors.keys()):
            in_file = tuple(self.tensors[name].shape) if name in self.tensors else None
            in_policy = tuple(state[name].shape) if name in state else None
            if in_file != in_policy:
                raise InputError(
                    f"{self.path} does not fit the configured {type(policy).__name__}: tensor '{name}' is "
                    f"{_shape(in_file)} in the file and {_shape(in_policy)} in the policy. The file was made by "
                    f"{self.policy_class} with {dict(self.options)}: give model.policy the same."
                )
        policy.load_state_dict(dict(self.tensors))

    def check_suite(self, signature: Mapping[str, Any]) -> None:
        """Raises InputError if the policy was trained for another suite."""
        differing = [key for key in signature if self.suite.get(key) != signature[key]]
        if differing:
            parts = ", ".join(f"{key} {self.suite.get(key)!r} instead of {signature[key]!r}" for key in differing)
            raise InputError(f"{self.path} belongs to another suite: {parts}. Choose weights of this suite.")

    def make(self) -> Policy:
        """The policy itself, made from what the file says of its class; only classes of this package are imported."""
        policy = from_recipe({"class": self.policy_class, "options": self.options}, self.dimensions)
        self.load_into(policy)
        return policy

    def like(self, policy: Policy) -> Policy:
        """`policy` with the weights of the file; or what the file holds, if that is made of such policies.

        Raises:
            InputError: it is of another class, has other shapes, or other options that the shapes do not tell.
        """
        if not self.policy_class.startswith(f"{ComposedPolicy.__module__}."):
            self.load_into(policy)
            if different := first_difference({"class": self.policy_class, "options": self.options}, policy):
                options = json.dumps(dict(self.options))
                raise InputError(
                    f"{self.path} does not fit model.policy: {different}. The same weights act otherwise. Write "
                    f"model: {{policy: {{class_path: {self.policy_class}, init_args: {options}}}}}"
                )
            return policy
        policy_of_file = self.make()
        configured, in_file = recipe_of(policy), recipe_of(policy_of_file.parts[0])
        if first_difference(in_file, policy):
            raise InputError(
                f"{self.path} holds a {type(policy_of_file).__name__} of {in_file['class']} with {in_file['options']}, "
                f"but model.policy is {configured['class']} with {configured['options']}. Give model.policy the same."
            )
        return policy_of_file


def save_policy(
    path: Path,
    policy: Policy,
    suite: Mapping[str, Any],
    statistics: FeatureStatistics | None,
    pretraining_counts: Mapping[str, int],
    importance: Mapping[str, Tensor] | None = None,
    demonstrations: Collection[str] = (),
) -> None:
    """Writes a policy file durably; see `PolicyFile` for the arguments."""
    content = encode_policy(policy, suite, statistics, pretraining_counts, importance, demonstrations)
    write_durably(path, content)


def encode_policy(
    policy: Policy,
    suite: Mapping[str, Any],
    statistics: FeatureStatistics | None,
    pretraining_counts: Mapping[str, int],
    importance: Mapping[str, Tensor] | None = None,
    demonstrations: Collection[str] = (),
) -> bytes:
    """Content of a policy file; see `PolicyFile` for the arguments."""
    # Copies: safetensors refuses tensors that share memory, as tied weights do. A policy ties them when it is made.
    tensors = {f"policy.{name}": _copied(tensor.detach().cpu()) for name, tensor in policy.state_dict().items()}
    tensors |= {f"importance.{name}": _copied(tensor.cpu()) for name, tensor in (importance or {}).items()}
    facts: dict[str, Any] = {
        "format": FORMAT,
        **recipe_of(policy),
        "suite": dict(suite),
        "pretraining_counts": dict(pretraining_counts),
    }
    if demonstrations:
        facts["demonstrations"] = sorted(demonstrations)
    if statistics is not None:
        tensors["statistics.second_moment"] = statistics.second_moment.contiguous()
        facts["statistics"] = {
            "count": statistics.count,
            "largest_norm": statistics.largest_norm,
            "backbone": statistics.backbone,
            "covers": statistics.covers,
        }
    facts[SHA256] = content_hash(tensors, facts)
    # One metadata entry only: safetensors writes several in an arbitrary order, and equal policies would differ.
    return save(tensors, metadata={"policy": json.dumps(facts, sort_keys=True)})


def load_policy(name: str) -> PolicyFile:
    """Reads a policy file by the name of shipped weights or by path.

    Raises:
        InputError: the file is missing, truncated, or not a policy file of this package.
    """
    path = checkpoint_path(name)
    tensors, metadata = read_safetensors(path)
    try:
        facts = json.loads(metadata.get("policy", "{}"))
        if facts.get("format") != FORMAT:
            raise InputError(
                f"{path} is a safetensors file but not a policy of this package (format {facts.get('format')!r}, "
                f"expected {FORMAT!r}). Give a policy.safetensors of a run, or shipped weights by name."
            )
        check_contents(tensors, facts)
        moment = tensors.pop("statistics.second_moment", None)
        return PolicyFile(
            path=path,
            tensors=_under("policy.", tensors),
            policy_class=facts["class"],
            dimensions=dimensions_of(facts["suite"]),
            options=facts["options"],
            suite=facts["suite"],
            statistics=None if moment is None else FeatureStatistics(second_moment=moment, **facts["statistics"]),
            pretraining_counts=facts["pretraining_counts"],
            importance=_under("importance.", tensors),
            demonstrations=frozenset(map(str, facts.get("demonstrations", ()))),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The policy file {path} is damaged ({error!r}). Restore or remake the file.") from None


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; InputError if it is missing, truncated or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}). Restore or remake it.") from None


def build_policy(factory: PolicyFactory, dimensions: Dimensions, generator: torch.Generator) -> Policy:
    """A fresh policy whose initial weights depend on `generator` alone.

    Raises:
        InputError: its constructor leaves out `super().__init__()` or sizes, or its options fit into no file.
        UserCodeError: its constructor takes a number for the observation.
    """
    with lent_global_generators() as set_to:
        set_to(int(torch.randint(2**62, (1,), generator=generator)))
        try:
            policy = factory(dimensions.observation, dimensions.context, dimensions.action)
        except AttributeError as error:
            if "Module.__init__()" not in str(error):
                raise
            raise InputError(f"model.policy: call super().__init__() first in the constructor ({error}).") from error
        except TypeError as error:
            if "dict" not in str(error):
                raise
            raise UserCodeError(
                f"model.policy: its constructor cannot be called ({error}). `observation` holds the entries of an "
                'observation by name; the length of a vector is state_size(observation, "MyPolicy").'
            ) from error
    if any(is_lazy(tensor) for tensor in (*policy.parameters(), *policy.buffers())):
        raise InputError(
            f"{type(policy).__name__} has layers whose sizes are not known until they are used, e.g. LazyLinear. Give "
            "them their sizes: the constructor is told what it is made for."
        )
    try:
        json.dumps(policy.options)
    except TypeError as error:
        raise InputError(
            f"The options of {type(policy).__name__}, {policy.options}, cannot be written into its file ({error}). "
            "Let its constructor take plain numbers, strings and lists."
        ) from error
    return policy


def _copied(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
