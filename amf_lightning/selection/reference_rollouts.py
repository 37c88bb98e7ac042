"""Where π0 goes by itself."""

from collections.abc import Mapping
from dataclasses import replace

from amf_lightning.policies.protocol import Policy
from amf_lightning.selection.context import SelectionContext
from amf_lightning.tasks.steps import Steps


class ReferenceRollouts:
    """Steps of π0's own rollouts of each task, from the initial states of `rollout_episodes`; cached for one run.

    Whoever needs them at all asks for them in the first round.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._steps: dict[str, Steps] = {}
        self._key: tuple[Policy, int] | None = None

    def __call__(self, context: SelectionContext) -> Mapping[str, Steps]:
        """Steps by name of task, [N]; a function of π0, the suite and the seed alone."""
        if self._key is None or self._key[0] is not context.pretrained or self._key[1] != context.seed:
            rollouts = context.rollout(context.pretrained, replace(context, fresh_starts=False).rollout_episodes(2))
            self.steps = sum(rollout.length for rollout in rollouts)
            self._steps = {
                task.name: context.steps_of([rollout for rollout in rollouts if rollout.task == task.name])
                for task in context.suite.tasks
            }
            self._key = (context.pretrained, context.seed)
        return self._steps

    def steps_in(self, number: int) -> int:
        """Environment steps that they cost in a round; a run that was resumed made them again and counts them once."""
        return self.steps if number == 0 else 0
