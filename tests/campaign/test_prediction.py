"""What a selector expected of each request is kept with it, and old folders without it still read."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from amf_lightning.campaign.campaign import Campaign
from amf_lightning.campaign.ledger import Ledger
from amf_lightning.campaign.prediction import (
    Outcome,
    Prediction,
    Realised,
    ScoreChange,
    predictions_of,
    realised_of,
    written,
)
from amf_lightning.campaign.request import Request
from amf_lightning.campaign.run_folder import RunFolder
from amf_lightning.command_line import next as next_
from amf_lightning.errors import InputError, UserCodeError
from amf_lightning.selection.baselines import RoundRobin
from amf_lightning.selection.context import Selection, SelectionContext
from amf_lightning.tasks.start_state import StartState
from tiny import TinySuite

SUITE = TinySuite()
OUTCOME = Outcome(
    Prediction(0.1234567890123, "nats", 0.5, "variance", (0.5, math.nan), (0.1, 0.02)),
    Realised(math.nan, 0.25),
    ScoreChange((2, 4), (0.5, 0.75), (0.25, 0.5)),
)


class Foretelling(RoundRobin):
    """Gives scores, needs, and what each pick teaches."""

    gain_is, need, need_is = "apples", "hunger", "pears"
    teaches: Sequence[Sequence[float]] = ((0.6, 0.0, 0.1, 0.3),)

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        chosen, hunger = super().select(context, 1), enumerate(context.suite.tasks)
        told = {f"hunger/{task.name}": float(number + 10 * context.chosen) for number, task in hunger}
        taught = tuple(map(tuple, self.teaches))
        return replace(chosen, picks=(0,), scores=((1.0, 0.25, 0.5, math.nan),), diagnostics=told, teaches=taught)


START = StartState(7, {"state": (0.25, -0.5)}, 0.5, 0.2)


class Starting(Foretelling):
    """Says where to start, too."""

    starts: Sequence[StartState | None] = (START,)

    def select(self, context: SelectionContext, batch_size: int) -> Selection:
        return replace(super().select(context, batch_size), starts=tuple(self.starts))


def predictions(run: Path) -> dict[int, Prediction]:
    return predictions_of(Ledger(run / "ledger.sqlite", read_only=True))


def test_a_request_keeps_what_the_selector_expected_in_its_own_words(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path, SUITE, Foretelling())
    campaign.ask(1)
    expected = Prediction(1.0, "apples", 0.0, "pears", (0.0, 1.0, 2.0, 3.0), (0.6, 0.0, 0.1, 0.3))
    assert predictions(tmp_path) == {0: expected}
    campaign.ask(2)  # in the same round: the round's diagnostics are now the second choice's, the prediction stays
    assert predictions(tmp_path)[0] == expected and predictions(tmp_path)[1].need == 10.0


def test_nothing_is_kept_of_a_selector_that_expects_nothing(tmp_path: Path) -> None:
    Campaign(tmp_path, SUITE, RoundRobin()).ask(2)
    assert predictions(tmp_path) == {}


def test_teaches_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    selector = Foretelling()
    selector.teaches = ((0.5, 0.5),)
    with pytest.raises(UserCodeError, match="gave `teaches` of other than 1 picks and 4 tasks"):
        Campaign(tmp_path, SUITE, selector).ask(1)


@pytest.mark.parametrize("given", [(START, START), ("here",)])
def test_starts_that_are_none_are_refused_by_name(tmp_path: Path, given: Any) -> None:
    selector = Starting()
    selector.starts = given
    with pytest.raises(UserCodeError, match="gave `starts` of other than 1 picks"):
        Campaign(tmp_path, SUITE, selector).ask(1)


def test_a_start_is_kept_with_its_request_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Campaign(tmp_path, SUITE, Starting()).ask(1)
    assert predictions(tmp_path)[0].start == START
    next_.main([str(tmp_path), "--json"])
    (request,) = json.loads(capsys.readouterr().out)["requests"]
    assert request["start"] == {"seed": 7, "observation": {"state": [0.25, -0.5]}, "unknown": 0.5, "others": 0.2}
    next_.main([str(tmp_path)])
    assert "Start near [0.25, -0.5] (seed 7): least is known of what follows, 2.5 times" in capsys.readouterr().out
    assert request["seed"] != 7, "the seed of the request stays its own"


def test_a_start_comes_back_from_the_table_and_is_no_key_where_there_is_none(tmp_path: Path) -> None:
    folder, job = RunFolder(tmp_path), Request(0, 0, "left", 0, "Foretelling", (0.5,), 7)
    for start in (START, None):
        folder.write_selections([job], {0: Outcome(Prediction(0.5, "nats", start=start))})
        [(_, outcome)] = folder.read_outcomes()
        assert outcome.predicted == Prediction(0.5, "nats", start=start)
        assert ("start" in json.loads(folder.selections.read_text())["predicted"]) == (start is not None)


def test_what_is_read_back_is_what_was_written_but_for_digits(tmp_path: Path) -> None:
    folder, job = RunFolder(tmp_path), Request(0, 0, "left", 0, "Foretelling", (0.1234567890123, math.nan), 7)
    folder.write_selections([job], {0: OUTCOME})
    [(read, outcome)] = folder.read_outcomes()
    assert read == job and repr(outcome) == repr(OUTCOME)
    assert folder.read_selections() == [job]


def test_the_keys_of_a_job_stay_as_they_were(tmp_path: Path) -> None:
    folder, job = RunFolder(tmp_path), Request(0, 0, "left", 0, "Foretelling", (0.5, math.nan), 7)
    folder.write_selections([job])
    before = folder.selections.read_text()
    folder.write_selections([job], {0: OUTCOME})
    assert folder.selections.read_text().startswith(before.removesuffix("}\n"))


def test_a_folder_of_an_earlier_version_knows_no_outcomes(tmp_path: Path) -> None:
    folder, job = RunFolder(tmp_path), Request(0, 0, "left", 0, "Foretelling", (0.5,), 7)
    folder.write_selections([job])
    assert folder.read_outcomes() == [(job, Outcome())]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("predicted", {"gain": "many"}),
        ("predicted", {"gain": 0.5, "gain_is": "nats", "start": {"seed": 7}}),
        ("realised", 3),
        ("scores_before_and_after", {"demonstrations": [1]}),
    ],
)
def test_a_damaged_outcome_is_an_error_that_names_the_line(tmp_path: Path, key: str, value: Any) -> None:
    folder, job = RunFolder(tmp_path), Request(0, 0, "left", 0, "Foretelling", (0.5,), 7)
    folder.write_selections([job])
    folder.selections.write_text(json.dumps({**json.loads(folder.selections.read_text()), key: value}) + "\n")
    with pytest.raises(InputError, match=r"selections\.jsonl, line 1"):
        folder.read_outcomes()


def test_what_was_realised_is_noted_once_or_again_with_the_same_bytes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    requests = [Request(number, 0, "left", 0, "Foretelling", (0.5,), 7) for number in range(2)]
    ledger.ask(requests, {}, predicted={0: written(Prediction(0.5, "nats"))})
    realised = {0: written(Realised(0.123456789, 0.1)), 1: written(Realised(math.inf, 0.0))}
    ledger.set_realised(realised)
    once = (ledger.realised(), ledger.predicted())
    ledger.set_realised(realised)
    assert (ledger.realised(), ledger.predicted()) == once
    assert realised_of(ledger) == {0: Realised(0.123457, 0.1), 1: Realised(math.inf, 0.0)}
    assert predictions_of(ledger) == predictions_of(ledger, [0, 1]) == {0: Prediction(0.5, "nats")}
