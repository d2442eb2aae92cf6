"""The comparison of traces that stands for a comparison of values tells the two apart."""

import jax
import jax.numpy as jnp
import pytest
from programs import identical

X = jnp.arange(3.0)


@jax.custom_jvp
def square(x):
    return x * x


@square.defjvp
def _square_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return square(x), 2 * x * dx


@jax.custom_jvp
def altered(x):
    return x * x


@altered.defjvp
def _altered_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return x**2, 2 * x * dx


def under_differentiation(function):
    return lambda x: jax.vjp(function, x)[0]


@pytest.mark.parametrize("function", [jnp.sin, square, jax.jit(lambda x: square(x) + 1)])
def test_a_rule_that_keeps_the_value_is_seen_to(function):
    assert identical(X, function, under_differentiation(function))


def test_a_rule_that_computes_the_value_otherwise_is_seen_to():
    assert not identical(X, altered, under_differentiation(altered))


@pytest.mark.parametrize(
    "other", [lambda x: x * 3, lambda x: 2 + x, lambda x: x[::-1] * 2, lambda x: x * jnp.array([2.0, 2, 3])]
)
def test_other_constants_operations_and_parameters_are_seen(other):
    assert not identical(X, lambda x: x * 2, other)


def test_the_order_of_two_arguments_is_seen():
    assert not identical(X, lambda x: x - jnp.sin(x), lambda x: jnp.sin(x) - x)
