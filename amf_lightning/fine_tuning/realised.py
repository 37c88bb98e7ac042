"""How far the policy is from each new demonstration before and after it is trained on it, at no cost to the run."""

from collections.abc import Sequence

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import Realised, written
from amf_lightning.campaign.request import Request
from amf_lightning.evaluation.held_out import action_error
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.policies.protocol import frozen_copy
from amf_lightning.seeding import Purpose, keyed_global_generators
from amf_lightning.tasks.trajectory import Trajectory
from amf_lightning.user_code import ends_nothing


class NewDemonstrations:
    """The demonstrations of a round, and the error on each of what acts before it.

    Args:
        requests: that they answer.
        trajectories: themselves.
        module: before it is trained on them.
        round: the present one.
    """

    def __init__(
        self, requests: Sequence[Request], trajectories: Sequence[Trajectory], module: BehaviouralCloning, round: int
    ) -> None:
        self._numbers = [request.demonstration for request in requests]
        self._trajectories, self._round = trajectories, round
        self._before = self._errors(module)

    def note(self, module: BehaviouralCloning, ledger: Ledger) -> None:
        """Writes into the ledger what the round did to the errors. Doing it twice is the same as once."""
        realised = map(Realised, self._before, self._errors(module))
        ledger.set_realised({number: written(each) for number, each in zip(self._numbers, realised, strict=True)})

    @ends_nothing
    def _errors(self, module: BehaviouralCloning) -> list[float]:
        """Of what acts now, on each of the demonstrations; NaN of a policy that has seen nothing yet."""
        if not module.acting.is_normalised:
            return [float("nan")] * len(self._numbers)
        # The generators of training stand afterwards where they stood.
        with keyed_global_generators(module.seed, Purpose.REALISE, self._round):
            acting = frozen_copy(module.acting)
            return [action_error(acting, module.suite, [each]) for each in self._trajectories]
