"""Active fine-tuning of multi-task policies: which task should the expert demonstrate next?

What stands in `__all__` is the public interface. Each name is imported when it is first used: a program that reads the
status of a run does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amf_lightning.campaign.campaign import Campaign
    from amf_lightning.campaign.learner import Learner
    from amf_lightning.errors import InputError
    from amf_lightning.experts.scripted import IntegratorExpert
    from amf_lightning.policies.mlp import MLPPolicy
    from amf_lightning.policies.protocol import Policy
    from amf_lightning.policies.weights import load_policy
    from amf_lightning.selection.advice import advise
    from amf_lightning.selection.baselines import RoundRobin, Uniform
    from amf_lightning.selection.informed import InformationGain
    from amf_lightning.simulation.rollout import rollout
    from amf_lightning.suites.halfcheetah import HalfCheetahVelocity
    from amf_lightning.suites.integrator import Integrator
    from amf_lightning.tasks.task import Task, TaskSuite
    from amf_lightning.tasks.trajectory import Trajectory

__all__ = [
    "Campaign",
    "HalfCheetahVelocity",
    "InformationGain",
    "InputError",
    "Integrator",
    "IntegratorExpert",
    "Learner",
    "MLPPolicy",
    "Policy",
    "RoundRobin",
    "Task",
    "TaskSuite",
    "Trajectory",
    "Uniform",
    "__version__",
    "advise",
    "load_policy",
    "rollout",
]

PLACES = {
    "Campaign": "campaign.campaign",
    "HalfCheetahVelocity": "suites.halfcheetah",
    "InformationGain": "selection.informed",
    "InputError": "errors",
    "Integrator": "suites.integrator",
    "IntegratorExpert": "experts.scripted",
    "Learner": "campaign.learner",
    "MLPPolicy": "policies.mlp",
    "Policy": "policies.protocol",
    "RoundRobin": "selection.baselines",
    "Task": "tasks.task",
    "TaskSuite": "tasks.task",
    "Trajectory": "tasks.trajectory",
    "Uniform": "selection.baselines",
    "advise": "selection.advice",
    "load_policy": "policies.weights",
    "rollout": "simulation.rollout",
}
"""For each public name the module that defines it."""

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if (place := PLACES.get(name)) is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{place}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("amf-lightning")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0.0.0"
