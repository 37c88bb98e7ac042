"""Warns of numbers that a policy was not normalised to: one that is far off drowns all else that it sees."""

import warnings
from collections.abc import Sequence

import torch

from amf_lightning.policies.protocol import Policy
from amf_lightning.tasks.spec import STATE
from amf_lightning.tasks.steps import steps_of
from amf_lightning.tasks.task import TaskSuite
from amf_lightning.tasks.trajectory import Trajectory

FAR = 20.0
"""Standard deviations, root mean square over the steps of a demonstration, beyond which an entry is warned of."""
_LARGE = 20.0


class Familiarity:
    """Looks at every demonstration once, and warns of each task once.

    Args:
        suite: whose tasks they are of.
    """

    def __init__(self, suite: TaskSuite) -> None:
        self._suite, self._seen, self._told = suite, 0, set[str]()
        largest, task = max((max(map(abs, task.context), default=0.0), task.name) for task in suite.tasks)
        if largest > _LARGE:
            warnings.warn(
                f"The context of task '{task}' has an entry of size {largest:g}. Policies see contexts as they are: "
                "let the suite scale them to about 1, or what else is seen will hardly count.",
                stacklevel=2,
            )

    def look(self, policy: Policy, demonstrations: Sequence[Trajectory], round: int) -> None:
        """Warns of those that are new since the last look.

        Args:
            policy: normalised.
            demonstrations: of all rounds so far, in order.
            round: the present one.
        """
        new, self._seen = demonstrations[self._seen :], len(demonstrations)
        for demonstration in new:
            if list(demonstration.specs) != [STATE] or policy.window.history > 1 or demonstration.task in self._told:
                continue
            with torch.no_grad():
                deviations = policy.deviations(steps_of([demonstration], self._suite).to(policy.device))
            if deviations is None:
                return
            far = deviations.square().mean(dim=0).sqrt()
            if float(far.max()) > FAR:
                self._told.add(demonstration.task)
                warnings.warn(_sentence(policy, far, demonstration, round), stacklevel=2)


def _sentence(policy: Policy, far: torch.Tensor, demonstration: Trajectory, round: int) -> str:
    entry, others = int(far.argmax()), int((far > FAR).sum()) - 1
    size = abs(float(demonstration.state[:, entry].mean()))
    more = f" ({others} further entries are far off too)" if others else ""
    remedy = "Scale it in the environment, or normalise the policy to data in which it moves."
    if "smallest_std" in policy.parts[0].options:
        remedy = (
            "Make the pre-trained policy with model.policy.init_args.smallest_std as large as such an entry usually "
            "moves (1, say), or scale it in the environment."
        )
    return (
        f"Round {round}: in the demonstrations of task '{demonstration.task}' entry {entry} of the observation, about "
        f"{size:.3g}, is {float(far[entry]):.0f} standard deviations from what the policy was normalised to, and "
        f"drowns what else it sees{more}. The task may not be learned. {remedy}"
    )
