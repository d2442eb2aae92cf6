"""The fused divergences of student and teacher, against their formulas by hand and their references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

N, D, E, V = 7, 4, 3, 6
RNG = np.random.default_rng(5)
X, W = RNG.normal(size=(N, D)), RNG.normal(size=(D, V))
R, K = RNG.normal(size=(N, E)), RNG.normal(size=(E, V))
B, C = RNG.normal(size=(2, V))
IDS, SHARES = RNG.integers(0, V, N), RNG.dirichlet(np.ones(V), N)
WEIGHTS = RNG.random(N)
MASK = np.array([1, 0, 1, 1, 0, 1, 1], bool)
T, ALPHA, BETA = 1.7, 0.3, 0.2


def softmax(z):
    shares = np.exp(z - z.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def kl_by_hand():
    """Σ wℓ without labels, and the derivative in the student's features and the teacher's kernel."""
    p, q = softmax((X @ W + B) / T), softmax((R @ K + C) / T)
    gaps = np.log(q / p)
    losses = ALPHA * T * T * (q * gaps).sum(-1)
    ds = WEIGHTS[:, None] * ALPHA * T * (p - q)
    dr = WEIGHTS[:, None] * ALPHA * T * q * (gaps - (q * gaps).sum(-1, keepdims=True))
    return WEIGHTS @ losses, ds @ W.T, R.T @ dr


def jensen_shannon_by_hand():
    """The same of T² times the Jensen-Shannon divergence."""
    p, q = softmax((X @ W + B) / T), softmax((R @ K + C) / T)
    m = BETA * q + (1 - BETA) * p
    of_p, of_q = np.log(p / m), np.log(q / m)
    losses = T * T * (BETA * q * of_q + (1 - BETA) * p * of_p).sum(-1)
    ds = T * (1 - BETA) * p * (of_p - (p * of_p).sum(-1, keepdims=True))
    dr = T * BETA * q * (of_q - (q * of_q).sum(-1, keepdims=True))
    return WEIGHTS @ losses, WEIGHTS[:, None] * ds @ W.T, R.T @ (WEIGHTS[:, None] * dr)


BIASES = {"student_bias": B, "teacher_bias": C, "temperature": T, "weights": WEIGHTS}
LOSSES = {
    "kl": (jl.fused.linear_distillation, {"alpha": ALPHA}, kl_by_hand),
    "jensen_shannon": (jl.fused.linear_jensen_shannon, {"beta": BETA}, jensen_shannon_by_hand),
}


@pytest.mark.parametrize("chunk_size", [3, "auto"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradients_of_both_heads_are_those_by_hand(name, chunk_size):
    loss, options, by_hand = LOSSES[name]

    def total(x, k):
        return jl.sum(loss)(x, W, R, k, chunk_size=chunk_size, **BIASES, **options)

    value, slopes = jax.jit(jax.value_and_grad(total, (0, 1)))(X, K)
    for found, truth in zip((value, *slopes), by_hand(), strict=True):
        np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("labels", [None, IDS, SHARES], ids=["none", "ids", "distributions"])
def test_with_labels_it_is_the_distillation_of_all_logits(labels):
    def fused(x, w, r, k, temperature, alpha):
        loss = jl.mean(jl.fused.linear_distillation)
        kernels = {"kernel_layout": "vd", "chunk_size": 3}
        return loss(x, w.T, r, k.T, labels, temperature=temperature, alpha=alpha, where=MASK, **kernels)

    def whole(x, w, r, k, temperature, alpha):
        loss = jl.mean(jl.divergence.distillation)
        data = (x @ w, r @ k) if labels is None else (x @ w, r @ k, labels)
        return loss(*data, temperature=temperature, alpha=alpha, where=MASK)

    both = jax.jit(lambda *given: [jax.value_and_grad(f, tuple(range(6)))(*given) for f in (fused, whole)])
    found, truth = both(X, W, R, K, T, ALPHA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), found, truth)


@pytest.mark.parametrize("name", LOSSES)
def test_bare_rows_sum_to_the_total(name):
    loss, options, by_hand = LOSSES[name]
    rows = loss(X, W, R, K, student_bias=B, teacher_bias=C, temperature=T, chunk_size=3, **options)
    np.testing.assert_allclose(WEIGHTS @ rows, by_hand()[0], rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_in_a_removed_row_reaches_value_or_gradient(name):
    loss, options, _ = LOSSES[name]

    def mean(x, w, r, k, temperature, where=None):
        return jl.mean(loss)(x, w, r, k, temperature=temperature, where=where, chunk_size=3, **options)

    x, r = X.copy(), R.copy()
    x[~MASK], r[~MASK] = np.nan, np.inf
    gradients = jax.value_and_grad(mean, tuple(range(5)))
    both = jax.jit(lambda *batches: [gradients(*batch) for batch in batches])
    (value, slopes), (clean, truth) = both((x, W, r, K, T, MASK), (X[MASK], W, R[MASK], K, T))
    np.testing.assert_allclose(value, clean, rtol=1e-12)
    for index in (0, 2):
        np.testing.assert_array_equal(slopes[index][~MASK], 0)
        np.testing.assert_allclose(slopes[index][MASK], truth[index], rtol=1e-10, atol=1e-14)
    for index in (1, 3, 4):
        np.testing.assert_allclose(slopes[index], truth[index], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_its_second_derivative_is_that_of_all_logits(name):
    loss, options, _ = LOSSES[name]

    def fused(w):
        return jl.mean(loss)(X, w, R, K, temperature=T, chunk_size=3, **options)

    def whole(w):
        student, teacher = X @ w, R @ K
        if name == "kl":
            return jl.mean(jl.divergence.distillation)(student, teacher, temperature=T, **options)
        logs, shares = jax.nn.log_softmax(student / T), jax.nn.softmax(teacher / T)
        return T * T * jl.mean(jl.divergence.jensen_shannon)(logs, shares, **options)

    found, truth = jax.jit(lambda w: [jax.jvp(jax.grad(f), (w,), (w**2,)) for f in (fused, whole)])(W)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), found, truth)


def test_an_id_out_of_range_is_nan_in_that_row_and_named():
    ids = np.where(np.arange(N) == 2, V, IDS)
    rows = jl.fused.linear_distillation(X, W, R, K, ids, alpha=0.5, chunk_size=3)
    assert np.array_equal(np.flatnonzero(np.isnan(rows)), [2])
    with pytest.raises(ValueError, match=r"linear_distillation: `labels` must be in \[0, 6\), got 6"):
        jl.checked(jl.mean(jl.fused.linear_distillation))(X, W, R, K, ids, alpha=0.5)


WRONG = {
    "other rows": ((X, W, R[1:], K), r"`teacher_features` .* must have the rows"),
    "other classes": ((X, W, R, K[:, 1:]), r"`teacher_kernel` .* must have 6 classes"),
    "another width": ((X, W[1:], R, K), r"`student_kernel` .* with D = 4"),
}


@pytest.mark.worded
@pytest.mark.parametrize("name", WRONG)
def test_heads_that_do_not_fit_are_refused_in_words(name):
    data, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        jl.fused.linear_distillation(*data)


def test_concrete_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`beta` must be in"):
        jl.mean(jl.fused.linear_jensen_shannon)(X, W, R, K, beta=1.0)
    with pytest.raises(ValueError, match="`alpha` must be in"):
        jl.fused.linear_distillation(X, W, R, K, alpha=-1.0)
    assert jnp.isnan(jax.jit(lambda a: jl.mean(jl.fused.linear_distillation)(X, W, R, K, alpha=a))(2.0))
