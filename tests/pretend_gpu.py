"""A GPU that is not there: tensors that were sent to `cuda` compute on the CPU, and may not be mixed with others.

What a real GPU refuses is refused here too, so that code which forgets to move a tensor is found on any machine.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

CUDA = torch.device("cuda")
_INDEXING = (Tensor.__getitem__, Tensor.__setitem__)
_ASKING: tuple[Any, ...] = (Tensor.device, Tensor.is_cuda)
_LEAVING = (Tensor.tolist, Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__)


class PretendGpu(TorchFunctionMode):
    """Knows which tensors are on the GPU. `seen` counts the operations on them."""

    def __init__(self) -> None:
        super().__init__()
        self._there: Any = WeakIdKeyDictionary()
        self.seen = 0

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._there

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        owner = getattr(func, "__self__", None)
        if any(owner is each for each in _ASKING):
            on_gpu = args[0] in self._there
            return on_gpu if owner is Tensor.is_cuda else CUDA if on_gpu else torch.device("cpu")
        tensors = list(_tensors((args, kwargs)))
        there = [tensor for tensor in tensors if tensor in self._there]
        target = self._target(func, args, kwargs)
        if target is None and func not in _LEAVING:
            self._check(func, args, tensors, there)
        args = [_on_cpu(each) for each in args]
        kwargs = {name: _on_cpu(value) for name, value in kwargs.items()}
        result = func(*args, **kwargs)
        if target is not None and any(result is tensor for tensor in tensors):
            result = result.view_as(result)  # what was moved is another tensor, as it would be
        if (target or (CUDA if there else torch.device("cpu"))).type == "cuda":
            self.seen += 1
            for tensor in _tensors(result):
                self._there[tensor] = True
        return result

    def _target(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device | None:
        """Where the result is asked to be; None where nothing is asked."""
        if func is Tensor.cpu:
            return torch.device("cpu")
        asked = [kwargs.get("device")]
        if func is Tensor.to:
            asked += list(args[1:])
        for each in asked:
            if isinstance(each, Tensor):
                return CUDA if each in self._there else torch.device("cpu")
            if isinstance(each, str | torch.device):
                return torch.device(each)
        return None

    def _check(
        self, func: Callable[..., Any], args: Sequence[Any], tensors: Sequence[Tensor], there: Sequence[Tensor]
    ) -> None:
        """Refuses what CUDA refuses: operands here and there, unless those here are single numbers or an index."""
        here = [tensor for tensor in tensors if tensor not in self._there and tensor.dim() > 0]
        if not there or not here:
            return
        if func in _INDEXING and args[0] in self._there:
            return
        name = getattr(func, "__name__", str(func))
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda and cpu")


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """Within it `cuda` can be computed on."""
    with PretendGpu() as gpu:
        yield gpu


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.split(":")[0] == "cuda" else value


def _tensors(nest: Any) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, Mapping):
        for value in nest.values():
            yield from _tensors(value)
    elif isinstance(nest, list | tuple):
        for value in nest:
            yield from _tensors(value)
