"""The examples reach every hard point: a test of data that never meet the trouble is no test."""

import pytest
import support
from oracles import CASES

HARD = [(case, point) for case in CASES for point in case.hard]


@pytest.mark.parametrize(("case", "point"), HARD, ids=lambda x: getattr(x, "name", x))
def test_the_examples_reach(case, point):
    assert any(case.hard[point](*example) for example in support.pool(case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_names_the_points_it_must_reach(case):
    assert case.hard
