"""Networks that a library ships, by import path, without a download."""

import inspect
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.import_path import told
from amf_lightning.policies.weights import read_safetensors

_LIBRARIES = ("torchvision.models.", "timm.create_model")
"""What a policy file may name although nothing has imported it: functions that make networks and do nothing else."""
_OTHER_WEIGHTS = ("weights", "weights_backbone", "pretrained", "checkpoint_path")
"""Arguments by which factories of these libraries fetch or read weights."""
_NESTS = ("state_dict", "model")
"""Keys under which training scripts keep the weights in a checkpoint."""


def network_of(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network that a class, or a factory of torchvision or timm, makes.

    Args:
        path: `torchvision.models.NAME`, `timm.create_model`, or a class that extends `torch.nn.Module`.
        arguments: of the call.

    Raises:
        InputError: there is no such thing, it cannot be called like that, or it would download something.
    """
    function = _found(path)
    for name in _OTHER_WEIGHTS:
        if arguments.get(name):
            raise InputError(
                f"LibraryEncoder: {path} would fetch weights ({name}: {arguments[name]!r}). Save them once into a file "
                "(torch.save(network.state_dict(), 'weights.pth')), give it as the encoder's own `weights`, and leave "
                f"{name} out."
            )
    attempts: list[str] = []
    try:
        with _no_downloads(attempts):
            network = function(**arguments)
    except Exception as error:
        if attempts:
            raise InputError(
                f"LibraryEncoder: {path} would download from {attempts[0]}. Save what it needs once into a file, and "
                "give that as the encoder's own `weights`."
            ) from error
        raise InputError(f"LibraryEncoder: {path} cannot be called with {dict(arguments)}: {told(error)}.") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"LibraryEncoder: {path} made a {type(network).__name__}, not a torch.nn.Module.")
    return network


def check_known(path: str) -> None:
    """Raises InputError unless a policy file may name this path: a file must not decide what code is imported."""
    module = str(path).rpartition(".")[0]
    if not str(path).startswith((*_LIBRARIES, "amf_lightning.")) and module not in sys.modules:
        raise InputError(f"{path} is of no library that is known. Import its module before the policy is made.")


def _found(path: str) -> Any:
    module, _, name = str(path).rpartition(".")
    try:
        function = getattr(import_module(module), name, None) if module else None
    except ImportError as error:
        raise InputError(
            f"LibraryEncoder: there is no module '{error.name or module}' for {path}. Install the library "
            "(pip install torchvision, or timm), or run where the module can be imported."
        ) from error
    of_library = path.startswith(_LIBRARIES) and str(getattr(function, "__module__", "")).startswith(
        ("torchvision.models", "timm.")
    )
    if not of_library and not (inspect.isclass(function) and issubclass(function, nn.Module)):
        raise InputError(
            f"LibraryEncoder: function is '{path}'; give torchvision.models.NAME, timm.create_model, or a class that "
            "extends torch.nn.Module."
        )
    return function


@contextmanager
def _no_downloads(attempts: list[str]) -> Iterator[None]:
    """Within it this thread finds no host by its name; those that it looks for are noted."""
    plain, mine = socket.getaddrinfo, threading.get_ident()

    def refused(host: Any, *args: Any, **options: Any) -> Any:
        if threading.get_ident() != mine:
            return plain(host, *args, **options)
        attempts.append(str(host))
        # No OSError, after which libraries would try again and again.
        raise InputError(f"LibraryEncoder: nothing is downloaded, from {host} or elsewhere.")

    socket.getaddrinfo = refused
    try:
        yield
    finally:
        socket.getaddrinfo = plain


def load_weights(network: nn.Module, path: Path, left_out: frozenset[str], where: str) -> None:
    """Copies the weights of a local file into a network; no code that may be in the file runs.

    Args:
        network: changed in place.
        path: a safetensors file, or what `torch.save` wrote of a `state_dict`, also one under `state_dict` or `model`.
        left_out: further names that the file may hold: of what was taken off the network, its head.
        where: path of the network's function, for messages.

    Raises:
        InputError: it cannot be read, or does not fit; the first difference is named.
    """
    tensors = _read(path)
    state = network.state_dict()
    for name in sorted(state.keys() | (tensors.keys() - left_out)):
        shapes = [list(those[name].shape) if name in those else "missing" for those in (tensors, state)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"{path} does not fit {where}: tensor '{name}' is {shapes[0]} in the file and {shapes[1]} in the "
                "network. Give the arguments that its network was made with, or another file."
            )
    network.load_state_dict({name: tensors[name] for name in state})


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Give the path of a safetensors file or a state_dict.") from None
    except Exception as error:  # the unpickler meets any bytes
        reason = str(error).splitlines()[0][:150] if str(error) else type(error).__name__
        raise InputError(
            f"{path} holds no plain weights ({reason}). Give a safetensors file, or torch.save(network.state_dict())."
        ) from None
    for nest in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not all(isinstance(tensor, Tensor) for tensor in content.values()):
        raise InputError(f"{path} holds no state_dict. Give a safetensors file, or torch.save(network.state_dict()).")
    return content
