"""The bot of BabyAI behind the protocol of experts."""

import pytest
import torch
from babyai_marks import BABYAI

from amf_lightning.errors import InputError
from amf_lightning.experts.babyai import BabyAIExpert
from amf_lightning.suites.babyai import BabyAI
from amf_lightning.suites.integrator import Integrator
from amf_lightning.tasks.controller import Controller
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode

pytestmark = BABYAI


def test_it_solves_every_level_of_the_default_at_once() -> None:
    suite = BabyAI(reference=None)
    episodes = [Episode(task, seed) for task in suite.tasks for seed in (0, 1, 2)]
    demonstrations = BabyAIExpert().demonstrate(suite, episodes)
    assert [(shown.task, shown.seed) for shown in demonstrations] == [(e.task.name, e.seed) for e in episodes]
    assert all(shown.success for shown in demonstrations)
    assert all((shown.actions.sum(axis=1) == 1).all() for shown in demonstrations)
    again = BabyAIExpert().demonstrate(suite, episodes[::-1])[::-1]
    assert all(a.actions.tobytes() == b.actions.tobytes() for a, b in zip(demonstrations, again, strict=True))


def test_what_the_bot_cannot_do_is_tried_again_and_then_said() -> None:
    """In OpenDoorsOrderN2Debug a wrong door ends the episode, and the bot opens one now and then."""
    suite = BabyAI(["OpenDoorsOrderN2Debug", "KeyInBox"], horizon=64, reference=None)
    episodes = [Episode(suite.tasks[0], seed) for seed in range(1000, 1008)]
    once = BabyAIExpert(successes_only=False).demonstrate(suite, episodes)
    failed = [shown.seed for shown in once if not shown.success]
    assert 0 < len(failed) < len(episodes)
    again = BabyAIExpert(max_attempts=50).demonstrate(suite, episodes)
    assert all(shown.success for shown in again)
    assert [e.seed for e, shown in zip(episodes, again, strict=True) if shown.seed != e.seed] == failed
    with pytest.raises(InputError, match=r"did not succeed at task 'KeyInBox' of suite 'BabyAI' in 2 attempts"):
        BabyAIExpert(max_attempts=2).demonstrate(suite, [Episode(suite.tasks[1], 0)])


def test_it_is_no_answer_to_what_happened_in_another_episode() -> None:
    suite = BabyAI(["GoToObj"], reference=None)
    bots = BabyAIExpert().actor(suite)
    assert isinstance(bots, Controller)
    bots.begin([Episode(suite.tasks[0], 1)], 1)
    observation, _ = suite.make(suite.tasks[0]).reset(seed=2)
    steps = Steps(
        {name: torch.from_numpy(entry)[None] for name, entry in observation.items()},
        torch.zeros(1, dtype=torch.int64),
        suite.contexts,
    )
    with pytest.raises(
        InputError, match=r"Task 'GoToObj', seed 1: BabyAI's bot acts in whole episodes of its own only"
    ):
        bots.act(steps)


def test_another_suite_and_noise_are_refused() -> None:
    with pytest.raises(InputError, match="knows the suite BabyAI, not 'Integrator'"):
        BabyAIExpert().actor(Integrator())
    suite = BabyAI(["GoToObj"], reference=None)
    with pytest.raises(InputError, match=r"expert\.noise is 0\.1, but the actions of suite 'BabyAI' are discrete"):
        BabyAIExpert(noise=0.1).demonstrate(suite, [Episode(suite.tasks[0], 0)])
