"""Which start state to demonstrate: one that was seen in a rollout, and how little is known of what follows it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_DIGITS, _NUMBERS, _SHOWN = 6, 64, 6


@dataclass(frozen=True)
class StartState:
    """Where to start a demonstration: as that rollout of its task does of which least is known."""

    seed: int | None
    """Seed of the rollout's reset; None if it has none."""
    observation: Mapping[str, tuple[float, ...]]
    """Its first observation by name of the entry: at most 64 numbers in all, of entries that are no pictures."""
    unknown: float
    """Mean over its states of what the selector does not know: variance of the belief about the expert, or disagreement
    of an ensemble."""
    others: float
    """The median of the same for the other rollouts of the task."""

    @classmethod
    def of(
        cls, seed: int | None, observation: Mapping[str, tuple[float, ...]], unknown: float, others: float
    ) -> "StartState":
        """With six digits of each number, and no more than 64 numbers of the observation: the first ones."""
        kept: dict[str, tuple[float, ...]] = {}
        left = _NUMBERS
        for name, numbers in observation.items():
            if some := tuple(map(_rounded, numbers[:left])):
                kept[name] = some
                left -= len(some)
        return cls(seed, kept, _rounded(unknown), _rounded(others))

    def __str__(self) -> str:
        """A sentence."""
        numbers = [number for entry in self.observation.values() for number in entry]
        shown = ", ".join(f"{number:.3g}" for number in numbers[:_SHOWN]) + ", …" * (len(numbers) > _SHOWN)
        where = f" near [{shown}]" if numbers else " as a rollout did"
        where += "" if self.seed is None else f" (seed {self.seed})"
        times = f"{self.unknown / self.others:.2g} times" if self.others > 0 else "above"
        return f"Start{where}: least is known of what follows, {times} the median of the task's other starts."

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self) | {"observation": {name: list(numbers) for name, numbers in self.observation.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StartState":
        """Inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is no such thing.
        """
        seed = values["seed"]
        observation = {str(name): tuple(map(float, numbers)) for name, numbers in values["observation"].items()}
        return cls(None if seed is None else int(seed), observation, float(values["unknown"]), float(values["others"]))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
