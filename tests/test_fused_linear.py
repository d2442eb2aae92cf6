"""The fused linear cross-entropy against its formula by hand, and against the loss of all logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import jaxloss as jl
from jaxloss.fused import _backends, _products

FUSED = jl.fused.linear_cross_entropy
N, D, V = 11, 4, 7
RNG = np.random.default_rng(3)
X, W, B = RNG.normal(size=(N, D)), RNG.normal(size=(D, V)), RNG.normal(size=V)
IDS = RNG.integers(0, V, N)
ONE_HOT = np.eye(V, dtype=int)[IDS]
SHARES = RNG.dirichlet(np.ones(V), N)
WEIGHTS = RNG.random(N)
MASK = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1], bool)
CLASS_WEIGHTS = RNG.random(V) + 0.5
OPTIONS = {
    "label_smoothing": 0.1,
    "z_loss": 0.01,
    "temperature": 1.7,
    "logit_softcap": 2.5,
    "class_weights": CLASS_WEIGHTS,
}
CHUNKS = [4, "auto"]
# Ids, distributions; both layouts; chunks that divide the rows, that do not, of one row, and all rows.
CASES = [(IDS, "dv", 4), (IDS, "vd", 1), (IDS, "vd", "auto"), (SHARES, "dv", N), (SHARES, "vd", 5)]


# --- the truth by hand, in NumPy ------------------------------------------------------------------


def by_hand(x, w, b, labels, weights, *, label_smoothing, z_loss, temperature, logit_softcap, class_weights):
    """Σ wℓ and its derivatives in all that it depends on."""
    raw = x @ w + b
    bent = np.tanh(raw / logit_softcap)
    z = logit_softcap * bent / temperature
    normaliser = np.log(np.exp(z).sum(-1))
    logs = z - normaliser[:, None]
    hard = labels if labels.ndim == 2 else np.eye(V)[labels]
    t = class_weights * ((1 - label_smoothing) * hard + label_smoothing / V)
    losses = -(t * logs).sum(-1) + z_loss * normaliser**2
    dz = np.exp(logs) * (t.sum(-1) + 2 * z_loss * normaliser)[:, None] - t
    dz *= weights[:, None]
    fading = 1 - bent**2
    draw = dz * fading / temperature
    slopes = {
        "x": draw @ w.T,
        "w": x.T @ draw,
        "b": draw.sum(0),
        "weights": losses,
        "label_smoothing": -(weights[:, None] * class_weights * (1 / V - hard) * logs).sum(),
        "z_loss": weights @ normaliser**2,
        "temperature": -(dz * z).sum() / temperature,
        "logit_softcap": (dz * (bent - raw / logit_softcap * fading)).sum() / temperature,
        "class_weights": -(weights[:, None] * t / class_weights * logs).sum(0),
    }
    return weights @ losses, slopes


def ours(x, w, b, weights, options, labels, *, layout="dv", chunk_size="auto"):
    kernel = w if layout == "dv" else w.T
    return jl.sum(FUSED)(
        x, kernel, labels, bias=b, weights=weights, kernel_layout=layout, chunk_size=chunk_size, **options
    )


def reference(x, w, b, weights, options, labels, where=None):
    options = dict(options)
    logits = x @ w + b[None]
    if cap := options.pop("logit_softcap", None):
        logits = cap * jnp.tanh(logits / cap)
    logits = logits / options.pop("temperature", 1.0)
    return jl.sum(jl.categorical.cross_entropy)(logits, labels, weights=weights, where=where, **options)


def of_both(fused, whole, *arguments, **others):
    """Values and gradients of two functions by all arguments, in one program."""

    def gradients(f):
        f = functools.partial(f, **others)
        return jax.value_and_grad(f, tuple(range(len(arguments))))

    return jax.jit(lambda *arguments: [gradients(f)(*arguments) for f in (fused, whole)])(*arguments)


def agree(found, truth, rtol=1e-12, atol=1e-14):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, truth)


@pytest.mark.parametrize(("labels", "layout", "chunk_size"), CASES)
def test_value_and_every_gradient_are_those_by_hand(labels, layout, chunk_size):
    total = functools.partial(ours, labels=labels, layout=layout, chunk_size=chunk_size)
    value, slopes = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3, 4)))(X, W, B, WEIGHTS, OPTIONS)
    true_value, truth = by_hand(X, W, B, labels, WEIGHTS, **OPTIONS)
    found = dict(zip(("x", "w", "b", "weights"), slopes, strict=False)) | slopes[4]
    np.testing.assert_allclose(value, true_value, rtol=1e-12)
    for name, slope in truth.items():
        np.testing.assert_allclose(found[name], slope, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.2}, {"class_weights": CLASS_WEIGHTS}, {"z_loss": 0.1}], ids=str
)
def test_each_option_alone_gives_the_loss_of_all_logits(options):
    options = {name: jnp.asarray(value) for name, value in options.items()}
    agree(*of_both(ours, reference, X, W, B, WEIGHTS, options, labels=IDS))


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_bare_rows_and_their_gradient_are_those_of_all_logits(chunk_size):
    def bent(rows):
        return jnp.sum(jnp.sin(rows) * WEIGHTS)

    def fused(x, w, b):
        return bent(FUSED(x, w, IDS, bias=b, chunk_size=chunk_size))

    def whole(x, w, b):
        return bent(jl.categorical.cross_entropy(x @ w + b[None], IDS))

    agree(*of_both(fused, whole, X, W, B))


@pytest.mark.parametrize(
    "transform", [jl.mean, jl.sum, lambda f: lambda *a, **o: jl.partial_mean(f)(*a, **o).value()]
)
def test_masked_weighted_reductions_are_those_of_the_loss_of_all_logits(transform):
    def fused(x, w, weights):
        return transform(FUSED)(
            x, w, IDS, where=MASK, weights=weights, ignore_index=int(IDS[0]), chunk_size=4
        )

    def whole(x, w, weights):
        loss = transform(jl.categorical.cross_entropy)
        return loss(x @ w, IDS, where=MASK, weights=weights, ignore_index=int(IDS[0]))

    agree(*of_both(fused, whole, X, W, WEIGHTS))


SIZE = 3.0
entries = st.floats(-SIZE, SIZE)
drawn = st.tuples(arrays(np.float64, (N, D), elements=entries), arrays(np.float64, (D, V), elements=entries))


@given(
    drawn,
    arrays(np.int64, N, elements=st.integers(0, V - 1)),
    arrays(np.float64, N, elements=st.floats(0, 2)),
    st.floats(0, 0.9),
    st.floats(0.3, 3),
)
@settings(max_examples=25, deadline=None)
def test_drawn_heads_have_the_value_and_gradients_by_hand(head, ids, weights, smoothing, temperature):
    x, w = head
    given = {"label_smoothing": smoothing, "temperature": temperature, "z_loss": 0.1, "logit_softcap": 5.0}
    given["class_weights"] = CLASS_WEIGHTS
    value, slopes = jax.value_and_grad(ours, argnums=(0, 1, 2, 3))(x, w, B, weights, given, ids, chunk_size=4)
    true_value, truth = by_hand(x, w, B, ids, weights, **given)
    np.testing.assert_allclose(value, true_value, rtol=1e-11, atol=1e-11)
    for slope, name in zip(slopes, ("x", "w", "b", "weights"), strict=True):
        np.testing.assert_allclose(slope, truth[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "chunk_size", [1, pytest.param(np.int32(3), marks=pytest.mark.worded), N, N + 5, "auto"]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int64])
def test_any_size_of_chunks_and_any_integers_are_the_same_loss(chunk_size, dtype):
    found = jl.mean(FUSED)(X, W, IDS.astype(dtype), chunk_size=chunk_size)
    np.testing.assert_allclose(found, jl.mean(jl.categorical.cross_entropy)(X @ W, IDS), rtol=1e-13)


def test_a_single_class_costs_nothing():
    value, slopes = jax.value_and_grad(jl.mean(FUSED), (0, 1))(X, W[:, :1], np.zeros(N, int))
    assert value == 0
    assert not np.any(slopes[0])
    assert not np.any(slopes[1])


# --- shapes ---------------------------------------------------------------------------------------


def test_rows_may_have_several_axes():
    x, ids = X[:6].reshape(2, 3, D), IDS[:6].reshape(2, 3)
    np.testing.assert_allclose(FUSED(x, W, ids), FUSED(X[:6], W, IDS[:6]).reshape(2, 3), rtol=1e-14)
    where = MASK[:6].reshape(2, 3)
    np.testing.assert_allclose(
        jl.mean(FUSED)(x, W, ids, where=where),
        jl.mean(FUSED)(X[:6][MASK[:6]], W, IDS[:6][MASK[:6]]),
        rtol=1e-14,
    )


def test_one_row_needs_no_axis():
    np.testing.assert_allclose(FUSED(X[0], W, IDS[0]), FUSED(X, W, IDS)[0], rtol=1e-14)
    np.testing.assert_allclose(jl.mean(FUSED)(X[0], W, IDS[0]), FUSED(X, W, IDS)[0], rtol=1e-14)


def test_no_row_is_a_mean_of_zero_with_zero_gradient():
    value, slopes = jax.value_and_grad(jl.mean(FUSED), (0, 1))(X[:0], W, IDS[:0])
    assert (value, slopes[0].shape, float(jnp.abs(slopes[1]).max())) == (0, (0, D), 0)
    assert FUSED(X[:0], W, IDS[:0]).shape == (0,)


# --- what is removed ------------------------------------------------------------------------------


def spoiled():
    """The data, with rubbish in the rows that the mask removes."""
    x, ids, weights = X.copy(), IDS.copy(), WEIGHTS.copy()
    x[~MASK], ids[~MASK], weights[~MASK] = np.array([np.nan, np.inf, -np.inf])[:, None], [-3, V, 99], np.nan
    return x, ids, weights


@pytest.mark.parametrize("chunk_size", [4, N])
def test_nothing_in_a_removed_row_reaches_value_or_gradient(chunk_size):
    def total(x, w, b, weights, options, ids, where):
        return jl.mean(FUSED)(
            x, w, ids, bias=b, weights=weights, where=where, chunk_size=chunk_size, **options
        )

    x, ids, weights = spoiled()
    gradients = jax.value_and_grad(total, (0, 1, 2, 3, 4))
    (value, slopes), (clean, truth) = jax.jit(lambda *batches: [gradients(*batch) for batch in batches])(
        (x, W, B, weights, OPTIONS, ids, MASK),
        (X[MASK], W, B, WEIGHTS[MASK], OPTIONS, IDS[MASK], None),
    )
    np.testing.assert_allclose(value, clean, rtol=1e-13)
    for index in (0, 3):
        np.testing.assert_array_equal(slopes[index][~MASK], 0)
        np.testing.assert_allclose(slopes[index][MASK], truth[index], rtol=1e-11)
    for index in (1, 2, 4):
        agree(slopes[index], truth[index], rtol=1e-11)


def test_nothing_in_a_removed_row_reaches_forward_mode_or_a_second_derivative():
    x, ids, _ = spoiled()

    def gradient(w, t):
        return jax.grad(lambda w: jl.mean(FUSED)(x, w, ids, where=MASK, temperature=t, chunk_size=4))(w)

    def clean(w, t):
        return jax.grad(lambda w: jl.mean(FUSED)(X[MASK], w, IDS[MASK], temperature=t))(w)

    both = jax.jit(lambda *given: [jax.jvp(f, *given) for f in (gradient, clean)])
    agree(*both((W, 1.5), (B[None] * W, 1.0)), rtol=1e-11)


def test_a_class_that_is_left_out_by_its_bias_spoils_no_removed_row():
    bias = np.where(np.arange(V) == 0, -np.inf, B)
    ids = np.maximum(IDS, 1)
    for labels in (ids, np.eye(V)[ids]):
        mean = functools.partial(jl.mean(FUSED), bias=bias, where=MASK)
        value, slopes = jax.jit(jax.value_and_grad(mean))(X, W, labels)
        truth = jl.mean(jl.categorical.cross_entropy)(X @ W + bias, ids, where=MASK)
        np.testing.assert_allclose(value, truth, rtol=1e-12)
        assert np.isfinite(slopes).all()


def test_a_mean_of_nothing_is_zero_with_zero_gradient():
    slopes = jax.value_and_grad(jl.mean(FUSED), (0, 1))(X * np.nan, W, IDS, where=np.zeros(N, bool))
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(slopes))


def test_a_nan_in_a_kept_row_is_not_hidden_by_its_weight():
    x = X.copy()
    x[1] = np.nan
    weights = WEIGHTS.copy()
    weights[1] = 0
    assert np.isnan(jl.sum(FUSED)(x, W, IDS, weights=weights))


def test_an_ignored_row_has_loss_zero_and_no_gradient():
    ids = IDS.copy()
    ids[[2, 7]] = -1
    rows = FUSED(X, W, ids, ignore_index=-1, chunk_size=4)
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(rows) == 0), [2, 7])
    slopes = jax.jit(jax.grad(lambda x: jnp.sum(FUSED(x, W, ids, ignore_index=-1, chunk_size=4))))(X)
    assert np.array_equal(np.flatnonzero(~np.any(np.asarray(slopes), axis=-1)), [2, 7])


# --- labels that are none -------------------------------------------------------------------------


def test_minus_one_of_ids_without_a_sign_is_nan():
    ids = np.array([2**32 - 1, 0], np.uint32)
    assert np.array_equal(np.isnan(FUSED(X[:2], W, ids)), [True, False])
    assert np.isnan(jax.jit(jax.grad(lambda x: FUSED(x, W, ids)[0]))(X[:2])[0]).all()
    assert np.isnan(jl.categorical.cross_entropy(X[:2] @ W, ids)[0])


@pytest.mark.parametrize("wrong", [-1, V])
def test_an_id_out_of_range_is_nan_in_that_row_alone(wrong):
    ids = IDS.copy()
    ids[5] = wrong
    for total in (jl.sum(FUSED), lambda *data, **options: jnp.sum(FUSED(*data, **options))):
        x_slopes = jax.jit(jax.grad(functools.partial(total, chunk_size=4)))(X, W, ids)
        assert np.array_equal(np.flatnonzero(np.isnan(x_slopes).all(-1)), [5])
        assert np.isnan(x_slopes).any(-1).sum() == 1
    assert np.array_equal(np.flatnonzero(np.isnan(FUSED(X, W, ids, chunk_size=4))), [5])


def test_checked_names_an_id_out_of_range():
    ids = IDS.copy()
    ids[5] = V
    for function in (FUSED, jl.mean(FUSED), jax.grad(jl.mean(FUSED))):
        with pytest.raises(ValueError, match=r"linear_cross_entropy: `labels` must be in \[0, 7\), got 7"):
            jl.checked(function)(X, W, ids)
    where = np.arange(N) != 5
    np.testing.assert_allclose(
        jl.checked(jl.mean(FUSED))(X, W, ids, where=where),
        jl.mean(FUSED)(X[where], W, ids[where]),
        rtol=1e-13,
    )


def test_a_row_that_is_no_distribution_is_nan_and_named():
    shares = SHARES.copy()
    shares[3] *= 2
    assert np.array_equal(np.flatnonzero(np.isnan(FUSED(X, W, shares, chunk_size=4))), [3])
    with pytest.raises(ValueError, match="must be in distributions"):
        jl.checked(jl.mean(FUSED))(X, W, shares)


# --- all that JAX does to a function --------------------------------------------------------------


def mean_of(x, w):
    return jl.mean(FUSED)(x, w, IDS, chunk_size=4, z_loss=0.1)


def whole_mean(x, w):
    return jl.mean(jl.categorical.cross_entropy)(x @ w, IDS, z_loss=0.1)


TRANSFORMED = {
    "jvp": lambda f, x, w: jax.jvp(f, (x, w), (x**2, w**2)),
    "hvp": lambda f, x, w: jax.jvp(jax.grad(f, (0, 1)), (x, w), (x**2, w**2)),
    "hessian": lambda f, x, w: jax.hessian(f, (0, 1))(x, w),
    "gradient of a gradient": lambda f, x, w: jax.grad(lambda w: jnp.sum(jnp.sin(jax.grad(f)(x, w))))(w),
    "vmap": lambda f, x, w: jax.vmap(jax.value_and_grad(f, (0, 1)), (0, None))(jnp.stack([x, -x, 2 * x]), w),
    "jit": lambda f, x, w: jax.value_and_grad(f, (0, 1))(x, w),
    "gradient of jit": lambda f, x, w: jax.grad(jax.jit(f), (0, 1))(x, w),
    "remat": lambda f, x, w: jax.grad(lambda x, w: jnp.sin(jax.checkpoint(f)(jnp.tanh(x), w)), (0, 1))(x, w),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_transformation_of_it_is_that_of_the_loss_of_all_logits(name):
    both = jax.jit(lambda x, w: [TRANSFORMED[name](f, x, w) for f in (mean_of, whole_mean)])
    agree(*both(X, W), rtol=1e-10, atol=1e-13)


def test_a_gradient_outside_jit_is_that_of_the_loss_of_all_logits():
    slopes = jax.grad(jax.jit(mean_of), (0, 1))(X, W)
    agree(slopes, jax.jit(jax.grad(whole_mean, (0, 1)))(X, W), rtol=1e-10, atol=1e-13)


def test_the_hessian_of_bare_rows_is_that_of_the_loss_of_all_logits():
    def fused(w):
        return FUSED(X, w, IDS, chunk_size=4)[3]

    def whole(w):
        return jl.categorical.cross_entropy(X @ w, IDS)[3]

    both = jax.jit(lambda w: [jax.hessian(f)(w) for f in (fused, whole)])
    agree(*both(W), rtol=1e-10, atol=1e-13)


# --- precision ------------------------------------------------------------------------------------


def test_half_precision_is_computed_in_float32_and_rounded_once():
    x, w = (jnp.asarray(array, jnp.bfloat16) for array in (X, W))
    mean = functools.partial(jl.mean(FUSED), chunk_size=1)
    value, slopes = jax.jit(jax.value_and_grad(mean, (0, 1)))(x, w, IDS)
    wide = [np.asarray(array, np.float64) for array in (x, w)]
    true_value, truth = by_hand(
        *wide, np.zeros(V), IDS, np.full(N, 1 / N), label_smoothing=0.0, z_loss=0.0, temperature=1.0,
        logit_softcap=1e9, class_weights=np.ones(V),
    )  # fmt: skip
    assert (value.dtype, slopes[0].dtype, slopes[1].dtype) == (jnp.float32, jnp.bfloat16, jnp.bfloat16)
    np.testing.assert_allclose(value, true_value, rtol=1e-6)
    # A rounding of each ∂ℓ/∂z and one of the result, of half an ulp of 2⁻⁷ each.
    for slope, true in zip(slopes, (truth["x"], truth["w"]), strict=True):
        np.testing.assert_allclose(
            np.asarray(slope, np.float64), true, rtol=2**-8, atol=2**-8 * np.abs(true).max()
        )


def test_the_kernels_gradient_is_summed_in_float32_over_chunks_of_half_precision():
    rows = 4096
    x = jnp.ones((rows, 1), jnp.bfloat16)
    slope = jax.grad(jl.sum(FUSED), 1)(
        x, jnp.zeros((1, 2), jnp.bfloat16), jnp.zeros(rows, jnp.int32), chunk_size=4
    )
    # In bfloat16 a sum of steps of 2 would stop at 512.
    np.testing.assert_array_equal(np.asarray(slope, np.float64), [[-rows / 2, rows / 2]])


def test_the_bare_rows_too_sum_the_kernels_gradient_in_float32():
    rows = 4096
    x, ids = jnp.ones((rows, 1), jnp.bfloat16), jnp.zeros(rows, jnp.int32)
    total = jax.grad(lambda w: jnp.sum(FUSED(x, w, ids, chunk_size=4)))
    slope = jax.jit(total)(jnp.zeros((1, 2), jnp.bfloat16))
    np.testing.assert_array_equal(np.asarray(slope, np.float64), [[-rows / 2, rows / 2]])


def test_float16_loses_nothing_to_the_shares_of_a_mean():
    x, w = (jnp.asarray(array, jnp.float16) for array in (X, W))
    shares = np.full(N, 2.0**-20, np.float32)

    def scaled(x, w):
        return 2.0**20 * jl.sum(FUSED)(x, w, IDS, weights=shares, chunk_size=4)

    def plain(x, w):
        return jl.sum(FUSED)(x, w, IDS, chunk_size=4)

    (_, found), (_, truth) = of_both(scaled, plain, x, w)
    for slope, true in zip(found, truth, strict=True):
        assert slope.dtype == jnp.float16
        np.testing.assert_allclose(
            np.asarray(slope, np.float64), np.asarray(true, np.float64), rtol=2**-10, atol=2**-12
        )


def test_a_label_that_leads_by_seventeen_costs_what_it_costs():
    x, w = np.ones((1, 1), np.float32), np.array([[17.0, 0.0]], np.float32)
    value, slope = jax.value_and_grad(jl.mean(FUSED), 1)(x, w, np.array([0]))
    np.testing.assert_allclose(value, np.log1p(np.exp(-17)), rtol=1e-6)
    np.testing.assert_allclose(slope, [[-1, 1] / (1 + np.exp(17))], rtol=1e-6)


def test_an_offset_of_all_logits_costs_no_digit():
    x, w = np.ones((1, 1), np.float32), np.array([[4096.0, 4098.0, 4090.0]], np.float32)
    z = np.array([-2.0, 0.0, -8.0])
    value, slope = jax.value_and_grad(jl.mean(FUSED), 1)(x, w, np.array([0]))
    shares = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(value, np.log(np.exp(z).sum()) + 2, rtol=1e-6)
    np.testing.assert_allclose(slope[0], shares - [1, 0, 0], rtol=1e-6)


# --- the filter -----------------------------------------------------------------------------------


def filtered(x, w, epsilon):
    return FUSED.fusion.weighted_total(
        x, w, IDS, weights=jnp.asarray(WEIGHTS), gradient_filter=epsilon, chunk_size=4
    )


def exact(x, w):
    return FUSED.fusion.weighted_total(x, w, IDS, weights=jnp.asarray(WEIGHTS), chunk_size=4)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_products, "_KEPT", 2)


@pytest.mark.usefixtures("small_blocks")
def test_a_filter_of_nothing_leaves_out_nothing():
    agree(*of_both(functools.partial(filtered, epsilon=0.0), exact, X, W))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("epsilon", [1e-3, 1e-2, 0.1])
def test_a_filter_errs_by_no_more_than_its_bound(epsilon):
    w = W.copy()
    w[:, 4:] *= 0.2
    x = X + np.array([3.0, 0, 0, 0])
    w[0, 4:] -= 3
    of_filtered = functools.partial(filtered, epsilon=epsilon)
    (value, (dx, dw)), (true_value, (true_dx, true_dw)) = of_both(of_filtered, exact, x, w)
    assert value == true_value
    assert np.any(dw != true_dw), "something was left out"
    reach = epsilon * np.linalg.norm(w, axis=0).sum()
    assert np.all(np.linalg.norm(dx - true_dx, axis=-1) <= WEIGHTS * reach)
    assert np.all(np.abs(dw - true_dw) <= epsilon * (WEIGHTS @ np.abs(x))[:, None])


@pytest.mark.usefixtures("small_blocks")
def test_a_filter_hides_no_nan():
    x = X.copy()
    x[3] = np.nan
    slopes = jax.jit(jax.grad(functools.partial(filtered, epsilon=0.5), 1))(x, W)
    assert np.isnan(slopes).all()


# --- refused in words -----------------------------------------------------------------------------

WRONG = {
    "integer features": (
        TypeError,
        "`features` must be floating",
        (np.ones((2, 3), int), W[:3], IDS[:2]),
        {},
    ),
    "a kernel of three axes": (ValueError, r"`kernel` must have shape \[D, V\]", (X, W[None], IDS), {}),
    "another width": (ValueError, r"with D = 4, .* give them one D", (X, W[:3], IDS), {}),
    "a kernel turned": (ValueError, "say `kernel_layout='vd'`", (X, W.T, IDS), {}),
    "an unknown layout": (
        ValueError,
        "`kernel_layout` must be one of dv, vd",
        (X, W, IDS),
        {"kernel_layout": "xy"},
    ),
    "too many labels": (ValueError, "`labels` .* must have the rows' shape", (X, W, np.append(IDS, 0)), {}),
    "one-hot flags": (TypeError, "class ids or distributions, got bool", (X, W, SHARES > 0), {}),
    "one-hot integers": (
        TypeError,
        "class ids or distributions, got int",
        (X, W, np.eye(V, dtype=int)[IDS]),
        {},
    ),
    "a chunk of a part": (TypeError, "got 2.5", (X, W, IDS), {"chunk_size": 2.5}),
    "a chunk below nothing": (
        ValueError,
        "`chunk_size` must be 1 or more, got -3",
        (X, W, IDS),
        {"chunk_size": -3},
    ),
    "a chunk that is a flag": (TypeError, "`chunk_size` must be", (X, W, IDS), {"chunk_size": True}),
    **{
        f"a {name} a row": (
            ValueError,
            f"`{name}` must be one number, got shape",
            (X, W, IDS),
            {name: np.full(N, 0.5)},
        )
        for name in ("label_smoothing", "z_loss", "logit_softcap", "temperature", "gradient_filter")
    },
    "distributions of other classes": (
        ValueError,
        "must be distributions of shape",
        (X, W, SHARES[:, 1:]),
        {},
    ),
    "a bias of other classes": (
        ValueError,
        r"`bias` \(6,\) must have shape \(7,\)",
        (X, W, IDS),
        {"bias": B[1:]},
    ),
    "class weights of other classes": (
        ValueError,
        r"`class_weights` \(6,\)",
        (X, W, IDS),
        {"class_weights": B[1:] ** 2},
    ),
    "a chunk of nothing": (
        ValueError,
        "`chunk_size` must be 1 or more, got 0",
        (X, W, IDS),
        {"chunk_size": 0},
    ),
    "a chunk in words": (TypeError, "`chunk_size` must be", (X, W, IDS), {"chunk_size": "many"}),
    "a chunk of a size not known": (
        TypeError,
        "known when traced",
        (X, W, IDS),
        {"chunk_size": jnp.array(2)},
    ),
    "an unknown backend": (ValueError, "`backend` must be one of", (X, W, IDS), {"backend": "pallas"}),
    "a negative temperature": (ValueError, "`temperature` must be in", (X, W, IDS), {"temperature": -1.0}),
    "a negative cap": (ValueError, "`logit_softcap` must be in", (X, W, IDS), {"logit_softcap": -1.0}),
}


@pytest.mark.worded
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("function", [FUSED, jl.mean(FUSED)], ids=["rows", "mean"])
def test_bad_input_is_refused_in_words(function, name):
    error, words, data, options = WRONG[name]
    with pytest.raises(error, match=words) as refusal:
        function(*data, **options)
    assert "fused.linear_cross_entropy" in str(refusal.value)


def test_a_mask_of_other_rows_is_refused():
    with pytest.raises(ValueError, match=r"`where` .* must have the rows' shape"):
        jl.mean(FUSED)(X, W, IDS, where=MASK[1:])


def test_a_traced_temperature_out_of_range_is_nan():
    assert np.isnan(jax.jit(lambda t: jl.mean(FUSED)(X, W, IDS, temperature=t))(-1.0))


def test_a_backend_that_cannot_run_here_is_refused_and_auto_takes_the_next(monkeypatch):
    able = _backends.BACKENDS[0]
    unable = able._replace(name="elsewhere", refuses=lambda: "it needs another device")
    monkeypatch.setattr(_backends, "BACKENDS", (unable, able))
    jax.clear_caches()
    assert np.isfinite(jl.mean(FUSED)(X, W, IDS))
    with pytest.raises(ValueError, match=r"got 'elsewhere' \(elsewhere: it needs another device\)"):
        jl.mean(FUSED)(X, W, IDS, backend="elsewhere")


@pytest.mark.parametrize("loss", [FUSED, jl.categorical.cross_entropy], ids=["fused", "whole"])
def test_options_may_be_bound_before(loss):
    data = (X, W, IDS) if loss is FUSED else (X @ W, IDS)
    bound = functools.partial(loss, ignore_index=int(IDS[0]), label_smoothing=0.1)
    found = jl.mean(bound)(*data, where=MASK, label_smoothing=0.2)
    truth = jl.mean(loss)(*data, ignore_index=int(IDS[0]), label_smoothing=0.2, where=MASK)
    assert found == truth


def test_a_named_backend_is_the_one_that_auto_takes():
    assert jl.mean(FUSED)(X, W, IDS, backend="xla") == jl.mean(FUSED)(X, W, IDS)


def test_its_mean_is_the_same_object_each_time():
    assert jl.mean(FUSED) is jl.mean(FUSED)
