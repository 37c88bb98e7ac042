"""Missions in words as numbers: no two of the grammar's sentences look alike."""

import random

import pytest

from amf_lightning.errors import InputError
from amf_lightning.suites.babyai_missions import ARTICLES, COLOURS, KINDS, MISSION_LENGTH, PLACES, mission_code, roles


def said(mission: str) -> list[str]:
    return [role for role, one in zip(roles(), mission_code(mission), strict=True) if one]


def thing(rng: random.Random) -> str:
    words = [rng.choice(ARTICLES), rng.choice([*COLOURS, ""]), rng.choice(KINDS), rng.choice([*PLACES, ""])]
    return " ".join(filter(None, words))


def instruction(rng: random.Random) -> str:
    verb = rng.choice(["go to", "pick up", "open", "put"])
    return f"put {thing(rng)} next to {thing(rng)}" if verb == "put" else f"{verb} {thing(rng)}"


def sentence(rng: random.Random) -> str:
    parts = [" and ".join(instruction(rng) for _ in range(rng.choice([1, 2]))) for _ in range(2)]
    return rng.choice([parts[0], rng.choice([", then ", " after you "]).join(parts)])


def test_each_word_stands_at_the_place_of_its_role() -> None:
    assert said("go to a object on your left") == ["1 go to", "1 a", "1 object", "1 on your left"]
    assert said("put the red ball next to a box behind you") == [
        *("1 put", "1 the", "1 red", "1 ball"),
        *("1 a (next to)", "1 box (next to)", "1 behind you (next to)"),
    ]
    assert said("pick up a key and open the door after you go to the grey box") == [
        *("1 pick up", "1 a", "1 key", "2 open", "2 the", "2 door"),
        *("3 go to", "3 the", "3 grey", "3 box", "after you"),
    ]


def test_sentences_of_the_same_words_in_another_order_are_told_apart() -> None:
    pairs = [
        ("put the red ball next to the blue box", "put the blue box next to the red ball"),
        ("put the red ball next to the blue box", "put the blue ball next to the red box"),
        ("open the red door, then open the blue door", "open the blue door, then open the red door"),
        ("open the red door, then open the blue door", "open the red door after you open the blue door"),
        ("open the red door and open the blue door", "open the red door, then open the blue door"),
        ("go to a ball", "go to the ball"),
    ]
    assert all((mission_code(one) != mission_code(other)).any() for one, other in pairs)


def test_no_two_sentences_have_the_same_code() -> None:
    rng = random.Random(0)
    sentences = {sentence(rng) for _ in range(2000)}
    codes = {mission_code(each).tobytes() for each in sentences}
    assert len(codes) == len(sentences) > 1500
    assert mission_code(next(iter(sentences))).shape == (MISSION_LENGTH,) == (len(roles()),)


@pytest.mark.parametrize(
    "mission",
    [
        "",
        "dance",
        "go to the pink ball",
        "go to the ball next to the box",
        "put the ball",
        "go to a ball and go to a box and go to a key",
        "go to a ball, then go to a box, then go to a key",
    ],
)
def test_what_is_no_sentence_of_the_grammar_is_refused(mission: str) -> None:
    with pytest.raises(InputError, match=f"the mission '{mission}' is no sentence of the grammar"):
        mission_code(mission)
