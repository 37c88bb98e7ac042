"""Selective weight freezing: some entries are trained, the others stay as they were, bit for bit."""

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _NormBase

from amf_lightning.errors import InputError
from amf_lightning.needs import Part
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.importance import FisherImportance, Importance
from amf_lightning.retention.retention import Retention, RetentionContext, origin


class FreezeByImportance(Retention):
    """Freezes the weights that matter most to what π0 does, entry by entry.

    Args:
        fraction: ρ, share of all weights that is frozen, in [0, 1].
        importance: how weights are ranked.
    """

    def __init__(self, fraction: float = 0.5, importance: Importance | None = None) -> None:
        if not 0.0 <= fraction <= 1.0:
            raise InputError(f"FreezeByImportance.fraction is {fraction}; it is a share and lies in [0, 1].")
        self.fraction = fraction
        self.importance = importance or FisherImportance()
        self.needs = self.importance.needs
        self._masks: dict[str, Tensor] = {}

    @property
    def components(self) -> Mapping[str, Part]:
        return {"importance": self.importance}

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        masks = trainable_masks(self.importance.compute(context), self.fraction)
        names = {name: origin(name, masks) for name, _ in policy.named_parameters()}
        self._masks = {name: masks[source] for name, source in names.items() if source is not None}

    def masks(self) -> dict[str, Tensor]:
        return self._masks


class FreezeModules(Retention):
    """Freezes whole parameters by name.

    Args:
        patterns: shell-style patterns of parameter names, as π0 or as the deployed policy has them, e.g.
            `backbone.0.*`.
    """

    def __init__(self, patterns: list[str]) -> None:
        self.patterns = patterns
        self._masks: dict[str, Tensor] = {}

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        parameters = dict(context.pretrained.named_parameters())
        names = {name: {name, origin(name, parameters) or name} for name, _ in policy.named_parameters()}
        every = sorted(set().union(*names.values()))
        for pattern in self.patterns:
            if not any(fnmatchcase(name, pattern) for name in every):
                near = get_close_matches(pattern, every, n=1, cutoff=0.3)
                hint = f" Did you mean '{near[0]}'?" if near else ""
                raise InputError(
                    f"FreezeModules: no parameter is called '{pattern}'.{hint} There are: {', '.join(every)}."
                )
        self._masks = {
            name: torch.zeros_like(parameter, dtype=torch.bool)
            for name, parameter in policy.named_parameters()
            if any(fnmatchcase(each, pattern) for each in names[name] for pattern in self.patterns)
        }

    def masks(self) -> dict[str, Tensor]:
        return self._masks


def trainable_masks(importance: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Which entries may be trained when the `fraction` with the largest importance, over all tensors, is frozen.

    Exactly round(fraction · entries) entries are frozen; among equals the earlier ones are.

    >>> trainable_masks({"w": torch.tensor([3.0, 1.0, 2.0, 0.0])}, 0.5)
    {'w': tensor([False,  True, False,  True])}
    """
    flat = torch.cat([tensor.flatten() for tensor in importance.values()])
    mask = torch.ones(len(flat), dtype=torch.bool)
    mask[torch.argsort(flat, descending=True, stable=True)[: round(fraction * len(flat))]] = False
    pieces = torch.split(mask, [tensor.numel() for tensor in importance.values()])
    return {name: piece.view(tensor.shape) for (name, tensor), piece in zip(importance.items(), pieces, strict=True)}


def placed(tensors: Mapping[str, Tensor], policy: Policy) -> dict[str, Tensor]:
    """Tensors of parameters' shapes, each where its parameter is: on its device, and cut up as it is (FSDP2)."""
    parameters = dict(policy.named_parameters())
    return {name: _placed(tensor, parameters[name]) for name, tensor in tensors.items()}


def _placed(tensor: Tensor, parameter: Tensor) -> Tensor:
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor.to(parameter.device)


def hold_statistics(policy: Policy) -> None:
    """Puts normalisation layers whose weights are all frozen into evaluation mode, to stay in it while others train.

    Their running mean and variance are no parameters, but follow every batch and change what the frozen weights do.
    """
    for module in policy.modules():
        parameters = list(module.parameters(recurse=False))
        if isinstance(module, _NormBase) and parameters and not any(each.requires_grad for each in parameters):
            module.eval()


def mask_gradients(policy: Policy, masks: Mapping[str, Tensor]) -> None:
    """Sets the gradients of frozen entries to zero. Before clipping, so that the norm is of trained entries only."""
    for name, parameter in policy.named_parameters():
        if name in masks and parameter.grad is not None:
            parameter.grad.mul_(masks[name])


@torch.no_grad()
def restore_frozen(policy: Policy, masks: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Puts frozen entries back to `values`, bit for bit.

    A gradient of zero is not enough: weight decay, and momentum from before the mask, move an entry all the same.
    """
    for name, parameter in policy.named_parameters():
        if name in masks:
            parameter.copy_(torch.where(masks[name], parameter, values[name]))
