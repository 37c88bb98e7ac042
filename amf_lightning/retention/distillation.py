"""Self-distillation: π0 as the teacher of the policy that grows out of it."""

from typing import Literal, cast

import torch
from torch import Tensor

from amf_lightning.demonstrations.batches import Rows
from amf_lightning.errors import InputError
from amf_lightning.needs import Need
from amf_lightning.policies.capabilities import LearnsFromTeacher
from amf_lightning.policies.protocol import Policy, frozen_copy
from amf_lightning.retention.importance import pretrained_steps
from amf_lightning.retention.retention import Retention, RetentionContext
from amf_lightning.seeding import Purpose, RowGenerators, keyed_seeds
from amf_lightning.tasks.steps import Steps


class SelfDistillation(Retention):
    """Behavioural cloning of π0 on states of its own rollouts, of tasks not demonstrated yet (ours).

    A task that has been demonstrated is the expert's from then on; what π0 does there is not held on to. Where π0 knows
    some tasks and not others, hold on to those that it knows (`tasks`): elsewhere it teaches its mistakes.

    A policy that follows a learned field (flow, diffusion) is held to π0's field: teacher and student are shown the
    same noise and time, around chunks that π0 has drawn.

    Args:
        weight: factor of the distillation loss beside the loss on the demonstrations.
        episodes: rollouts of π0 for each task, made once.
        noise: executed noise of those rollouts, the standard deviation of what is added to the executed actions, while
            π0's clean ones are the targets: they show how π0 comes back from where a slightly different policy goes
            (the noise injection of Laskey et al., DART, CoRL 2017). Discrete actions are executed as they are.
        tasks: names of the tasks; by default every one, "pretrained" for those that π0 was pre-trained on.
    """

    needs = (Need.SIMULATOR,)
    instead = "Choose L2ToPretrained or FreezeByImportance with MagnitudeImportance, which need no rollouts."

    def __init__(
        self,
        weight: float = 1.0,
        episodes: int = 2,
        noise: float = 0.0,
        tasks: list[str] | Literal["all", "pretrained"] = "all",
    ) -> None:
        if weight < 0 or episodes < 1 or noise < 0:
            raise InputError(
                f"SelfDistillation needs weight, noise >= 0 and episodes >= 1, got {weight}, {noise} and {episodes}."
            )
        if tasks == []:
            raise InputError("SelfDistillation needs at least one task.")
        self.weight = weight
        self.episodes = episodes
        self.noise = noise
        self.tasks = tasks

    def prepare(self, context: RetentionContext, policy: Policy) -> None:
        if self.tasks == "all":
            tasks = list(range(len(context.suite.tasks)))
        elif self.tasks == "pretrained":
            tasks = context.pretraining_tasks()
        else:
            tasks = [context.suite.task(name).index for name in self.tasks]
        noise = 0.0 if context.suite.discrete else self.noise
        steps = pretrained_steps(context, tasks, self.episodes, noise)
        pretrained, rows = context.pretrained, len(steps)
        self._teacher = frozen_copy(pretrained) if policy.can(LearnsFromTeacher) else None
        with torch.no_grad():
            if self._teacher is not None:
                drawn = RowGenerators(keyed_seeds(rows, context.seed, Purpose.RETAIN, 4), 0)
                actions = pretrained.predict(steps, drawn).reshape(steps.shown_actions.shape)
            elif pretrained.window.horizon > 1:
                actions = pretrained.predict(steps)
            else:
                actions = pretrained.act(steps)
        self._steps = steps.with_actions(actions)

    def replay_loss(self, policy: Policy, steps: Steps) -> Tensor | None:
        if self._teacher is None:
            return None
        weight = next(policy.parameters())
        self._teacher.to(weight.device, weight.dtype)
        return cast(LearnsFromTeacher, policy).loss_by_teacher(steps, self._teacher)

    def replay(self, demonstrated: frozenset[int]) -> Rows | None:
        keep = ~torch.isin(self._steps.tasks, torch.tensor(sorted(demonstrated), dtype=torch.long))
        return Rows(self._steps[keep], loss_weight=self.weight) if keep.any() else None
