"""Every generator reaches its hard points: a test of draws that never meet the trouble is no test."""

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from oracles import CASES

REACH = settings(
    max_examples=2000,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
HARD = [(case, point) for case in CASES for point in case.hard]


@pytest.mark.parametrize(("case", "point"), HARD, ids=lambda x: getattr(x, "name", x))
def test_the_draws_reach(case, point):
    try:
        find(case.draws, lambda drawn: case.hard[point](*drawn), settings=REACH)
    except hypothesis.errors.NoSuchExample:
        pytest.fail(f"{case.name}: no draw is {point!r}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_names_the_points_it_must_reach(case):
    assert case.hard
