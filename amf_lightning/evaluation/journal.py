"""The episodes of an evaluation that are over, on the disk as they come: for episodes that are dear."""

import json
from collections.abc import Mapping
from pathlib import Path

from amf_lightning.durable import append_durably
from amf_lightning.hashed_json import hashed, unhashed
from amf_lightning.simulation.outcomes import EpisodeResult
from amf_lightning.tasks.failure import FailureReason
from amf_lightning.tasks.task import Episode, EvaluationJob


class EvaluationJournal:
    """Results of evaluation episodes in a file of lines, by policy, task, number and seed.

    An evaluation that was killed goes on with the episodes that are not there. What cannot be read, or is not what was
    written, is run again: the last line may have been cut off.

    Args:
        path: of the file; created at the first result.
        policy: `weights_hash` of the policy that is evaluated.
    """

    def __init__(self, path: Path, policy: str) -> None:
        self.path, self._policy = path, policy
        self._results: dict[tuple[str, int, int], EpisodeResult] = {}
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            try:
                entry = unhashed(json.loads(line))
                if entry["policy"] == policy:
                    key = str(entry["task"]), int(entry["number"]), int(entry["seed"])
                    self._results[key] = _result(entry)
            except (ValueError, KeyError, TypeError, RecursionError):
                continue

    def result(self, number: int, episode: Episode) -> EpisodeResult | None:
        """What the episode of that number within its task came to, if it is over."""
        return self._results.get((episode.task.name, number, episode.seed))

    def keep(self, results: Mapping[EvaluationJob, EpisodeResult]) -> None:
        """Writes results; they are on the disk when this returns."""
        lines = [
            json.dumps(
                hashed(
                    {
                        "policy": self._policy,
                        "task": episode.task.name,
                        "number": number,
                        "seed": episode.seed,
                        "return": result.counted_return,
                        "success": result.success,
                        "reason": result.reason,
                        "begun": result.begun,
                    }
                ),
                allow_nan=False,
            )
            for (number, episode), result in results.items()
        ]
        if lines:
            append_durably(self.path, lines)


def _result(entry: Mapping[str, object]) -> EpisodeResult:
    reason = entry["reason"]
    return EpisodeResult(
        float(str(entry["return"])),
        bool(entry["success"]),
        None if reason is None else FailureReason(str(reason)),
        bool(entry["begun"]),
    )
