"""The losses in float32 against mpmath, where they are hard: `accuracy_table.py`, held to its numbers."""

import functools

import accuracy_table
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from accuracy_table import CASES, errors, peer_of, ulps

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@functools.cache
def measured(name):
    """Value's and gradient's errors of a case, measured once."""
    case = next(case for case in CASES if case.name == name)
    return errors(case, case.loss)


@every_case
def test_the_value_keeps_to_its_ulps(case):
    assert measured(case.name)[0] <= case.value_ulps


@every_case
def test_the_gradient_keeps_to_its_ulps(case):
    assert measured(case.name)[1] <= case.slope_ulps


@every_case
def test_a_case_with_another_measure_says_why(case):
    assert bool(case.why) == (case.against is not None or case.slope_against is not None)


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("regression.log_cosh: residuals below 1e-4", 0),
        ("regression.cosine_distance: nearly parallel vectors", 0),
        ("categorical.cross_entropy: one class leads by 17", 1),
    ],
)
def test_the_measure_sees_the_digits_a_plain_formula_loses(name, which):
    pytest.importorskip("optax", reason="the plain formulas are Optax's")
    case = next(case for case in CASES if case.name == name)
    assert errors(case, peer_of(case))[which] > 1e5


def test_a_number_next_to_the_truth_is_one_ulp_off():
    near = np.nextafter(np.float32(1), np.float32(2))
    np.testing.assert_array_equal(ulps(near, [mpmath.mpf(1)]), [1.0])


def test_an_overflow_that_is_not_the_truths_is_an_error():
    np.testing.assert_array_equal(ulps(np.float32(np.inf), [mpmath.mpf(1)]), [np.inf])


def test_an_infinity_of_the_wrong_sign_is_an_error():
    np.testing.assert_array_equal(ulps(np.float32(-np.inf), [mpmath.inf]), [np.inf])


def test_a_nan_for_a_number_is_an_error():
    np.testing.assert_array_equal(ulps(jnp.float32(jnp.nan), [mpmath.mpf(1)]), [np.inf])


def test_the_table_has_a_line_a_case(monkeypatch):
    monkeypatch.setattr(accuracy_table, "CASES", CASES[:1])
    heading, rule, *lines = accuracy_table.table().split("\n")
    assert [len(lines), heading.count("|"), rule.count("|"), lines[0].count("|")] == [1, 7, 7, 7]


if __name__ == "__main__":
    accuracy_table.sys.stdout.write(accuracy_table.table() + "\n")
