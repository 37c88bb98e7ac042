"""Tasks in words: what a policy is told about a task is an embedding of a sentence that says what to do."""

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError
from amf_lightning.user_code import refusal

_WORD = re.compile(r"[^\W_]+")


class TextEncoder(ABC):
    """Turns sentences into contexts. The same sentence has the same one in every process, on every machine."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[Any]:
        """Contexts of N texts, [N, C]; a row depends on its own text alone."""

    def signature(self) -> dict[str, Any]:
        """What must agree for two encoders to say the same of a text: plain types. Policy files keep it.

        By default the name of the class; one with options that matter adds them.
        """
        return {"encoder": type(self).__name__}


class HashedWords(TextEncoder):
    """Words and pairs of neighbouring words, counted in as many bins as the context has entries, at length 1.

    Each word and each pair belongs by its hash (BLAKE2b) to one bin and has a sign, with which it counts there
    (Weinberger et al., ICML 2009), so that inner products are in the mean those of the counts themselves. Sentences
    that share words are alike. Nothing is learned: `shut` is as far from `close` as from `open`.

    Args:
        dimension: C, length of a context. Unrelated sentences have inner products of about ±1/√C.
        pairs: count pairs of neighbouring words, too: they tell the cup on the plate from the plate on the cup.

    Raises:
        InputError: the dimension is not positive.
    """

    def __init__(self, dimension: int = 128, pairs: bool = True) -> None:
        if dimension < 1:
            raise InputError(f"HashedWords: dimension is {dimension}; it must be at least 1.")
        self.dimension, self.pairs = dimension, pairs

    def encode(self, texts: Sequence[str]) -> NDArray[Any]:
        """See the class.

        Raises:
            InputError: a text has no word, or its words cancel out.

        >>> near, same, far = HashedWords().encode(["open the drawer", "Open the drawer!", "wipe a table"])
        >>> bool(np.array_equal(near, same)), bool(near @ same > near @ far)
        (True, True)
        """
        return np.stack([self._encoded(text) for text in texts])

    def signature(self) -> dict[str, Any]:
        return super().signature() | {"dimension": self.dimension, "pairs": self.pairs}

    def _encoded(self, text: str) -> NDArray[Any]:
        words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        counts = np.zeros(self.dimension)
        for feature in [*words, *(map(" ".join, pairwise(words)) if self.pairs else ())]:
            number = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
            counts[number % self.dimension] += 1 if number >> 63 else -1
        if not counts.any():
            why = "its words cancel each other out: raise the dimension" if words else "it has no word"
            raise InputError(f"HashedWords: nothing can be said of the text '{text}'; {why}.")
        normed: NDArray[Any] = counts / np.linalg.norm(counts)
        return normed


def contexts_in_words(
    suite: str, names: Sequence[str], texts: Sequence[str], language: TextEncoder
) -> list[tuple[float, ...]]:
    """Contexts of all tasks, [K] of length C each, all different: what the encoder makes of their texts.

    Args:
        suite: name of the suite's class, for messages.
        names: of the tasks.
        texts: what each of them is, in words.
        language: the encoder.

    Raises:
        InputError: two tasks have the same context.
        UserCodeError: the encoder, one of the user's, gave something else than finite numbers [K, C].
    """
    encoder = type(language).__name__
    encoded = np.asarray(language.encode(list(texts)))
    if encoded.ndim != 2 or len(encoded) != len(texts) or not encoded.size or encoded.dtype.kind not in "fiu":
        gave = f"{encoder}.encode gave {encoded.dtype} of shape {list(encoded.shape)} for {len(texts)} texts"
        raise refusal(language, gave, "Let it give numbers [texts, C].")
    # In the precision in which policies get them.
    contexts = [tuple(row) for row in encoded.astype(np.float32).tolist()]
    for index, (name, own) in enumerate(zip(names, contexts, strict=True)):
        if not all(map(math.isfinite, own)):
            raise refusal(
                language, f"{encoder}.encode gave NaN or infinity for '{texts[index]}'", "Let it give finite numbers."
            )
        if (first := contexts.index(own)) < index:
            raise InputError(
                f"{suite}: tasks '{names[first]}' and '{name}' are the same to {encoder}: no policy could tell them "
                "apart. Word them differently, or give it a larger dimension."
            )
    return contexts
