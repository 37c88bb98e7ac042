"""Missions of BabyAI as numbers: its grammar is small and known, so every sentence has a code of its own.

    mission     = part [(", then" | "after you") part]
    part        = instruction ["and" instruction]
    instruction = ("go to" | "pick up" | "open") thing | "put" thing "next to" thing
    thing       = ("a" | "the") [colour] kind ["in front of you" | "behind you" | "on your left" | "on your right"]

(Chevalier-Boisvert et al., ICLR 2019, arXiv 1810.08272; `minigrid.envs.babyai.core.verifier` writes the sentences.)
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from amf_lightning.errors import InputError

ARTICLES = ("a", "the")
COLOURS = ("blue", "green", "grey", "purple", "red", "yellow")
KINDS = ("ball", "box", "door", "key", "object")
PLACES = ("in front of you", "behind you", "on your left", "on your right")
VERBS = ("go to", "pick up", "open", "put")
ORDERS = (", then", "after you")

_CHOICES = ARTICLES + COLOURS + KINDS + PLACES
_THING = rf"({'|'.join(ARTICLES)})(?: ({'|'.join(COLOURS)}))? ({'|'.join(KINDS)})(?: ({'|'.join(PLACES)}))?"
_INSTRUCTION = re.compile(rf"({'|'.join(VERBS[:3])}) {_THING}|({VERBS[3]}) {_THING} next to {_THING}")
_LENGTH = len(VERBS) + 2 * len(_CHOICES)
MISSION_LENGTH = 4 * _LENGTH + len(ORDERS)
"""Numbers of a code: two parts of two instructions each, of a verb and two things, and what joins the parts."""


def mission_code(mission: str) -> NDArray[np.float32]:
    """Zeros and ones, [MISSION_LENGTH]: each word at the place of its role. Different missions have different codes.

    Raises:
        InputError: it is no sentence of BabyAI's grammar.

    >>> code = mission_code("pick up the red ball")
    >>> [said for said, one in zip(roles(), code) if one]
    ['1 pick up', '1 the', '1 red', '1 ball']
    """
    parts = re.split(r"(, then| after you) ", mission)
    if len(parts) not in (1, 3):
        raise _unknown(mission)
    code = np.zeros(MISSION_LENGTH, dtype=np.float32)
    for number, part in enumerate(parts[::2]):
        instructions = part.split(" and ")
        if len(instructions) > 2:
            raise _unknown(mission)
        for place, instruction in enumerate(instructions):
            start = (2 * number + place) * _LENGTH
            for index in _words(instruction, mission):
                code[start + index] = 1
    if len(parts) == 3:
        code[4 * _LENGTH + ORDERS.index(parts[1].strip())] = 1
    return code


def roles() -> list[str]:
    """What each number of a code stands for: number of the instruction, and word; a second thing's are marked."""
    first = [*VERBS, *_CHOICES, *(f"{word} (next to)" for word in _CHOICES)]
    return [f"{number} {word}" for number in range(1, 5) for word in first] + list(ORDERS)


def _words(instruction: str, mission: str) -> Iterator[int]:
    """Places of the words of an instruction within its part of the code."""
    match = _INSTRUCTION.fullmatch(instruction)
    if match is None:
        raise _unknown(mission)
    verb, *thing = match.groups()[:5]
    put, *two = match.groups()[5:]
    yield VERBS.index(verb or put)
    for number, word in enumerate(two if put else thing):
        if word is not None:
            second = number // 4  # a thing is four groups
            yield len(VERBS) + second * len(_CHOICES) + _CHOICES.index(word)


def _unknown(mission: str) -> InputError:
    return InputError(
        f"BabyAI: the mission '{mission}' is no sentence of the grammar in amf_lightning/suites/babyai_missions.py. "
        "Leave its level out, or install the minigrid that constraints.txt names."
    )
