"""One check says which part of a run needs what is not there."""

from collections.abc import Mapping

import pytest

from amf_lightning.errors import InputError
from amf_lightning.needs import Need, Part, check_needs, union, uses_of

MISSING = {Need.SIMULATOR: "suite 'robot' has no simulator"}


class Inner(Part):
    needs = (Need.SIMULATOR, Need.FEATURES)
    instead = "Choose another."


class Frugal(Inner):
    does_without = (Need.SIMULATOR,)


class Outer(Part):
    def __init__(self, inner: Part) -> None:
        self.inner = inner
        self.needs = union(inner.needs, (Need.PRETRAINING_COUNTS,))

    @property
    def components(self) -> Mapping[str, Part]:
        return {"inner": self.inner}


def test_the_innermost_part_that_needs_it_is_named_with_the_reason_and_the_way_out() -> None:
    message = (
        r"^key\.init_args\.inner: Inner needs simulator rollouts, but suite .robot. has no simulator\. Choose another"
    )
    with pytest.raises(InputError, match=message):
        check_needs({"key": Outer(Inner())}, MISSING)


def test_what_a_part_within_does_without_the_whole_does_without() -> None:
    check_needs({"key": Outer(Frugal())}, MISSING)


def test_a_need_of_its_own_is_the_part_itself_to_change() -> None:
    with pytest.raises(InputError, match=r"^key: Outer needs pre-training counts, but nobody counted"):
        check_needs({"key": Outer(Frugal())}, {Need.PRETRAINING_COUNTS: "nobody counted"})


def test_tables_list_information_and_mark_what_nobody_has_for_free() -> None:
    assert uses_of(Outer(Inner())) == ["simulator rollouts", "pre-training counts"]
    assert {need for need in Need if need.privileged} == {
        Need.PRETRAINING_COUNTS,
        Need.PRETRAINING_DEMONSTRATIONS,
        Need.EVALUATIONS,
        Need.TRIAL_TRAINING,
    }
