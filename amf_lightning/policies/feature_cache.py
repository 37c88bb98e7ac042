"""Features of frames, kept on the disk by what they follow from, for all runs and processes that share the folder.

A folder `<SHA-256 of network and options>/` holds segments, `<SHA-256 of the content>.safetensors`, each with the
features of some frames, the SHA-256 of these frames and a check of each row. Segments are written whole or not at all
and never changed, so that any number of processes may add to a folder, and be killed, at any time. What two of them
compute at once is there twice, the same. Any file and any folder may be removed while nobody uses it: it is computed
again.
"""

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from amf_lightning.demonstrations.mapped_tensors import map_tensors
from amf_lightning.durable import remove_leftovers, write_durably
from amf_lightning.errors import InputError
from amf_lightning.writable import check_folder

Array = NDArray[Any]
_WAITING = 2**25
"""Bytes of new features that are held in memory at most."""
_FRAMES, _FEATURES, _CHECKS = "frames", "features", "checks"


class FeatureCache:
    """Maps from (network, frame), given by their SHA-256, to features; copies of it are the same cache.

    Args:
        folder: of the cache; made at the first write.
        most: bytes of the folder from which on nothing is added.

    Raises:
        InputError: no file can be made there.
    """

    def __init__(self, folder: Path, most: int) -> None:
        try:
            check_folder(folder)
        except OSError as error:
            raise InputError(f"No features can be kept in {folder} ({error}). Give another folder as cache.") from error
        self.folder, self.most = folder, most
        self._kept: dict[str, dict[bytes, tuple[Array, Array, int]]] = {}
        self._new: dict[str, dict[bytes, Array]] = {}
        self._waiting = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "FeatureCache":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureCache, (self.folder, self.most)

    def read(self, network: str, frame: bytes, shape: tuple[int, ...]) -> Array | None:
        """Features of a frame, float32 of that shape; None where there are none, or they were damaged."""
        if (new := self._new.get(network, {}).get(frame)) is not None:
            return new
        if (place := self._of(network).get(frame)) is None:
            return None
        features, checks, row = place
        # A copy: what is mapped from a file must not be written to.
        found = np.array(features[row])
        if found.shape != shape or found.dtype != np.float32 or zlib.crc32(found.data) != int(checks[row]):
            return None
        return found

    def keep(self, network: str, frame: bytes, features: Array) -> None:
        """Adds the features of a frame, float32; they reach the disk with the next `flush`, or when many wait."""
        self._new.setdefault(network, {})[frame] = features
        self._waiting += features.nbytes
        if self._waiting >= _WAITING:
            self.flush()

    def flush(self) -> None:
        """Writes what is new; forgets it where the folder is full."""
        waiting, self._new, self._waiting = self._new, {}, 0
        for network, features in waiting.items():
            if not features or _size(self.folder) >= self.most:
                continue
            rows = [np.ascontiguousarray(row) for row in features.values()]
            content = save(
                {
                    _FRAMES: np.frombuffer(b"".join(features), np.uint8).reshape(len(rows), -1),
                    _FEATURES: np.stack(rows),
                    _CHECKS: np.array([zlib.crc32(row.data) for row in rows], np.uint32),
                }
            )
            path = self.folder / network / f"{hashlib.sha256(content).hexdigest()}.safetensors"
            write_durably(path, content)
            self._open(path, self._of(network))

    def _of(self, network: str) -> dict[bytes, tuple[Array, Array, int]]:
        """Where the features of each frame lie that other processes have left."""
        if network not in self._kept:
            folder = self.folder / network
            remove_leftovers(folder)
            self._kept[network] = {}
            for path in sorted(folder.glob("*.safetensors")):
                self._open(path, self._kept[network])
        return self._kept[network]

    def _open(self, path: Path, into: dict[bytes, tuple[Array, Array, int]]) -> None:
        try:
            with path.open("rb") as file:
                tensors, _ = map_tensors(path, file)
            frames, features, checks = (tensors[name] for name in (_FRAMES, _FEATURES, _CHECKS))
        except (OSError, ValueError, KeyError):
            return  # damaged, or removed by somebody: computed again
        if frames.ndim == 2 and len(frames) == len(features) == len(checks):
            into |= {bytes(frame): (features, checks, row) for row, frame in enumerate(frames)}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.safetensors"))
