"""Comparing steps bit for bit."""

from torch import Tensor

from amf_lightning.tasks.steps import Steps


def assert_equal(first: Steps, second: Steps) -> None:
    """Both have the same tensors, of the same types, shapes and bits."""
    assert _bits(first) == _bits(second)


def _bits(steps: Steps) -> dict[str, tuple[object, ...]]:
    others = steps.tensors()
    observations: dict[str, Tensor] = others.pop("observations")
    named = {f"observation {name}": tensor for name, tensor in observations.items()} | others
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in named.items()}
