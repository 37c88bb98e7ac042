"""Which start state to demonstrate: the rollout of which least is known, if it stands out; and nothing else changes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from selection_world import context_of, demonstrate, mlp, statistics_of
from torch import Tensor

from amf_lightning.policies.mlp import MLPPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.policies.statistics import FeatureStatistics
from amf_lightning.selection import starts
from amf_lightning.selection.context import SelectionContext, Selector
from amf_lightning.selection.ensemble import EnsembleDisagreement
from amf_lightning.selection.evidence import PrequentialError
from amf_lightning.selection.gap_reduction import GapReduction
from amf_lightning.selection.informed import InformationGain
from amf_lightning.selection.occupancies import Demonstrated, Expected, ImportanceWeighted, PolicyRollout, StateBlocks
from amf_lightning.selection.save import SAVE
from amf_lightning.selection.starts import RolledOut, standing_out
from amf_lightning.simulation.rollout import rollout
from amf_lightning.tasks.controller import Acting
from amf_lightning.tasks.spec import Spec
from amf_lightning.tasks.start_state import StartState
from amf_lightning.tasks.steps import Steps
from amf_lightning.tasks.task import Episode
from amf_lightning.tasks.trajectory import Trajectory
from tiny import TinySuite

SUITE = TinySuite()
POLICY = mlp(SUITE)
ODD = 2
"""Of the rollouts of each task, the one that goes elsewhere."""
FOUR: dict[str, Any] = {"occupancy": PolicyRollout(episodes=4)}
pytestmark = pytest.mark.filterwarnings("ignore:The largest variance of the belief")


class World:
    """A context whose rollouts are kept: those of a task go the same way, but for `ODD`, which is moved by `away`."""

    def __init__(self, away: float = -4.0, shown: Sequence[int] = (0, 0, 1, 1, 2, 3), **known: Any) -> None:
        self.away, self.rollouts = away, list[Trajectory]()
        self.statistics: FeatureStatistics = statistics_of(POLICY, SUITE, demonstrate(SUITE, [0, 1], seed=50))
        self.context: SelectionContext = context_of(
            SUITE,
            POLICY,
            statistics=self.statistics,
            demonstrations=demonstrate(SUITE, shown),
            rollout=self._run,
            **{"round": 1, **known},
        )

    def _run(self, actor: Acting, episodes: Sequence[Episode]) -> list[Trajectory]:
        found: list[Trajectory] = []
        for number, each in enumerate(rollout(actor, SUITE, episodes)):
            first = next((other for other in found if other.task == each.task), each)
            moved = np.float32(self.away if number % 4 == ODD else 0) * np.array([1, 0], np.float32)
            found.append(replace(each, observations={"state": first.state + moved}))
        self.rollouts += found
        return found

    def of(self, task: int) -> list[Trajectory]:
        """The last four of a task: those of π0 come before."""
        return [each for each in self.rollouts if each.task == SUITE.tasks[task].name][-4:]


def features(trajectory: Trajectory) -> NDArray[np.float64]:
    """φ with a 1 for the bias, by the layers of the network and nothing of the package."""
    context = torch.tensor(SUITE.task(trajectory.task).context).expand(trajectory.length, -1)
    with torch.no_grad():
        rows = POLICY.backbone(torch.cat([torch.from_numpy(trajectory.state[:-1]), context], 1))
    return np.hstack([rows.numpy().astype(np.float64), np.ones((len(rows), 1))])


def variances(world: World, task: int) -> list[float]:
    """Of each rollout the mean of xᵀP⁻¹x over 16 of its states, P = ρI + (M0 + Σ φφᵀ)/s², ‖x‖ no more than known."""
    scale = world.statistics.scale
    history = np.concatenate([features(each) for each in world.context.demonstrations]) / scale
    precision = 0.1 * np.eye(history.shape[1]) + world.statistics.second_moment.numpy() / scale**2 + history.T @ history
    bound = max(world.statistics.largest_norm / scale, np.linalg.norm(history, axis=1).max())
    found = []
    for each in world.of(task):
        kept = features(each)[((np.arange(16) + 0.5) * each.length / 16).astype(int)] / scale
        kept *= np.minimum(1, bound / np.linalg.norm(kept, axis=1, keepdims=True))
        found.append(float(np.mean((kept @ np.linalg.inv(precision) * kept).sum(1))))
    return found


@pytest.mark.parametrize("shown", [(0, 0, 1, 1, 2, 3), (0,)])
@pytest.mark.parametrize(
    "selector", [InformationGain(**FOUR), GapReduction(PrequentialError(), InformationGain(**FOUR))], ids=["IG", "Gap"]
)
def test_the_start_of_a_pick_is_the_rollout_of_the_largest_variance(selector: Selector, shown: Sequence[int]) -> None:
    """Where it is 1.25 times the median of the others, which it is where everything else is known."""
    world = World(shown=shown)
    selection = selector.select(world.context, 1)
    (task,) = selection.picks
    by_hand, odd = variances(world, task), world.of(task)[ODD]
    others = sorted(by_hand[:ODD] + by_hand[ODD + 1 :])[1]
    if len(shown) == 1:
        assert by_hand[ODD] < 1.25 * others and selection.starts == ()
        return
    (start,) = selection.starts
    assert start is not None and start.seed == odd.seed and by_hand[ODD] > 1.25 * others
    assert (start.unknown, start.others) == pytest.approx((by_hand[ODD], others), rel=2e-5)
    assert start.observation == {"state": tuple(float(f"{number:.6g}") for number in odd.state[0])}


@pytest.mark.parametrize("kind", [InformationGain, EnsembleDisagreement])
def test_nothing_is_said_of_two_rollouts_nor_of_demonstrations(kind: Any) -> None:
    few: dict[str, Any] = {} if kind is InformationGain else {"members": 2, "steps": 2, "batch_size": 8}
    assert kind(**few).select(World().context, 2).starts == ()
    for occupancy in (Demonstrated(), ImportanceWeighted(), PolicyRollout(episodes=4, judge_by_expert=True)):
        shown = World(shown=(0, 0, 0, 0, 1, 2, 3)).context
        assert kind(**few, occupancy=occupancy).select(shown, 2).starts == ()


def test_nothing_is_said_where_all_rollouts_are_alike() -> None:
    world = World(away=0.0)
    assert InformationGain(**FOUR).select(world.context, 3).starts == ()
    assert len(world.rollouts) == 16


def members(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ensembles of policies whose action is 0.1, 0.3, … times the position."""

    class Proportional(MLPPolicy):
        slope = 0.0

        def act(self, steps: Steps) -> Tensor:
            return self.slope * steps.state[:, :1]

    def trained(self: EnsembleDisagreement, context: Any, member: int, pieces: Any) -> Policy:
        policy = Proportional(2, 1, 1, hidden=(4,))
        policy.slope = 0.1 + 0.2 * member
        return policy

    monkeypatch.setattr(SAVE, "_trained", trained)
    monkeypatch.setattr(EnsembleDisagreement, "_trained", trained)


def test_an_ensemble_starts_where_its_members_disagree_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAVE's second choice; two members are 0.2·|x| apart, so their standard deviation is 0.1·|x|."""
    members(monkeypatch)
    kinds: tuple[tuple[type[EnsembleDisagreement], float], ...] = ((SAVE, 2), (EnsembleDisagreement, 1))
    for kind, power in kinds:
        world = World(shown=(0, 1))
        selection = kind(members=2, **FOUR).select(world.context, 3)
        (task, *_), (start, *_) = selection.picks, selection.starts
        kept = [each.state[((np.arange(16) + 0.5) * each.length / 16).astype(int), 0] for each in world.of(task)]
        unknown = [float(((0.1 * power * np.abs(x.astype(np.float64))) ** power).mean()) for x in kept]
        assert start is not None and start.seed == world.of(task)[ODD].seed
        assert start.unknown == pytest.approx(unknown[ODD], rel=1e-4)
        assert start.others == pytest.approx(sorted(unknown[:ODD] + unknown[ODD + 1 :])[1], rel=1e-4)


@pytest.mark.parametrize(
    "selector",
    [
        InformationGain(**FOUR),
        GapReduction(None, InformationGain(**FOUR)),
        GapReduction(PrequentialError(), InformationGain(**FOUR)),
        GapReduction(),
        SAVE(steps=3, **FOUR),
        EnsembleDisagreement(members=2, steps=3, **FOUR),
    ],
    ids=lambda selector: type(selector).__name__,
)
def test_what_is_picked_and_simulated_is_the_same_to_the_bit(
    selector: Selector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without and with starts: picks, scores, what they teach, diagnostics, episodes, and the global generators."""
    world, unsaid = World(pending=(1,)), World(pending=(1,))
    torch.manual_seed(3)
    selection, after = selector.select(world.context, 4), torch.get_rng_state()
    monkeypatch.setattr(starts, "FEWEST", 1000)
    torch.manual_seed(3)
    silent = selector.select(unsaid.context, 4)
    assert torch.equal(torch.get_rng_state(), after)
    assert silent.starts == () and replace(selection, starts=()) == silent
    assert any(selection.starts) == (len(world.rollouts) >= 16)
    assert [each.seed for each in world.rollouts] == [each.seed for each in unsaid.rollouts]


@pytest.mark.parametrize(
    ("unknown", "named", "episode"),
    [
        ([1.0, 1.3, 1.0], [], 1),
        ([1.0, 1.2, 1.0], [], None),  # not much more than the others
        ([1.0, 9.0, 1.0], [1], None),
        ([1.0, 9.0, 8.0, 1.0, 1.0], [1], 2),
        ([1.0, 9.0], [], None),
        ([0.0, 0.0, 0.0], [], None),  # nothing is unknown
        ([0.0, 0.1, 0.0], [], 1),
    ],
)
def test_an_episode_stands_out(unknown: list[float], named: list[int], episode: int | None) -> None:
    found = standing_out(torch.tensor(unknown, dtype=torch.float64), named)
    assert (None if found is None else found.episode) == episode


def test_no_start_is_named_twice_in_a_batch_and_pictures_are_left_out() -> None:
    def shown(number: int) -> Trajectory:
        observations: dict[str, NDArray[Any]] = {
            "image/front": np.zeros((2, 4, 4, 3), np.uint8),
            "state": np.full((2, 60), number, np.float32),
            "pose": np.full((2, 2, 3), 1 / 3),
        }
        return Trajectory(observations, np.zeros((2, 1), np.float32), None, "a", seed=number)

    suite = TinySuite()
    suite.observation = {"image/front": Spec((4, 4, 3), "uint8"), "state": Spec((60,)), "pose": Spec((2, 3), "float64")}
    episodes = tuple(shown(number) for number in range(4))
    blocks = StateBlocks(cast(Steps, None), torch.zeros(4, dtype=torch.int64), torch.ones(4), torch.ones(4), episodes)
    nothing = StateBlocks(cast(Steps, None), torch.zeros(1, dtype=torch.int64), torch.ones(1), torch.ones(1))
    known = context_of(suite, POLICY)
    rolled_out = RolledOut(Expected(nothing, blocks), known)
    assert rolled_out.enough, "an occupancy that names no episodes for one role is no obstacle"
    unknown = torch.tensor([9.0, 0.5, 0.1, 5.0, 0.1])  # the first row is a candidate of which no episode is known
    named = [rolled_out.start(0, lambda rows: unknown[rows]) for _ in range(3)]
    assert [None if each is None else each.seed for each in named] == [2, 0, None]
    assert named[0] is not None and named[0].observation == {"state": (2.0,) * 60, "pose": (0.333333,) * 4}
    assert rolled_out.start(1, lambda rows: unknown[rows]) is None
    assert not RolledOut(Expected(nothing, blocks), replace(known, demonstrations=episodes)).enough


def test_a_start_says_itself_in_a_sentence_and_survives_json() -> None:
    start = StartState.of(7, {"state": tuple(range(70)), "pose": (1.0,)}, 0.123456789, 0.05)
    assert start == StartState(7, {"state": tuple(map(float, range(64)))}, 0.123457, 0.05)
    assert StartState.from_json(start.to_json()) == start
    assert str(start) == (
        "Start near [0, 1, 2, 3, 4, 5, …] (seed 7): least is known of what follows, 2.5 times the median of the task's "
        "other starts."
    )
    nowhere = str(StartState(None, {}, 1.0, 0.0))
    assert nowhere.startswith("Start as a rollout did: least is known of what follows, above the median")
