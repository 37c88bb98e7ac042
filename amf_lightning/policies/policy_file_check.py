"""Whether a policy file says what a policy file says, and nothing in it was changed."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SHA256 = "sha256"
"""The fact that holds the hash of everything else; files of version 0.2 have none."""


def content_hash(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """SHA-256 of tensors, by their names, types, shapes and bytes, and of facts of plain types without that hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # By way of bytes: numpy lacks some of torch's types.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    digest.update(json.dumps({key: facts[key] for key in facts if key != SHA256}, sort_keys=True).encode())
    return digest.hexdigest()


def check_contents(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Checks what `load_policy` takes over.

    Raises:
        ValueError: something is missing, of another type, or was changed; says what, as a clause.
    """
    if SHA256 in facts and facts[SHA256] != content_hash(tensors, facts):
        raise ValueError("its SHA-256 is not that of its contents: it was changed after it was written")
    kinds = {"class": str, "options": dict, "suite": dict}
    if any(not isinstance(facts[name], kind) for name, kind in kinds.items()):
        raise ValueError("class, options or suite have another type")
    if not _counts(facts["pretraining_counts"]):
        raise ValueError(f"its pretraining_counts are {str(facts['pretraining_counts'])[:80]}")
    moment, statistics = tensors.get("statistics.second_moment"), facts.get("statistics")
    if (moment is None) != (statistics is None):
        raise ValueError("of the feature statistics a part is missing")
    if moment is not None and (reason := _objection(moment, statistics)):
        raise ValueError(f"its feature statistics cannot be: {reason}")
    if strange := [name for name, tensor in tensors.items() if name.startswith("importance.") and _bad(tensor)]:
        raise ValueError(f"{strange[0]} is negative or not finite")


def _objection(moment: Tensor, facts: Any) -> str | None:
    """What is wrong with feature statistics; see `FeatureStatistics`."""
    if not isinstance(facts, dict) or facts.keys() != {"count", "largest_norm", "backbone", "covers"}:
        return "count, largest_norm, backbone and covers are not what they consist of"
    if not _count(facts["count"]) or facts["count"] == 0:
        return f"they are of {facts['count']!r} states"
    norm = facts["largest_norm"]
    if not isinstance(norm, float | int) or isinstance(norm, bool) or not math.isfinite(norm) or norm < 0:
        return f"largest_norm is {norm!r}"
    if not isinstance(facts["backbone"], str) or not _counts(facts["covers"]):
        return "backbone is no hash, or covers is no table of counts"
    if moment.ndim not in (2, 3) or moment.shape[-1] != moment.shape[-2] or not moment.is_floating_point():
        return f"their second moment has shape {list(moment.shape)} and type {moment.dtype}"
    if not moment.isfinite().all() or (moment.diagonal(dim1=-2, dim2=-1) < 0).any():
        return "their second moment is not finite, or negative"
    return None


def _bad(tensor: Tensor) -> bool:
    return bool(not tensor.isfinite().all() or (tensor < 0).any())


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_count, value.values()))


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
