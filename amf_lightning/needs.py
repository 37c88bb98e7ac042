"""What a part of a run needs beyond demonstrations, and the one check that it is there."""

from collections.abc import Iterator, Mapping
from enum import Enum

from amf_lightning.errors import InputError


class Need(Enum):
    """Something that not every run has. Tables print the value."""

    SIMULATOR = "simulator rollouts"
    PRETRAINING_STATISTICS = "pre-training statistics"
    PRETRAINING_COUNTS = "pre-training counts"
    PRETRAINING_DEMONSTRATIONS = "the demonstrations that π0 was trained on"
    EVALUATIONS = "evaluation returns"
    TRIAL_TRAINING = "trial fine-tuning"
    EXPERT_ACTIONS = "expert actions at expected states"
    DENSITY = "a density of the policy's actions"
    FEATURES = "features of the policy"
    LINEAR_HEAD = "a linear layer at the policy's end"
    GRADIENT_STEPS = "a policy that learns by gradient steps"
    REPEATABLE_LOSS = "a loss that is the same each time in evaluation mode"
    OWN_POSTERIOR = "a policy that is a posterior itself (GaussianProcessPolicy)"
    HELD_OUT = "recordings that are held out"
    STORED_IMPORTANCE = "the importance of weights in the pre-trained policy's file"

    @property
    def privileged(self) -> bool:
        """Whether nobody has it for free in practice: the reports mark a selector that needs it."""
        return self in (
            Need.PRETRAINING_COUNTS,
            Need.PRETRAINING_DEMONSTRATIONS,
            Need.EVALUATIONS,
            Need.TRIAL_TRAINING,
        )

    @property
    def is_information(self) -> bool:
        """Whether it is information beyond the demonstrations, as tables list it, and not a property of a part."""
        return self in (
            Need.SIMULATOR,
            Need.PRETRAINING_STATISTICS,
            Need.PRETRAINING_COUNTS,
            Need.PRETRAINING_DEMONSTRATIONS,
            Need.EVALUATIONS,
            Need.TRIAL_TRAINING,
            Need.STORED_IMPORTANCE,
        )


class Part:
    """A part of a run, which says what it needs."""

    needs: tuple[Need, ...] = ()
    """The needs of the part and of the parts within it, in the order in which tables print them."""
    does_without: tuple[Need, ...] = ()
    """Those of `needs` that the part uses where the run has them, and can do without."""
    instead: str = ""
    """What to choose where something is missing, as a sentence; empty if the parts within it say so."""

    @property
    def components(self) -> "Mapping[str, Part]":
        """Parts within it, by the name of the argument that chose them."""
        return {}


def check_needs(parts: Mapping[str, Part], missing: Mapping[Need, str]) -> None:
    """Makes sure that every part has what it needs.

    Args:
        parts: by their key in the configuration, e.g. `selector`.
        missing: what this run does not have, each with the reason as a clause: `suite 'robot' has no simulator`.

    Raises:
        InputError: a part needs something that is missing; names the innermost one, the reason and what to choose.
    """
    for key, part in _innermost_first(parts):
        # What a part within it needs was checked there, where it may be done without.
        inner = union(*(component.needs for component in part.components.values()))
        for need in part.needs:
            if need in missing and need not in (*part.does_without, *inner):
                raise InputError(
                    f"{key}: {type(part).__name__} needs {need.value}, but {missing[need]}. {part.instead}".rstrip()
                )


def uses_of(part: Part) -> list[str]:
    """The information that a part uses beyond the demonstrations, in words."""
    return [need.value for need in part.needs if need.is_information]


def _innermost_first(parts: Mapping[str, Part]) -> Iterator[tuple[str, Part]]:
    for key, part in parts.items():
        inner = {f"{key}.init_args.{name}": component for name, component in part.components.items()}
        yield from _innermost_first(inner)
        yield key, part


def union(*needs: tuple[Need, ...]) -> tuple[Need, ...]:
    """The needs of all the tuples, each once, in the order in which they first come."""
    return tuple(dict.fromkeys(need for each in needs for need in each))
