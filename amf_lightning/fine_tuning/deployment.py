"""Which policy is deployed: the latest, or that of an earlier round where what is seen of the latest looks worse."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from amf_lightning.campaign.learner import Learner
from amf_lightning.fine_tuning.lookahead import Lookahead
from amf_lightning.policies.protocol import RefittedPolicy, frozen_copy

if TYPE_CHECKING:
    from amf_lightning.demonstrations.datamodule import DemonstrationDataModule
    from amf_lightning.fine_tuning.active_sampling_callback import ActiveSampling
    from amf_lightning.fine_tuning.module import BehaviouralCloning
    from amf_lightning.selection.context import Selector
    from amf_lightning.tasks.trajectory import Trajectory


class Deployment:
    """Deploys the policy of a round if the selector's evidence says that it leaves less undone, or next to nothing.

    The gaps of both are those that the selector infers at the moment, from the rollouts of all rounds. Training and
    selection always go on from the latest policy.

    A policy that is refitted to all demonstrations is always the deployed one.

    Args:
        selector: its `deploy_margin` says by how much more.
    """

    def __init__(self, selector: "Selector") -> None:
        self._margin = selector.deploy_margin
        self._deployed = 0
        """Number of the choice that saw the deployed policy."""
        self._decided = 0
        """Number of the choice that would see the policy of the last decision."""
        self._steps = 0
        self._rollouts: tuple[int, dict[tuple[int, bool], list[Trajectory]]] = (0, {})

    def prepare(self, module: "BehaviouralCloning") -> None:
        """Before weights are restored: there is a policy to keep."""
        if self._margin is None or module.kept is not None:
            return
        if isinstance(module.policy, RefittedPolicy):
            self._margin = None  # it has no weights to keep, and no training that could go wrong
            return
        module.kept = frozen_copy(module.acting).train()

    def decide(self, active: "ActiveSampling", module: "BehaviouralCloning") -> None:
        """Decides, once a round and on every process alike, whether its policy is deployed, and follows that."""
        trainer = module.trainer
        if self._margin is None or self._decided >= (number := trainer.current_epoch + 1):
            return
        improves: bool = trainer.strategy.broadcast(trainer.is_global_zero and self._improves(active, number, module))
        self._decided = number
        if improves:
            self._deployed = number
            assert module.kept is not None
            module.kept.load_state_dict(module.acting.state_dict())

    def _improves(self, active: "ActiveSampling", number: int, module: "BehaviouralCloning") -> bool:
        """Whether the policy that choice `number` would see does more than the deployed one; on the first process."""
        assert self._margin is not None
        gaps = active.campaign.gaps(learner_of(active, number, module, module.data))
        rollouts = self.rollouts_before(number).values()
        self._steps = sum(rollout.length for some in rollouts for rollout in some)
        if gaps is None:
            return True  # nothing says that it does less
        of_policies = gaps @ active.suite.distribution.to(torch.float64)
        # What leaves so little undone could never be improved on by the margin: then the latest is as good as any.
        least = max(float(of_policies[self._deployed]) - self._margin, self._margin / 2)
        return float(of_policies[number]) < least

    def rollouts_before(self, number: int) -> "dict[tuple[int, bool], list[Trajectory]]":
        """Of the policy that choice `number` sees, as far as they were made to decide on it."""
        if self._margin is None:
            return {}  # nothing is kept that nobody will look at again
        if self._rollouts[0] != number:
            self._rollouts = number, {}
        return self._rollouts[1]

    def kept_after(self, rounds: Sequence[int]) -> int | None:
        """Demonstrations that the deployed policy was trained on; None if it is the latest.

        Args:
            rounds: in which each demonstration came.
        """
        return sum(number < self._deployed for number in rounds) if self._deployed < self._decided else None

    def further_steps(self, choices: int) -> int:
        """Environment steps of the last decision that no choice counts, after so many choices."""
        return self._steps if self._decided >= choices else 0

    def state_dict(self) -> dict[str, int]:
        """For the checkpoint."""
        return {"deployed": self._deployed, "decided": self._decided, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """From a checkpoint; one of version 0.2 has none."""
        self._deployed, self._decided, self._steps = (state.get(key, 0) for key in self.state_dict())


def learner_of(
    active: "ActiveSampling", number: int, module: "BehaviouralCloning", data: "DemonstrationDataModule"
) -> Learner:
    """What choice `number` may look at beyond the demonstrations; on the first process."""
    campaign = active.campaign
    first = len(campaign.ledger.jobs()) - len(campaign.pending)
    return Learner(
        policy=module.acting_policy(),
        pretrained=module.pretrained,
        statistics=module.statistics,
        pretraining_counts=module.pretraining_counts,
        trainable=module.trainable(),
        evaluations=[each.of_rounds for each in active.evaluations],
        lookahead=Lookahead(module, data, active.expert, number, first, active.seed),
        rollouts=active.deployment.rollouts_before(number),
        device=str(module.device) if module.device.type == "cuda" else "cpu",
    )
