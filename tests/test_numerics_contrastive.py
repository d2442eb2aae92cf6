"""The matrix product of every two rows, and sums of exponentials of products that a compiler fuses."""

import jax
import numpy as np
import pytest
from programs import as_users_do

from jaxloss import numerics

RNG = np.random.default_rng(0)


def test_products_are_those_of_every_two_rows():
    first, second = RNG.normal(size=(2, 5, 3)), RNG.normal(size=(2, 5, 3))
    exact = np.einsum("bid,bjd->bij", first.astype(np.longdouble), second.astype(np.longdouble))
    np.testing.assert_allclose(numerics.products(first, second), exact.astype(np.float64), atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_of_exponentials_of_a_fused_product_counts_the_largest_once(dtype):
    logits, scale = RNG.normal(size=(8, 5)).astype(dtype), dtype(1 / 0.07)
    fused = as_users_do(lambda x: numerics.logsumexp(x * scale))(logits)
    apart = jax.jit(numerics.logsumexp)(logits * scale)
    np.testing.assert_allclose(fused, apart, rtol=8 * np.finfo(dtype).eps)
