import csv
import io

import pytest
import torch

from amf_lightning.evaluation.forgetting import (
    FrozenShare,
    forgetting_metrics,
    forgetting_table,
    frozen_shares,
    total,
)
from amf_lightning.evaluation.scores import Evaluation

NAMES = ("a", "b", "c")
PRETRAINED = (True, True, False)


def evaluation(demonstrations: int, *scores: float, **alphas: float) -> Evaluation:
    retention = {f"alpha/{name}": alpha for name, alpha in alphas.items()}
    return Evaluation(demonstrations, scores, (0.0,) * 3, scores, sum(scores) / 3, retention)


CURVE = [evaluation(0, 0.8, 0.6, 0.1), evaluation(3, 0.9, 0.2, 0.7, a=0.0, b=0.0, c=0.75)]


def test_the_table_has_a_row_a_task_and_their_mean_over_the_pre_training() -> None:
    rows = list(csv.DictReader(io.StringIO(forgetting_table(CURVE, NAMES, PRETRAINED, 0.25))))
    columns = ("demonstrations", "task", "pretrained", "score", "forgotten", "lost", "alpha", "frozen")
    assert tuple(rows[0]) == columns
    assert [(row["demonstrations"], row["task"]) for row in rows] == [(n, t) for n in "03" for t in (*NAMES, "mean")]
    assert [float(row["forgotten"]) for row in rows[4:]] == pytest.approx([-0.1, 0.4, -0.6, 0.15])
    assert [float(row["lost"]) for row in rows[4:]] == pytest.approx([0, 0.4, 0, 0.2])
    assert [row["alpha"] for row in rows] == [""] * 4 + ["0.0", "0.0", "0.75", ""]
    assert [row["pretrained"] for row in rows[:4]] == ["1", "1", "0", "1"]
    assert {row["frozen"] for row in rows} == {"0.25"}
    assert float(rows[-1]["score"]) == pytest.approx(0.55)


def test_a_number_of_a_retention_of_ones_own_is_a_column_and_none_is_none() -> None:
    measured = Evaluation(0, (0.0,) * 3, (0.0,) * 3, (0.5,) * 3, 0.5, {"held/a": 0.25, "held/c": 1.0, "overall": 3.0})
    rows = list(csv.DictReader(io.StringIO(forgetting_table([measured], NAMES, PRETRAINED, 0.0))))
    assert [row["held"] for row in rows] == ["0.25", "", "1.0", ""] and "overall" not in rows[0]
    plain = list(csv.DictReader(io.StringIO(forgetting_table(CURVE[:1], NAMES, PRETRAINED, 0.0))))
    assert set(plain[0]) == {"demonstrations", "task", "pretrained", "score", "forgotten", "lost", "frozen"}
    assert forgetting_table([], NAMES, PRETRAINED, 0.0).count("\n") == 1, "nobody evaluated: no rows"


def test_without_pre_training_there_is_no_mean_and_no_number_of_forgetting() -> None:
    rows = list(csv.DictReader(io.StringIO(forgetting_table(CURVE, NAMES, (False,) * 3, 0.0))))
    assert len(rows) == 6 and {row["pretrained"] for row in rows} == {"0"}
    assert set(forgetting_metrics(CURVE[0], CURVE[1], NAMES, (False,) * 3)) == {
        f"retention/alpha/{name}" for name in NAMES
    }


def test_curves_say_what_was_lost_on_each_pre_training_task() -> None:
    metrics = forgetting_metrics(CURVE[0], CURVE[1], NAMES, PRETRAINED)
    expected = {"signed": 0.15, "positive": 0.2, "a": -0.1, "b": 0.4}
    assert {name: metrics[f"forgetting/{name}"] for name in expected} == pytest.approx(expected)
    assert "forgetting/c" not in metrics and metrics["retention/alpha/c"] == 0.75


def test_shares_count_entries_that_cannot_change() -> None:
    shares = frozen_shares({"w": 4, "b": 2}, {"w": torch.tensor([[True, False], [True, True]])})
    assert shares == {"w": FrozenShare(4, 1), "b": FrozenShare(2, 0)}
    assert total(shares).share == pytest.approx(1 / 6)
    assert total({}).share == 0
    assert shares["w"].share == 0.25


def test_evaluations_of_earlier_checkpoints_can_be_read() -> None:
    values = CURVE[1].to_dict()
    assert Evaluation.from_dict(values) == CURVE[1]
    del values["retention"]
    assert Evaluation.from_dict(values).retention == {}
