"""Groups of tasks that share nothing: what one learns, the others cannot forget by (AMF, arXiv 2410.05026)."""

from collections import Counter
from typing import cast

from amf_lightning.errors import InputError
from amf_lightning.policies.mixture import IsolatedPolicy
from amf_lightning.policies.protocol import Policy
from amf_lightning.retention.retention import Retention
from amf_lightning.tasks.task import TaskSuite


class ParameterIsolation(Retention):
    """Deploys a copy of the whole policy for each group of tasks (AMF's first version).

    A group without demonstrations stays π0 to the bit; within a group tasks may forget each other. A step costs as
    many small passes as there are groups, and the file is as many times larger.

    Args:
        groups: names of the tasks of each group; by default every task is a group of its own.
    """

    def __init__(self, groups: list[list[str]] | None = None) -> None:
        self.groups = groups

    def wrap(self, policy: Policy, suite: TaskSuite) -> Policy:
        """See `Retention.wrap`.

        Raises:
            InputError: the groups do not hold each task of the suite exactly once.
        """
        groups = list(range(len(suite.tasks))) if self.groups is None else group_numbers(self.groups, suite)
        return IsolatedPolicy.of(policy, suite.contexts, groups, suite.dimensions)

    def before_step(self, policy: Policy) -> None:
        """Leaves a copy that no row of the minibatch reached as it is, whatever momentum and weight decay say."""
        for copy in cast(IsolatedPolicy, policy).copies:
            parameters = [parameter for parameter in copy.parameters() if parameter.grad is not None]
            if not any(parameter.grad.any() for parameter in parameters if parameter.grad is not None):
                for parameter in parameters:
                    parameter.grad = None


def group_numbers(groups: list[list[str]], suite: TaskSuite) -> list[int]:
    """The group of each task, [K].

    Raises:
        InputError: a group is empty, a task is in none or in two, or a name is of no task.
    """
    if not all(groups):
        raise InputError("ParameterIsolation: a group is empty. Remove it.")
    numbers = {suite.task(name).index: number for number, names in enumerate(groups) for name in names}
    twice = [name for name, count in Counter(name for names in groups for name in names).items() if count > 1]
    if twice:
        raise InputError(f"ParameterIsolation: {', '.join(twice)} in two groups. A task belongs to one.")
    if missing := [task.name for task in suite.tasks if task.index not in numbers]:
        raise InputError(f"ParameterIsolation: {', '.join(missing)} in no group. Every task belongs to one.")
    return [numbers[task.index] for task in suite.tasks]
