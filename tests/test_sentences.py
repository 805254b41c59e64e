"""The sentences of notebooks follow the figures they are about."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bionas.studies.sentences import difference, interval, span_of_weights


def test_a_difference_of_single_trainings_has_no_standard_error():
    for ours, others in (([40.0], [35.0]), ([40.0, 41.0], [35.0]), ([40.0], [35.0, 36.0])):
        said = difference(ours, others, "random genotypes")
        assert "nan" not in said and "no standard error" in said and "points above random genotypes" in said


def test_a_difference_is_judged_by_its_standard_error():
    generator = np.random.default_rng(0)
    for _ in range(50):
        ours, others = generator.normal(1, 1, 3), generator.normal(0, 1, 4)
        error = math.sqrt(ours.var(ddof=1) / 3 + others.var(ddof=1) / 4)
        said = difference(ours, others, "x")
        side = "above" if ours.mean() > others.mean() else "below"
        assert f"{abs(ours.mean() - others.mean()):.1f} points {side} x" in said
        assert f"standard error {error:.1f}" in said
        assert ("more than twice" in said) == (abs(ours.mean() - others.mean()) > 2 * error)


@pytest.mark.parametrize(("largest", "lead"), [(0.101, "barely above"), (0.24, "2.4 times")])
def test_the_span_of_weights_is_stated_as_it_is(largest, lead):
    said = span_of_weights([0.099, 0.1, largest], 10)
    assert f"0.0990 to {largest:.4f}" in said and lead in said and "0.1000" in said
    assert f"a range of {largest - 0.099:.4f}" in said


def test_an_interval_that_holds_zero_may_be_chance():
    assert interval(2.14, -0.4, 4.6) == "+2.1 (-0.4 to +4.6): may be chance"
    assert interval(2.14, 0.4, 4.6).endswith("more than chance")
    assert interval(-2.14, -4.6, -0.4).endswith("more than chance")
    assert interval(math.nan, math.nan, math.nan) == ""
