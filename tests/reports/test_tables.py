import math

import pytest

from amf_lightning.reports.tables import interval, markdown_table, number, uses_phrase


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_table_is_markdown_of_equal_width_with_its_cells_in_place() -> None:
    lines = markdown_table(["task", "first", "second"], [["a", "1", "22"], ["long name", "333", "4"]]).splitlines()
    assert [cells(line) for line in lines if "--" not in line] == [
        ["task", "first", "second"],
        ["a", "1", "22"],
        ["long name", "333", "4"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert [part.endswith(":") for part in lines[1].strip("|").split("|")] == [False, True, True]


def test_a_name_with_a_bar_or_a_line_break_cannot_break_the_table() -> None:
    text = markdown_table(["a|b"], [["c\nd"]])
    assert text.count("\n") == 2
    assert "a\\|b" in text and "c d" in text


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError):
        markdown_table(["one", "two"], [["1"]])


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_number_that_is_missing_is_a_dash(missing: float | None) -> None:
    assert number(missing) == "–"


def test_signed_numbers_keep_their_sign_but_zero_has_none() -> None:
    assert [number(value, 1, signed=True) for value in (1.0, -1.0, 0.0, -0.01)] == ["+1.0", "-1.0", "0.0", "0.0"]
    assert interval(0.1, -0.2, 0.3, 1, signed=True) == "+0.1 [-0.2, +0.3]"


def test_only_privileged_information_is_marked() -> None:
    uses = ["pre-training statistics", "evaluation returns"]
    assert uses_phrase(uses) == "pre-training statistics, evaluation returns (privileged)"
