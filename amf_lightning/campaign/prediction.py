"""What a selector expected of each demonstration when it asked for it, and what came of it: kept in the ledger."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.request import scores_from_json, scores_to_json
from amf_lightning.tasks.start_state import StartState

_DIGITS = 6


@dataclass(frozen=True)
class Prediction:
    """What a selector expected, in its own words and units. The gains of all tasks are `Request.scores`."""

    gain: float
    """Of the demonstration that was asked for; NaN if the selector gives no scores."""
    gain_is: str
    """What a gain is, with its unit."""
    need: float | None = None
    """Of its task; None if the selector knows none."""
    need_is: str = ""
    needs: tuple[float, ...] = ()
    """Of every task, [K]; () if the selector knows none."""
    teaches: tuple[float, ...] = ()
    """What of the gain is about each task, [K]; () if the selector does not say."""
    start: StartState | None = None
    """Which start to demonstrate; None if the selector does not say."""

    def to_json(self) -> dict[str, Any]:
        """Plain types; six digits of each number but the gain, which is among the scores with all its bits."""
        lists = {name: scores_to_json(_rounded(getattr(self, name))) for name in ("needs", "teaches")}
        need = None if self.need is None else scores_to_json(_rounded([self.need]))[0]
        plain = asdict(self) | lists | {"gain": scores_to_json([self.gain])[0], "need": need}
        if self.start is None:
            del plain["start"]  # as files of earlier versions have it
        else:
            plain["start"] = self.start.to_json()
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Prediction":
        """Inverse of `to_json`, except for the digits. What a later version says beside it is left out."""
        return cls(
            gain=scores_from_json([values["gain"]])[0],
            gain_is=str(values["gain_is"]),
            need=None if values.get("need") is None else scores_from_json([values["need"]])[0],
            need_is=str(values.get("need_is", "")),
            needs=scores_from_json(values.get("needs", ())),
            teaches=scores_from_json(values.get("teaches", ())),
            start=None if values.get("start") is None else StartState.from_json(values["start"]),
        )

    def others_taught(self, task: int, most: int = 2, share: float = 0.05) -> list[int]:
        """The other tasks that it should teach most, the first one most: those that get a `share` of the gain or more.

        >>> Prediction(1.0, "nats", teaches=(0.6, 0.01, 0.3, 0.09)).others_taught(0)
        [2, 3]
        """
        total = math.fsum(max(0.0, part) for part in self.teaches if math.isfinite(part))
        others = [index for index, part in enumerate(self.teaches) if index != task and part >= share * total > 0]
        return sorted(others, key=lambda index: -self.teaches[index])[:most]


@dataclass(frozen=True)
class Realised:
    """How far the policy's actions were from those of a demonstration, before it was trained on it and after.

    Root mean square over steps and entries of the action; NaN where it is unknown, as for a policy that has seen
    nothing yet. See `action_error`.
    """

    error_before: float
    error_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain types, six digits."""
        before, after = scores_to_json(_rounded([self.error_before, self.error_after]))
        return {"error_before": before, "error_after": after}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Realised":
        """Inverse of `to_json`."""
        return cls(*scores_from_json([values["error_before"], values["error_after"]]))


@dataclass(frozen=True)
class ScoreChange:
    """Scores at the last evaluation before a demonstration was trained on and at the first one after it.

    By episodes that both have. Demonstrations between the same two evaluations share the change of the mean.
    """

    evaluated: tuple[int, int]
    """Demonstrations at the two evaluations."""
    task: tuple[float, float]
    """Of the demonstration's task."""
    mean: tuple[float, float]


@dataclass(frozen=True)
class Outcome:
    """All that is known of what a demonstration was expected to do, and did; None where nothing is."""

    predicted: Prediction | None = None
    realised: Realised | None = None
    scores: ScoreChange | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain types; nothing of what is unknown."""
        parts: dict[str, Any] = {}
        if self.predicted is not None:
            parts["predicted"] = self.predicted.to_json()
        if self.realised is not None:
            parts["realised"] = self.realised.to_json()
        if self.scores is not None:
            pairs = {name: scores_to_json(getattr(self.scores, name)) for name in ("task", "mean")}
            parts["scores_before_and_after"] = {"demonstrations": list(self.scores.evaluated), **pairs}
        return parts

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Outcome":
        """Inverse of `to_json`; keys that are not its own are left out.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is no such thing.
        """
        predicted, realised, change = (
            values.get(name) for name in ("predicted", "realised", "scores_before_and_after")
        )
        scores = None
        if change is not None:
            (first, last), (before, after) = change["demonstrations"], scores_from_json(change["task"])
            mean_before, mean_after = scores_from_json(change["mean"])
            scores = ScoreChange((int(first), int(last)), (before, after), (mean_before, mean_after))
        return cls(
            None if predicted is None else Prediction.from_json(predicted),
            None if realised is None else Realised.from_json(realised),
            scores,
        )


def written(record: Prediction | Realised) -> str:
    """What the ledger keeps of it."""
    return json.dumps(record.to_json(), allow_nan=False)


def predictions_of(ledger: Ledger, demonstrations: Sequence[int] | None = None) -> dict[int, Prediction]:
    """By demonstration, of all or of these; demonstrations of version 0.2 and before have none."""
    predicted = ledger.predicted(demonstrations)
    return {number: Prediction.from_json(json.loads(text)) for number, text in predicted.items()}


def realised_of(ledger: Ledger) -> dict[int, Realised]:
    """By demonstration."""
    return {number: Realised.from_json(json.loads(text)) for number, text in ledger.realised().items()}


def errors_before(ledger: Ledger, demonstrations: Sequence[int]) -> list[float]:
    """What acted before each of them was trained on: its error on them; NaN where that is unknown."""
    realised = realised_of(ledger)
    return [realised[number].error_before if number in realised else math.nan for number in demonstrations]


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values]
