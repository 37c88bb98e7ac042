"""Sentences by learned vectors of their words: the extra `language`, which ships its weights and downloads nothing."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.suites.language import TextEncoder

LARGEST = 256
"""Entries of a vector in the weights that the package ships; the first of them are vectors, too."""


class WordLlama(TextEncoder):
    """The mean of learned vectors of the words (WordLlama, github.com/dleemiller/WordLlama), at length 1.

    It knows which words mean nearly the same, where `HashedWords` knows only which are the same, and nothing of their
    order: the cup on the plate is the plate on the cup.

    Args:
        dimension: C, length of a context, at most 256: the first entries of each vector.

    Raises:
        InputError: there are no vectors of that length, or the package is missing.
    """

    def __init__(self, dimension: int = 128) -> None:
        if not 1 <= dimension <= LARGEST:
            raise InputError(f"WordLlama: dimension is {dimension}; it must be between 1 and {LARGEST}.")
        self.dimension = dimension
        self._vectors, self._weights = _shipped()

    def encode(self, texts: Sequence[str]) -> NDArray[Any]:
        """See the class.

        Raises:
            InputError: a text has no word.
        """
        rows = np.asarray(self._vectors.embed(list(texts)), dtype=np.float64)[:, : self.dimension]
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        if wrong := [text for text, norm in zip(texts, norms, strict=True) if not norm > 0]:
            raise InputError(f"WordLlama: nothing can be said of the text '{wrong[0]}'; it has no word.")
        normed: NDArray[Any] = rows / norms
        return normed

    def signature(self) -> dict[str, Any]:
        return super().signature() | {"dimension": self.dimension, "weights": self._weights}


@cache
def _shipped() -> tuple[Any, str]:
    """The model in the package, and the beginning of the SHA-256 of its weights."""
    try:
        package = import_module("wordllama")
    except ImportError as error:
        raise InputError(
            f"WordLlama needs the package wordllama ({error}). Install it with: pip install 'amf-lightning[language]', "
            "or choose HashedWords, which needs nothing."
        ) from error
    folder = Path(str(package.__file__)).parent
    try:
        # As a cache, since the package looks for its tokenizer in a folder that has another name than it has.
        model = package.WordLlama.load(cache_dir=folder, dim=LARGEST, disable_download=True)
        weights = (folder / "weights" / f"l2_supercat_{LARGEST}.safetensors").read_bytes()
    except OSError as error:
        raise InputError(
            f"WordLlama: {folder} does not hold the weights that its wheel ships ({error}). Install wordllama anew."
        ) from error
    return model, sha256(weights).hexdigest()[:12]
