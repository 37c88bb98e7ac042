"""Tasks in words: what a policy is told is an embedding of the sentence, the same in every process."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import distributions
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from spoken import SENTENCES, SpokenSuite

from amf_lightning.catalogue import classes, resolve
from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.suites.language import HashedWords, TextEncoder, contexts_in_words
from amf_lightning.suites.metaworld_texts import TEXTS
from amf_lightning.suites.static import StaticSuite, StaticTask
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.task import TaskSuite

KITCHEN: dict[str, Any] = {"name": "kitchen", "observation": {"state": Spec((2,))}, "action_dim": 1}
SENTENCE, LIKE, UNLIKE = "pick the puck and place it on the goal", "place the puck on the goal", "open a window slowly"
INSTALLED = {"WordLlama": any(distributions(name="wordllama"))}


def encoder(name: str, **options: Any) -> TextEncoder:
    if not INSTALLED.get(name, True):
        pytest.skip("wordllama is not installed: it is the extra `language`")
    made = resolve("language", name)(**options)
    assert isinstance(made, TextEncoder)
    return made


@pytest.mark.parametrize("name", classes("language"))
def test_sentences_that_mean_alike_have_larger_inner_products(name: str) -> None:
    vectors = encoder(name, dimension=128).encode([SENTENCE, LIKE, UNLIKE])
    assert vectors.shape == (3, 128)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


@pytest.mark.parametrize("name", classes("language"))
def test_a_text_is_encoded_alike_alone_and_among_others(name: str) -> None:
    language = encoder(name)
    assert np.array_equal(language.encode([SENTENCE])[0], language.encode([UNLIKE, SENTENCE])[1])
    assert language.signature() == encoder(name).signature() != encoder(name, dimension=32).signature()


@pytest.mark.parametrize("name", classes("language"))
def test_a_text_without_a_word_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"nothing can be said of the text ''; it has no word"):
        encoder(name).encode([SENTENCE, ""])


@pytest.mark.skipif(not INSTALLED["WordLlama"], reason="wordllama is not installed: it is the extra `language`")
def test_learned_vectors_know_synonyms_and_come_from_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("it asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    import_module(classes("language")["WordLlama"])._shipped.cache_clear()
    close, shut, wipe = encoder("WordLlama").encode(["close the drawer", "shut the drawer", "wipe the drawer"])
    assert close @ shut > close @ wipe + 0.1


@pytest.mark.skipif(
    INSTALLED["WordLlama"], reason="what to install is said where wordllama is missing; here it is there"
)
def test_what_to_install_for_learned_vectors() -> None:
    with pytest.raises(InputError, match=r"pip install 'amf-lightning\[language\]', or choose HashedWords"):
        resolve("language", "WordLlama")()


def test_hashed_words_are_the_same_in_another_process() -> None:
    code = (
        "from amf_lightning.suites.language import HashedWords; "
        f"print(HashedWords(32).encode([{SENTENCE!r}]).tobytes().hex())"
    )
    here = HashedWords(32).encode([SENTENCE]).tobytes().hex()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here


def test_hashed_words_are_these_counts() -> None:
    """By hand, with BLAKE2b called anew: the sum of ±1 in the bins of words and pairs, at length 1."""
    from hashlib import blake2b

    counts = np.zeros(8)
    for feature in ("wipe", "the", "table", "wipe the", "the table"):
        value = int.from_bytes(blake2b(feature.encode(), digest_size=8).digest(), "little")
        counts[value % 8] += 1 if value >= 2**63 else -1
    assert HashedWords(8).encode(["Wipe, the TABLE!"])[0] == pytest.approx(counts / np.sqrt((counts**2).sum()))


def test_inner_products_are_in_the_mean_those_of_the_counts() -> None:
    """Over many pairs of sentences that share three of five words and none of the pairs."""
    rng, products = np.random.default_rng(0), []
    for number in range(300):
        words = [f"{number}x{place}" for place in range(7)]
        first, second = rng.permutation(words[:5]), rng.permutation([*words[:3], *words[5:]])
        a, b = HashedWords(16, pairs=False).encode([" ".join(first), " ".join(second)])
        products.append(a @ b)
    assert np.mean(products) == pytest.approx(3 / 5, abs=4 * np.std(products) / np.sqrt(300) + 0.05)


def test_pairs_tell_word_order() -> None:
    texts = ["put the cup on the plate", "put the plate on the cup"]
    with_pairs, without = HashedWords().encode(texts), HashedWords(pairs=False).encode(texts)
    assert not np.array_equal(*with_pairs) and np.array_equal(*without)


def test_a_static_suite_tells_sentences() -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(TaskSuite, "suite")
    arguments = {
        "name": "kitchen",
        "observation": {"state": {"shape": [2]}},
        "action_dim": 1,
        "tasks": ["open the drawer", {"name": "wipe", "text": "wipe the table"}],
        "language": {"class_path": "HashedWords", "init_args": {"dimension": 16}},
    }
    content = {"suite": {"class_path": "amf_lightning.suites.static.StaticSuite", "init_args": arguments}}
    suite = parser.instantiate(parser.parse_object(content)).suite
    expected = HashedWords(16).encode(["open the drawer", "wipe the table"])
    assert torch.equal(suite.contexts, torch.from_numpy(expected).to(torch.float32))
    assert suite.signature() == {
        **{"name": "kitchen", "observation_dim": 2, "action_dim": 1, "context_dim": 16},
        "language": {"encoder": "HashedWords", "dimension": 16, "pairs": True},
    }


def test_without_a_language_nothing_changes() -> None:
    suite = StaticSuite(**KITCHEN, tasks=["open the drawer", StaticTask("wipe", text="wipe the table")])
    assert suite.contexts.tolist() == [[1, 0], [0, 1]] and "language" not in suite.signature()
    assert suite.signature()["tasks"] == ["open the drawer", "wipe"]


def test_a_gymnasium_suite_tells_the_policy_words_and_the_expert_its_context() -> None:
    tasks = [GymnasiumTask("east", [1.0, 0.0], text="go east"), GymnasiumTask("west", [-1.0, 0.0])]
    suite = GymnasiumSuite("Pendulum-v1", tasks, language=HashedWords(16))
    assert suite.goals.tolist() == [[1.0, 0.0], [-1.0, 0.0]]
    assert torch.equal(suite.contexts, torch.from_numpy(HashedWords(16).encode(["go east", "west"])).float())
    plain = GymnasiumSuite("Pendulum-v1", tasks)
    assert torch.equal(plain.goals, plain.contexts) and "language" not in plain.signature()
    numbered = GymnasiumSuite("Pendulum-v1", [GymnasiumTask("east"), GymnasiumTask("west")], language=HashedWords(16))
    assert numbered.goals.tolist() == [[1.0, 0.0], [0.0, 1.0]] and "tasks" not in numbered.signature()


def test_all_of_metaworld_can_be_told_apart_by_hashed_words() -> None:
    assert len(TEXTS) == len(set(TEXTS.values())) == 50
    contexts_in_words("Metaworld", list(TEXTS), list(TEXTS.values()), HashedWords(32))


class Shaped(TextEncoder):
    """Gives what it is told to give."""

    def __init__(self, given: Any) -> None:
        self.given = given

    def encode(self, texts: Sequence[str]) -> NDArray[Any]:
        return np.asarray(self.given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.zeros(3), r"Shaped.encode gave float64 of shape \[3\] for 2 texts"),
        (np.zeros((3, 4)), r"of shape \[3, 4\] for 2 texts"),
        ([["a"], ["b"]], "gave <U1 of shape"),
        ([[1.0], [np.nan]], "gave NaN or infinity for 'wipe the table'"),
    ],
)
def test_an_encoder_of_the_user_is_held_to_its_word(given: Any, reason: str) -> None:
    with pytest.raises(UserCodeError, match=reason):
        StaticSuite(**KITCHEN, tasks=["open the drawer", "wipe the table"], language=Shaped(given))
    assert Shaped(given).signature() == {"encoder": "Shaped"}


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        (["Wipe the table", "wipe the table!"], "tasks 'Wipe the table' and 'wipe the table!' are the same to Hashed"),
        ([StaticTask("near", [0.5]), StaticTask("far", [1.0])], "contexts, or a language that makes them of words"),
        ([StaticTask("near", text=" ?"), "far"], r"nothing can be said of the text ' \?'; it has no word"),
        (["far", "far"], "have different names"),
    ],
)
def test_tasks_that_no_language_can_tell_apart_are_refused(tasks: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        StaticSuite(**KITCHEN, tasks=tasks, language=HashedWords())
    with pytest.raises(InputError, match="dimension is 0"):
        HashedWords(0)


def test_words_that_cancel_out_are_refused() -> None:
    features = {word: HashedWords(1).encode([word])[0, 0] for word in map(str, range(20))}
    plus = next(word for word, sign in features.items() if sign > 0)
    minus = next(word for word, sign in features.items() if sign < 0)
    with pytest.raises(InputError, match="cancel each other out: raise the dimension"):
        HashedWords(1, pairs=False).encode([f"{plus} {minus}"])


def test_the_tests_own_world_speaks() -> None:
    suite = SpokenSuite(HashedWords(16), goals=(3, 0))
    assert [task.name for task in suite.tasks] == [SENTENCES[3], SENTENCES[0]]
    assert suite.goals.tolist() == [[1.0], [-1.0]] and suite.context_dim == 16
