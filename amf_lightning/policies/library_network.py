"""One picture through a network of somebody else: prepared, run up to a module of it, its output as cells."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amf_lightning.errors import InputError
from amf_lightning.import_path import told
from amf_lightning.policies.feature_cache import FeatureCache
from amf_lightning.policies.library_function import load_weights, network_of
from amf_lightning.policies.picture_encoder import Film, PictureNetwork, channels_last, picture_shape, shifted
from amf_lightning.tasks.spec import Spec


@dataclass(frozen=True)
class Preparation:
    """What happens to a picture before the network sees it."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None
    shift: int

    def __call__(self, pictures: Tensor, kind: torch.dtype) -> Tensor:
        """Of pictures [M, H, W, D] uint8: [M, channels, side, side], a single channel repeated."""
        seen = pictures.movedim(-1, 1).to(kind) / 255
        if self.resize is not None and seen.shape[2:] != (self.resize, self.resize):
            seen = F.interpolate(seen, (self.resize, self.resize), mode="bilinear", antialias=True)
        mean, std = (seen.new_tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (seen - mean) / std


class LibraryNetwork(PictureNetwork):
    """See `LibraryEncoder`, of whose options these are.

    Args:
        function: import path of what makes the network.
        arguments: of the call.
        output: module whose output is taken; None: the network's.
        weights: file to begin with.
        frozen: whether it stays as it is.
        cache: where features of frames are kept; None: nowhere.
        preparation: of pictures.
        name: of the entry, for messages.
        spec: of the entry.
        film: C; 0: the context does not enter.
    """

    def __init__(
        self,
        function: str,
        arguments: dict[str, Any],
        output: str | None,
        weights: Path | None,
        frozen: bool,
        cache: FeatureCache | None,
        preparation: Preparation,
        name: str,
        spec: Spec,
        film: int,
    ) -> None:
        super().__init__()
        self.shape, self.first = picture_shape(name, spec, "LibraryEncoder")
        if self.shape[2] not in (1, len(preparation.mean)):
            raise InputError(
                f"LibraryEncoder: '{name}' has {self.shape[2]} channels, but mean and std are of "
                f"{len(preparation.mean)}. Give a mean and a std of each channel."
            )
        self.prepared, self.output, self.frozen, self.cache = preparation, output, frozen, cache
        self.made_by = json.dumps([function, arguments, output, asdict(preparation), [*self.shape]], sort_keys=True)
        self.network = network_of(function, arguments)
        if output is not None and output not in (modules := dict(self.network.named_modules())):
            near = ", ".join([each for each in modules if each and "." not in each][:20])
            raise InputError(f"LibraryEncoder: {function} has no module '{output}'. There are {near}, and those below.")
        names = frozenset(self.network.state_dict())
        raw = self._tried(function)
        self._take_off_what_is_unused(raw, function)
        self.sides = (raw.shape[2], raw.shape[3]) if raw.ndim == 4 and raw.shape[2:] != (1, 1) else None
        cells = as_cells(raw)
        self.cells, self.depth = cells.shape[1], cells.shape[2]
        if weights is not None:
            load_weights(self.network, weights, names, function)
        if frozen:
            self.network.requires_grad_(False).eval()
        self.film = Film(film, self.depth) if film else None
        self._key: tuple[object, str] | None = None

    def train(self, mode: bool = True) -> Self:
        """Also of the frozen: its network stays in evaluation mode, and what is new in its cache goes to the disk."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
            if self.cache is not None and not mode:
                self.cache.flush()
        return self

    def forward(self, pictures: Tensor, contexts: Tensor) -> Tensor:
        rows, history = pictures.shape[:2]
        pictures = channels_last(pictures, self.shape, self.first)
        if self.training and self.prepared.shift:
            pictures = shifted(pictures, self.prepared.shift)
        frames = pictures.flatten(0, 1)
        if not rows:
            cells = contexts.new_zeros(0, self.cells, self.depth)
        else:
            cells = self._of_frozen(frames) if self.frozen else self._cells(frames, contexts.dtype)
        cells = cells.to(contexts.dtype)
        if self.film is not None:
            cells = self.film(cells, contexts.repeat_interleave(history, dim=0) if history > 1 else contexts)
        return cells.reshape(rows, history * self.cells, self.depth)

    def _cells(self, frames: Tensor, kind: torch.dtype) -> Tensor:
        """Output for frames [M, H, W, D], [M, cells, depth]."""
        seen = self.prepared(frames, kind)
        return as_cells(self._run(seen))

    def _run(self, seen: Tensor) -> Tensor:
        if self.output is None:
            output: Any = self.network(seen)
        else:
            with _stopped_after(self.network.get_submodule(self.output)) as taken:
                self.network(seen)
            output = taken[0]
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            what = list(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise InputError(
                f"LibraryEncoder: the output is {what}; it must be a map [N, D, H, W], tokens [N, L, D] or a vector "
                "[N, D]. Take that of another module (output)."
            )
        return output

    # -- frozen ---------------------------------------------------------------------------------------------------

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _of_frozen(self, frames: Tensor) -> Tensor:
        """Output for frames [M, H, W, D], one at a time, from the cache where it is there; [M, cells, depth]."""
        kind = next((each.dtype for each in self.network.parameters()), torch.float32)
        with torch.autocast(frames.device.type, enabled=False):
            wrapped = map(torch._C._functorch.is_functorch_wrapped_tensor, (frames, *self.network.parameters()))
            if any(wrapped):  # torch.func: gradients of each row, which is mapped over already
                return self._cells(frames, kind)
            if self.cache is None or kind == torch.float64:  # single precision is kept
                return torch.cat([self._cells(frame[None], kind) for frame in frames])
            key, cells, known = self._weights_key(frames.device), [], dict[bytes, Tensor]()
            for frame, content in zip(frames, frames.cpu().numpy(), strict=True):
                digest = hashlib.sha256(np.ascontiguousarray(content).data).digest()
                if digest not in known:
                    kept = self.cache.read(key, digest, (self.cells, self.depth))
                    if kept is None:
                        known[digest] = self._cells(frame[None], kind).float()
                        if self.training:  # frames that are trained on come again; those of rollouts do not
                            self.cache.keep(key, digest, known[digest][0].cpu().numpy())
                    else:
                        known[digest] = torch.from_numpy(kept)[None].to(frames.device)
                cells.append(known[digest])
            return torch.cat(cells)

    def _weights_key(self, device: torch.device) -> str:
        """SHA-256 of all that the features of a frame follow from: weights, options, library and machine."""
        tensors = self.network.state_dict(keep_vars=True)
        now = device, *((tensor.data_ptr(), tensor._version) for tensor in tensors.values())
        if self._key is None or self._key[0] != now:
            digest = hashlib.sha256(f"{self.made_by} {torch.__version__} {_machine(device)}".encode())
            for name, tensor in tensors.items():
                plain = tensor.detach().cpu().contiguous()
                digest.update(f"{name} {plain.dtype} {list(plain.shape)}".encode())
                digest.update(plain.reshape(-1).view(torch.uint8).numpy())
            self._key = now, digest.hexdigest()
        return self._key[1]

    # -- when it is made --------------------------------------------------------------------------------------------

    def _tried(self, function: str) -> Tensor:
        """Output for a black picture, with a graph, in evaluation mode; leaves the network as it was."""
        training = self.network.training
        self.network.eval()
        try:
            with torch.enable_grad():
                height, width, depth = self.shape
                black = torch.zeros(1, height, width, depth, dtype=torch.uint8)
                return self._run(self.prepared(black, torch.get_default_dtype()))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"LibraryEncoder: {function} cannot see pictures [{self.shape[0]}, {self.shape[1]}]: {told(error)}. "
                "Give the size that it was made for as resize, or other arguments."
            ) from error
        finally:
            self.network.train(training)

    def _take_off_what_is_unused(self, output: Tensor, function: str) -> None:
        """Replaces modules that the output does not depend on, as the head, so that they are neither held nor saved."""
        named = dict(self.network.named_parameters())
        learning = {name: weight for name, weight in named.items() if weight.requires_grad}
        if not output.requires_grad or not learning:
            return
        with torch.enable_grad():
            weights = list(learning.values())
            gradients: Sequence[Tensor | None] = torch.autograd.grad(output.sum(), weights, allow_unused=True)
        used = {name for name, gradient in zip(learning, gradients, strict=True) if gradient is not None}
        used |= named.keys() - learning.keys()
        off: list[tuple[nn.Module, str, nn.Module]] = []
        for name, module in list(self.network.named_modules()):
            under = {each for each in named if each.startswith(f"{name}.")}
            if name and name != self.output and under and not under & used:
                parent, _, last = name.rpartition(".")
                off.append((self.network.get_submodule(parent), last, module))
                setattr(*off[-1][:2], nn.Identity())
                used |= under  # those below went with it
        with suppress(InputError):
            if torch.equal(self._tried(function), output):
                return
        for parent_module, last, module in off:  # used without a gradient
            setattr(parent_module, last, module)


class _Reached(Exception):  # noqa: N818 - no error: what comes after is not needed
    pass


@contextmanager
def _stopped_after(module: nn.Module) -> Iterator[list[Any]]:
    """Within it a forward pass ends when `module` has given its output, which is put into the list."""
    taken: list[Any] = []

    def take(*args: Any) -> None:
        taken.append(args[2])
        raise _Reached

    handle = module.register_forward_hook(take)
    try:
        yield taken
    except _Reached:
        pass
    finally:
        handle.remove()
    if not taken:
        raise InputError("LibraryEncoder: the module that `output` names is not used in the network's forward pass.")


def as_cells(output: Tensor) -> Tensor:
    """A map [N, D, H, W], tokens [N, L, D] or a vector [N, D] as cells [N, cells, D]."""
    if output.ndim == 4:
        return output.flatten(2).mT
    return output if output.ndim == 3 else output[:, None]


def _machine(device: torch.device) -> str:
    """What decides the last bits of a convolution beside the version of torch."""
    return torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else torch.cuda.get_device_name(device)
