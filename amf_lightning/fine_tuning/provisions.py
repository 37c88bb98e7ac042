"""What a run has of what its parts may need, and whether it can go on at all."""

import warnings
from collections.abc import Sequence

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.errors import InputError
from amf_lightning.evaluation.evaluators import Evaluator, NoEvaluation, SimulatedEpisodes
from amf_lightning.experts.expert import Expert
from amf_lightning.fine_tuning.module import BehaviouralCloning
from amf_lightning.needs import Need
from amf_lightning.policies.provided import lacks
from amf_lightning.policies.statistics import weights_hash
from amf_lightning.retention.retention import NoRetention, Retention
from amf_lightning.selection.context import Selector
from amf_lightning.simulation.repetition import repeats
from amf_lightning.suites.gymnasium_suite import GymnasiumSuite
from amf_lightning.tasks.task import TaskSuite

_OF_PRETRAINING = (
    Need.PRETRAINING_STATISTICS,
    Need.PRETRAINING_COUNTS,
    Need.PRETRAINING_DEMONSTRATIONS,
    Need.STORED_IMPORTANCE,
)
REPEATS = "repeats"
"""Key of the ledger's fact "no" where a suite was found not to do the same again."""


def rounds_in_all(campaign: Campaign, budget: int, batch_size: int) -> int:
    """Those that have begun, of which the last may be small because the budget was, and those that are to come.

    Raises:
        InputError: there are more demonstrations than the budget allows.
    """
    status = campaign.status()
    demonstrations = status.total.answered + status.total.unasked + status.total.pending
    if demonstrations > budget:
        raise InputError(
            f"{campaign.folder} holds {demonstrations} demonstrations, but active.budget is {budget}; it is "
            "their number in all. Give at least as many, or another folder with --trainer.default_root_dir."
        )
    begun = status.open_round + bool(status.pending or campaign.arrived(since=status.open_round))
    return begun - (-(budget - demonstrations) // batch_size)


def what_is_missing(
    module: BehaviouralCloning, suite: TaskSuite, evaluation: Evaluator, expert: Expert | None = None
) -> dict[Need, str]:
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
    if module.origin.demonstrations_folder is None:
        missing[Need.PRETRAINING_DEMONSTRATIONS] = "none lie beside the file of the pre-trained policy"
    if module.origin.file is None:
        for need in _OF_PRETRAINING:
            missing[need] = "there is no pre-trained policy (model.pretrained is not set)"
    if expert is None or not expert.held_out(suite):
        name = "nobody" if expert is None else type(expert).__name__
        missing[Need.HELD_OUT] = f"{name}, the expert, holds none out"
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


def checked_answers(trained_on: int, there: Sequence[str] | None, here: list[str], folder: str) -> list[str]:
    """A checkpoint goes on from the demonstrations that it was trained on, and from no others.

    Args:
        trained_on: their number, as the checkpoint has it.
        there: their SHA-256, likewise; None in a checkpoint of version 0.2.
        here: SHA-256 of the demonstrations that the run has of the same rounds.
        folder: of the run, for the message.

    Returns:
        `here`.

    Raises:
        InputError: they are not the same.
    """
    if trained_on != len(here):
        raise InputError(
            f"The checkpoint was made after {trained_on} demonstrations, but {folder} holds {len(here)} of its rounds. "
            "Continue a run in its own folder; to start a new one from its policy, set model.pretrained to its "
            "policy.safetensors."
        )
    if there is not None and list(there) != list(here):
        raise InputError(
            f"The checkpoint was trained on other demonstrations than those in {folder}: it is of another run. Restore "
            "this run's own, or remove it: the same command then trains again from the start on what the run has kept."
        )
    return here


def warn_of_forgetting(selector: Selector, retention: Retention) -> None:
    """Warns if the selector takes for granted that nothing is forgotten, while no retention protects π0."""
    if isinstance(retention, NoRetention) and selector.assumes_retention:
        warnings.warn(
            "The selector takes for granted that nothing is forgotten, and there is no retention: what is forgotten "
            "will not be asked for again. Set the embedding's `tolerance`.",
            stacklevel=2,
        )


def try_to_repeat(ledger: Ledger, suite: TaskSuite, seed: int) -> None:
    """Finds out once, before a run begins, whether its suite does the same again; warns if not, and notes it.

    Args:
        ledger: of the run; keeps what was found under the key `REPEATS`.
        suite: a suite of the package is not tried: tests have.
        seed: of the run.
    """
    own = type(suite).__module__.startswith("amf_lightning.") and type(suite) is not GymnasiumSuite
    if own or ledger.jobs() or ledger.fact(REPEATS) is not None or repeats(suite, seed) is not False:
        return
    ledger.set_fact(REPEATS, "no")
    warnings.warn(
        f"Suite '{suite.name}' does not repeat: the same actions from the same seed went another way the second time. "
        "Scores will differ from run to run, and a resumed run from one that was never stopped. Let reset(seed=...) "
        "seed all that is random (self.np_random), and keep nothing over a reset.",
        stacklevel=2,
    )
