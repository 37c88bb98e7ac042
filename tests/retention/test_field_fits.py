"""Small fits of every policy of the field: what is forgotten without a retention, and what each kind of one keeps."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from selection_world import demonstrate
from torch import Tensor

from amf_lightning.catalogue import resolve
from amf_lightning.demonstrations.batches import Rows, demonstration_rows
from amf_lightning.demonstrations.store import DemonstrationStore
from amf_lightning.errors import InputError
from amf_lightning.fine_tuning.round import losses_of, round_rows, weighted_sum
from amf_lightning.policies.capabilities import Density
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.policies.weights import build_policy
from amf_lightning.retention.adaptive import AdaptivePrior
from amf_lightning.retention.distillation import SelfDistillation
from amf_lightning.retention.frozen import FreezeByImportance, FreezeModules, mask_gradients
from amf_lightning.retention.importance import FisherImportance, MagnitudeImportance
from amf_lightning.retention.penalties import ElasticWeights
from amf_lightning.retention.replay import ExperienceReplay
from amf_lightning.retention.retention import CombinedRetention, NoRetention, Retention, RetentionContext
from amf_lightning.tasks.trajectory import Trajectory
from tiny import Steer, TinySuite


class Choosing(TinySuite):
    """The same goals where an action is a choice of left or right."""

    discrete = True
    action_dim = 2

    def make(self, task: Any, render_mode: str | None = None) -> Any:
        env = super().make(task, render_mode)
        step = env.step
        env.step = lambda action: step(action[1:] - action[:1])  # type: ignore[method-assign]
        return env


class Chooser:
    def act(self, observations: Tensor, contexts: Tensor) -> Tensor:
        return F.one_hot((contexts[:, 0] > observations[:, 0]).long(), 2).float()


FIELD = {"width": 32, "layers": 1, "steps": 3, "draws": 2, "horizon": 3}
OPTIONS: dict[str, dict[str, Any]] = {
    "ChunkedMLP": {"hidden": [32], "horizon": 3},
    "modes": {"hidden": [32], "horizon": 3, "modes": 2},
    "ActionChunkingTransformer": {"width": 16, "heads": 2, "encoder_layers": 1, "horizon": 3, "latent": 2},
    "FlowPolicy": FIELD,
    "DiffusionPolicy": FIELD,
    "CategoricalTransformer": {"width": 16, "heads": 2, "layers": 1, "history": 2},
}
FILM = {"class_path": "amf_lightning.policies.conv_encoder.ConvEncoder", "init_args": {"fusion": "film"}}


class World:
    """A policy that knows the two goals at the left, and what happens to it when only one at the right is shown."""

    def __init__(self, name: str, folder: Path) -> None:
        choosing = name == "CategoricalTransformer"
        self.suite: TinySuite = Choosing() if choosing else TinySuite()
        expert = Chooser() if choosing else Steer()
        kind = resolve("policy", "ChunkedMLP" if name == "modes" else name)
        self.before = demonstrate(self.suite, (0, 0, 1, 1), expert=expert)
        self.new = demonstrate(self.suite, (3, 3), seed=7, expert=expert)
        for number, trajectory in enumerate(self.before):
            DemonstrationStore(folder).write(number, trajectory)
        self.start = build_policy(
            lambda *sizes: kind(*sizes, **OPTIONS[name], encoder=FILM),
            self.suite.dimensions,
            torch.Generator().manual_seed(0),
        )
        self.old = self.rows(self.before).everything()
        self.start.fit_normaliser(self.old)
        self.step(self.start, {"demonstrations": self.rows(self.before)}, NoRetention(), 150)
        self.start.eval()

    def rows(self, demonstrations: list[Trajectory]) -> Rows:
        return demonstration_rows(demonstrations, self.suite, window=self.start.window)

    def step(self, policy: Policy, rows: dict[str, Rows], retention: Retention, steps: int) -> None:
        torch.manual_seed(0)
        optimizer, generator = torch.optim.Adam(policy.parameters(), 3e-3), torch.Generator().manual_seed(0)
        factors = {name: each.loss_weight for name, each in rows.items()}
        policy.train()
        for _ in range(steps):
            batch = {name: each.take(each.draw((1, 32), generator)[0]) for name, each in rows.items()}
            optimizer.zero_grad()
            weighted_sum(losses_of(policy, retention, batch), factors).backward()  # type: ignore[no-untyped-call]
            mask_gradients(policy, retention.masks())
            optimizer.step()
        policy.eval()

    def tuned(self, retention: Retention) -> Policy:
        """π0 after 60 steps on the new task."""
        policy = deepcopy(self.start)
        retention.prepare(RetentionContext(self.suite, frozen_copy(self.start), 0), policy)
        self.step(policy, round_rows(self.new, self.suite, retention, False, policy.window), retention, 60)
        return policy

    @torch.no_grad()
    def forgotten(self, policy: Policy) -> float:
        """By how much the loss on the demonstrations of π0 is above that of π0."""
        return float((policy.loss(self.old) - self.start.loss(self.old)).mean())


@pytest.mark.parametrize("name", OPTIONS)
def test_each_kind_of_retention_keeps_what_plain_fine_tuning_forgets(name: str, tmp_path: Path) -> None:
    world = World(name, tmp_path)
    importance = FisherImportance(episodes=1) if world.start.can(Density) else MagnitudeImportance()
    plain = world.forgotten(world.tuned(NoRetention()))
    assert plain > 0.01
    replayed = world.forgotten(world.tuned(ExperienceReplay(str(tmp_path), share=0.3)))
    distilled = world.forgotten(world.tuned(SelfDistillation(tasks=["goal=-1", "goal=-0.5"])))
    held = world.forgotten(world.tuned(ElasticWeights(1e4, importance)))
    assert max(replayed, distilled, held) < 0.7 * plain, (plain, replayed, distilled, held)


@pytest.mark.parametrize("name", ["FlowPolicy", "CategoricalTransformer"])
def test_frozen_modules_and_entries_stay_to_the_bit(name: str, tmp_path: Path) -> None:
    world = World(name, tmp_path)
    retention = CombinedRetention([FreezeModules(["encoder.*"]), FreezeByImportance(0.4, MagnitudeImportance())])
    tuned, start = world.tuned(retention), dict(world.start.named_parameters())
    for parameter, mask in retention.masks().items():
        same = tuned.get_parameter(parameter) == start[parameter]
        assert bool(same[~mask].all())
    assert not torch.equal(tuned.get_parameter("head.weight"), start["head.weight"])
    with pytest.raises(InputError, match="AdaptivePrior mixes"):
        AdaptivePrior().wrap(world.start, world.suite)
