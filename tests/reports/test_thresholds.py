"""A threshold is an operator and a number, from the measurement to the page."""

import pytest
from pydantic import TypeAdapter

from reports import AnyThreshold, Margin, Range, Verdict, at_least, at_most, combine_verdicts

KINDS = [at_most(0.05), at_least(0.8), Range(low=-0.1, high=0.1), Margin(op="<=", margin=0.02)]


def test_a_value_at_the_limit_meets_it() -> None:
    assert at_least(0.99).is_met(0.99)
    assert not at_least(0.99).is_met(0.9899)
    assert at_most(0.01).is_met(0.01)
    assert not at_most(0.01).is_met(0.0101)
    assert [Range(low=0.1, high=0.2).verdict(one) for one in (0.1, 0.2, 0.21)] == ["met", "met", "missed"]


@pytest.mark.parametrize("threshold", KINDS)
def test_every_kind_is_read_back_from_its_json_as_the_kind_it_was(threshold: AnyThreshold) -> None:
    reader: TypeAdapter[AnyThreshold] = TypeAdapter(AnyThreshold)
    assert reader.validate_python(threshold.as_json()) == threshold


def test_a_threshold_in_json_is_its_operator_and_its_limit() -> None:
    assert at_most(0.05).as_json() == {"op": "<=", "limit": 0.05}
    assert str(at_most(0.05)) == "<= 0.05"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], None),
        (["met"], "met"),
        (["met", "met"], "met"),
        (["met", None], None),
        (["met", None, "missed"], "missed"),
    ],
)
def test_verdicts_are_met_together_if_all_are_and_missed_if_one_is(
    verdicts: list[Verdict | None], expected: Verdict | None
) -> None:
    assert combine_verdicts(verdicts) == expected
