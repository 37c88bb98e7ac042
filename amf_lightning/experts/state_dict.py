"""Actors from plain weight files: safetensors, or a state dict that torch has saved."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn

from amf_lightning.errors import AmfError, InputError
from amf_lightning.experts.network import Network, NetworkExpert, in_own_units, squashed
from amf_lightning.policies.weights import read_safetensors

_SMALL, _RATIO = 2**26, 100
"""Bytes that any zip may unpack to, and how many times its own size a larger one may."""


class StateDictExpert(NetworkExpert):
    """Linear layers with an activation between them, from tensors `NAME.weight` [out, in] and `NAME.bias` [out].

    Files named `*.safetensors`, else what `torch.save` wrote, read as tensors and plain types only. A state dict may
    lie in it under the key `state_dict`. The network sees the observation, or the observation followed by the task's
    goal, whichever has the width of its input.

    Args:
        weights: a file, or for each task, by name, its own.
        prefix: of the names of the layers, e.g. `actor.`; others in the file are ignored.
        layers: their names behind the prefix, from input to output; if None, all, in alphabetical order of the names
            with numbers by value.
        activation: between the layers.
        tanh: end with tanh; else the outputs are actions in the environment's own units, and are clipped. Where
            actions are discrete, the largest output is the choice, whatever is said here.
        unsafe_pickle: read a file of torch that holds more than tensors and plain types. That runs whatever code its
            author put there: never with files of strangers.
        noise: see `ActingExpert`.
        successes_only: see `ActingExpert`.
        max_attempts: see `ActingExpert`.

    Raises:
        InputError: a file is missing, damaged or unsafe, its layers do not follow one another, or there are others
            among them (normalisation).
    """

    def __init__(
        self,
        weights: str | dict[str, str],
        prefix: str = "",
        layers: list[str] | None = None,
        activation: type[nn.Module] = nn.ReLU,
        tanh: bool = True,
        unsafe_pickle: bool = False,
        noise: float = 0.0,
        successes_only: bool = True,
        max_attempts: int = 5,
    ) -> None:
        def read(path: Path) -> Network:
            tensors = read_tensors(path, unsafe_pickle)
            pairs = linear_layers(path, tensors, prefix, layers)
            return Network(path, pairs, between, squashed if tanh else in_own_units)

        try:
            between = activation()
        except TypeError as error:
            raise InputError(
                f"expert.activation is {activation.__name__}, which needs arguments; name one that does not, e.g. "
                "torch.nn.ReLU."
            ) from error

        super().__init__(weights, read, noise, successes_only, max_attempts)


def read_tensors(path: Path, unsafe_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by name; InputError if it is missing, damaged, or would have to be unpickled."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    try:
        with path.open("rb") as file:
            content = read_torch(path, file, unsafe_pickle)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except AmfError:
        raise
    except Exception as error:  # of unpickling anything may come
        raise _unreadable(path, error, unsafe_pickle) from error
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def read_torch(path: Path, file: IO[bytes], unsafe_pickle: bool = False) -> Any:
    """What torch has saved in a file, or in a member of the zip at `path`, unless it unpacks to too much.

    Raises:
        InputError: it does.
    """
    if is_zipfile(file):
        with ZipFile(file) as archive:
            check_unpacked(path, archive)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=not unsafe_pickle)


def check_unpacked(path: Path, archive: ZipFile) -> None:
    """Raises InputError if what is in a zip takes many times its size: it is read into memory as a whole."""
    members = archive.infolist()
    unpacked, packed = sum(member.file_size for member in members), sum(member.compress_size for member in members)
    if unpacked > max(_SMALL, _RATIO * packed):
        raise InputError(
            f"{path} unpacks to {unpacked} bytes, {unpacked / max(1, packed):.0f} times its size. No weights are "
            "packed like that; it is not read."
        )


def _unreadable(path: Path, error: Exception, unsafe_pickle: bool) -> InputError:
    """What to say of a file that torch does not load."""
    reason = re.split(r"\.?(?:\s|$)(?=[A-Z]|$)", str(error), maxsplit=1)[0] or type(error).__name__
    if unsafe_pickle and isinstance(error, AttributeError | ImportError):
        return InputError(
            f"{path} was saved with a class that is not here ({reason}). Run the command where it can be imported; "
            "better save the state_dict() alone, as safetensors."
        )
    with suppress(OSError), path.open("rb") as file:
        # Zips, TorchScript among them, and pickles; text can look to the unpickler as if it named classes.
        if file.read(2) in (b"PK", b"\x80\x02") and re.search("Unsupported global|TorchScript", str(error)):
            return InputError(
                f"{path} holds more than tensors and plain types. If you trust whoever made it, set "
                "expert.unsafe_pickle: true, which runs the code in it; better save its state_dict() as safetensors."
            )
    return InputError(f"{path} is damaged or no file that torch.save wrote ({reason}).")


def linear_layers(
    path: Path, tensors: Mapping[str, Tensor], prefix: str, layers: Sequence[str] | None
) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, from input to output; see `StateDictExpert`."""
    weights = [name.removesuffix(".weight") for name, tensor in tensors.items() if name.endswith(".weight")]
    in_file = [name.removeprefix(prefix) for name in weights if name.startswith(prefix)]
    names = sorted(in_file, key=_natural) if layers is None else list(layers)
    if not in_file:
        raise InputError(
            f"{path} has no layers '{prefix}NAME.weight'. Set expert.prefix; there are "
            f"{', '.join(sorted(tensors, key=_natural)[:12]) or 'no tensors in it'}."
        )
    if normalisation := _normalisation(tensors, prefix, names):
        raise InputError(
            f"{path} normalises between its layers ('{normalisation}'), which weights alone do not tell enough of. "
            "Such a network needs a class of yours with act(observations, contexts), chosen by ActorExpert."
        )
    pairs = []
    for name in names:
        weight, bias = (tensors.get(f"{prefix}{name}.{part}") for part in ("weight", "bias"))
        if weight is None or bias is None or weight.ndim != 2 or bias.ndim != 1:
            raise InputError(
                f"{path} has no linear layer '{prefix}{name}' (a weight [out, in] and a bias [out]). "
                "Set expert.layers; there are "
                f"{', '.join(sorted(in_file, key=_natural)) or 'no weights under this prefix'}."
            )
        pairs.append((weight.float(), bias.float()))
    return pairs


def _normalisation(tensors: Mapping[str, Tensor], prefix: str, names: Sequence[str]) -> str | None:
    """A tensor of a normalisation that lies beside one of the layers `names`; None if there is none."""
    beside = {f"{prefix}{name}".rpartition(".")[0] for name in names}
    for name, tensor in tensors.items():
        layer, _, part = name.rpartition(".")
        normalises = part == "running_mean" or (part == "weight" and tensor.ndim == 1)
        if normalises and name.startswith(prefix) and layer.rpartition(".")[0] in beside:
            return name
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts `net.2` before `net.10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
