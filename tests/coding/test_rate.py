"""Rate control: qualities, budgets of bytes, and dead zones that training shares."""

from __future__ import annotations

import math

import pytest

from edgeae.coding import rate


@pytest.mark.parametrize("value", [0, 0.5, -1, math.nan, math.inf, -math.inf, "9", None, [9]])
def test_a_budget_that_is_no_number_of_bytes_is_refused(value):
    with pytest.raises(ValueError, match="size is .*, expected at least 1"):
        rate.byte_budget("size", value)


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (9.9, 9), (10**400, 10**400)])
def test_a_budget_is_whole_bytes(value, expected):
    assert rate.byte_budget("size", value) == expected


def test_the_finest_level_that_fits_is_found_with_few_tries():
    tried = []

    def write(level):
        tried.append(level)
        return bytes(10 + 3 * level)

    for max_bytes, level in (
        (10, 0),
        (12, 0),
        (13, 1),
        (10 + 3 * 64, 64),
        (10**9, 64),
        (150.9, 46),
    ):
        tried.clear()
        assert len(rate.finest_that_fits(write, max_bytes)) == 10 + 3 * level
        assert len(tried) <= 8
    with pytest.raises(ValueError, match="max_bytes is 9, expected at least 10 bytes"):
        rate.finest_that_fits(write, 9)


def test_every_quality_has_its_level():
    assert [rate.level_of_quality(1 + i / 8) for i in range(rate.LEVELS)] == [*range(rate.LEVELS)]
