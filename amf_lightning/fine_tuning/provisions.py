"""What a run has of what its parts may need, and whether it can go on at all."""

import warnings

from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import Evaluator, NoEvaluation, SimulatedEpisodes
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.needs import Need
from amf_lightning.policies.provided import lacks
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.retention.retention import NoRetention, Retention
from amf_lightning.selection.context import Selector
from amf_lightning.tasks.task import TaskSuite


def what_is_missing(module: BehaviouralCloning, suite: TaskSuite, evaluation: Evaluator) -> dict[Need, str]:
    """What a run does not have, each with the reason as a clause, for `check_needs`."""
    missing: dict[Need, str] = {}
    if suite.simulator is None:
        missing[Need.SIMULATOR] = f"suite '{suite.name}' has no simulator"
    if module.statistics is None:
        missing[Need.PRETRAINING_STATISTICS] = "the file of the pre-trained policy holds no feature statistics"
    elif (reason := module.statistics.other_backbone(module.pretrained)) is not None:
        missing[Need.PRETRAINING_STATISTICS] = reason
    if not module.origin.importance:
        missing[Need.STORED_IMPORTANCE] = "the file of the pre-trained policy keeps none"
    if module.pretraining_counts is None:
        missing[Need.PRETRAINING_COUNTS] = "there is no file of a pre-trained policy that says what it was trained on"
    if module.origin.file is None:
        for need in (Need.PRETRAINING_STATISTICS, Need.PRETRAINING_COUNTS, Need.STORED_IMPORTANCE):
            missing[need] = "there is no pre-trained policy (model.pretrained is not set)"
    if isinstance(evaluation, NoEvaluation):
        missing[Need.EVALUATIONS] = "nobody evaluates the policy (evaluation: NoEvaluation)"
    if not isinstance(evaluation, SimulatedEpisodes):
        missing[Need.TRIAL_TRAINING] = "trials are judged by simulated episodes (evaluation: SimulatedEpisodes)"
    if module.trainer.world_size > 1 or str(module.trainer.precision) == "16-mixed":
        missing[Need.TRIAL_TRAINING] = (
            "trials repeat the training of a round, which they can on one process and in any precision but 16-mixed "
            "(trainer.devices, trainer.precision)"
        )
    return missing | lacks(module.policy, suite)


def check_origin(begun: str | None, module: BehaviouralCloning, folder: str) -> None:
    """A run goes on from the policy that it began with; one that is remade under the same name is another.

    Args:
        begun: `weights_hash` of the π0 that the run began with; None if it has not begun.
        module: with π0 as the configuration has it now.
        folder: of the run, for the message.

    Raises:
        InputError: they differ.
    """
    if begun is not None and begun != weights_hash(module.pretrained):
        raise InputError(
            f"The run in {folder} began with another pre-trained policy than the one that model.pretrained names now. "
            "Restore that file, or choose another folder with --trainer.default_root_dir."
        )


def warn_of_forgetting(selector: Selector, retention: Retention) -> None:
    """Warns if the selector takes for granted that nothing is forgotten, while no retention protects π0."""
    if isinstance(retention, NoRetention) and selector.assumes_retention:
        warnings.warn(
            "The selector takes for granted that nothing is forgotten, and there is no retention: what is forgotten "
            "will not be asked for again. Set the embedding's `tolerance`.",
            stacklevel=2,
        )
