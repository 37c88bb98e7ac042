"""Random actions where states are met again, and where they are not."""

import hashlib

import numpy as np
import torch

from amf_lightning.experts.uniform import UniformActor
from amf_lightning.simulation.rollout import rollout
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite, GymnasiumTask
from amf_lightning.tasks.task import Episode


def test_a_world_that_always_starts_alike_is_walked_at_random() -> None:
    tasks = [GymnasiumTask("lake", [1.0])]
    suite = GymnasiumSuite("FrozenLake-v1", tasks, 20, {"is_slippery": False}, return_threshold=1.0)
    walks = rollout(UniformActor(4), suite, [Episode(suite.tasks[0], seed) for seed in range(100)])
    assert len({walk.state.tobytes() for walk in walks}) > 20
    first = [int(walk.actions[0].argmax()) for walk in walks]
    assert set(first) == {0, 1, 2, 3} and max(map(first.count, first)) < 45


def test_a_state_that_is_new_is_answered_by_its_bits_alone() -> None:
    states = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    keys = [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big") for row in states.numpy()]
    wanted = np.array([np.random.default_rng(key).uniform(-1, 1, 2) for key in keys], dtype=np.float32)
    actor = UniformActor(2)
    assert actor.act(states, torch.zeros(5, 1)).numpy().tobytes() == wanted.tobytes()
    assert actor.act(states, torch.ones(5, 1)).numpy().tobytes() == wanted.tobytes(), "another task"
    assert not np.isin(actor.act(states, torch.zeros(5, 1)).numpy(), wanted).any()


def test_every_entry_of_an_observation_counts_and_a_lone_vector_as_without_a_name() -> None:
    states, contexts = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 1)
    dark, bright = (torch.full((2, 4, 4), shade, dtype=torch.uint8) for shade in (0, 255))
    alone = UniformActor(2).act(states, contexts)
    assert torch.equal(UniformActor(2).act({"state": states}, contexts), alone)
    seen = [UniformActor(2).act({"state": states, "image": picture}, contexts) for picture in (dark, bright, dark)]
    assert torch.equal(seen[0], seen[2]) and (seen[0] != seen[1]).all()
