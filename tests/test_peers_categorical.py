"""The losses of classes against the peers that have them too, and where a peer is wrong."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxloss as jl

RNG = np.random.default_rng(20)
CLASSES = 6
LOGITS = RNG.normal(0, 3, (40, CLASSES))
IDS = RNG.integers(0, CLASSES, 40)
ONE_HOT = np.eye(CLASSES)[IDS]
SHARES = RNG.dirichlet(np.ones(CLASSES), 40)
COUNTS = np.array([500.0, 90.0, 30.0, 8.0, 3.0, 1.0])
categorical = jl.categorical


def with_slopes(loss, first, *rest):
    """Of each row, and of their sum in the first argument."""
    losses, pullback = jax.vjp(lambda z: loss(z, *rest), first)
    return losses, pullback(jnp.ones_like(losses))[0]


def agree(ours, theirs, *data):
    """Rows and their gradients are the same."""
    found, expected = jax.jit(lambda *data: [with_slopes(loss, *data) for loss in (ours, theirs)])(*data)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-12)


# --- Optax ------------------------------------------------------------------------------------------

optax = pytest.importorskip("optax", reason="the losses of Optax need Optax")


@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("labels", [ONE_HOT, SHARES], ids=["one-hot", "soft"])
def test_poly1_is_that_of_optax(epsilon, labels):
    agree(
        lambda z, t: categorical.poly1(z, t, epsilon=epsilon),
        lambda z, t: optax.losses.poly_loss_cross_entropy(z, t, epsilon=epsilon),
        LOGITS,
        labels,
    )


def test_poly1_by_default_is_that_of_optax():
    agree(categorical.poly1, optax.losses.poly_loss_cross_entropy, LOGITS, SHARES)


PAIRS = {
    "hinge": optax.losses.multiclass_hinge_loss,
    "perceptron": optax.losses.multiclass_perceptron_loss,
    "sparsemax": optax.losses.multiclass_sparsemax_loss,
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_loss_of_ids_is_that_of_optax(name):
    with jax.numpy_dtype_promotion("standard"):
        theirs = PAIRS[name]
        agree(getattr(categorical, name), theirs, LOGITS, IDS)


@pytest.mark.parametrize("name", PAIRS)
def test_an_id_out_of_range_is_nan(name):
    assert np.isnan(getattr(categorical, name)(LOGITS[:1], np.array([CLASSES]))).all()


@pytest.mark.parametrize("name", ["hinge", "perceptron"])
def test_an_id_out_of_range_is_some_number_for_optax(name):
    assert np.isfinite(PAIRS[name](jnp.asarray(LOGITS[:1]), jnp.array([CLASSES]))).all()


def test_poly1_keeps_the_digits_that_optax_loses_at_minus_one():
    logits = jnp.array([[12.0, 0.0]])
    doubt = 1 / (1 + np.exp(12.0))
    exact = -np.log1p(-doubt) - doubt
    np.testing.assert_allclose(
        categorical.poly1(logits, jnp.array([[1.0, 0.0]]), epsilon=-1.0), exact, rtol=1e-4
    )
    single = logits.astype(jnp.float32)
    ours = categorical.poly1(single, jnp.array([0]), epsilon=-1.0)
    theirs = optax.losses.poly_loss_cross_entropy(single, jnp.array([[1.0, 0.0]], jnp.float32), epsilon=-1.0)
    np.testing.assert_allclose(ours, doubt**2 / 2, rtol=1e-4)
    assert abs(float(theirs[0]) / exact - 1) > 0.1


def test_poly1_is_finite_beside_an_excluded_class_where_optax_is_nan():
    logits = jnp.array([[1.0, 2.0, -jnp.inf]])
    assert np.isfinite(categorical.poly1(logits, jnp.array([0]))).all()
    assert np.isnan(optax.losses.poly_loss_cross_entropy(logits, jnp.array([[1.0, 0.0, 0.0]]))).all()


def half_squares(z):
    """The conjugate of ½Σp²: not a maximum over distributions, but convex."""
    return 0.5 * jnp.sum(jnp.square(jax.nn.relu(z)))


@pytest.mark.parametrize("maximum", [jax.nn.logsumexp, jnp.max, half_squares])
def test_fenchel_young_is_that_of_optax(maximum):
    theirs = optax.losses.make_fenchel_young_loss(maximum)
    agree(lambda z, t: categorical.fenchel_young(z, t, max_fun=maximum), theirs, LOGITS, SHARES)


def test_fenchel_young_of_the_logarithm_is_the_cross_entropy_of_ids():
    agree(categorical.fenchel_young, categorical.cross_entropy, LOGITS, IDS)


def test_fenchel_young_of_a_maximum_is_the_perceptron():
    agree(
        lambda z, t: categorical.fenchel_young(z, t, max_fun=jnp.max), categorical.perceptron, LOGITS, SHARES
    )


# --- torch --------------------------------------------------------------------------------------------


def of_torch(loss, logits, ids):
    torch = pytest.importorskip("torch", reason="the losses of torch need torch")
    z = torch.tensor(logits, requires_grad=True)
    losses = loss(torch)(z, torch.tensor(ids))
    losses.sum().backward()
    return losses.detach().numpy(), z.grad.numpy()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, CLASSES)], ids=["plain", "weighted"])
def test_weston_watkins_is_the_multi_margin_loss_of_torch(power, weights):
    def theirs(torch):
        weight = None if weights is None else torch.tensor(weights)
        return torch.nn.MultiMarginLoss(p=power, margin=0.7, weight=weight, reduction="none")

    def ours(z):
        return categorical.weston_watkins(z, IDS, margin=0.7, power=power, class_weights=weights)

    for found, expected in zip(
        jax.jit(lambda z: with_slopes(ours, z))(LOGITS), of_torch(theirs, LOGITS, IDS), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def adjusted(logits):
    return logits + np.log(COUNTS)


def test_balanced_softmax_and_logit_adjusted_are_the_cross_entropy_of_adjusted_logits():
    expected = categorical.cross_entropy(adjusted(LOGITS), IDS)
    np.testing.assert_allclose(
        categorical.balanced_softmax(LOGITS, IDS, class_counts=COUNTS), expected, rtol=1e-12
    )
    priors = COUNTS / COUNTS.sum()
    np.testing.assert_allclose(categorical.logit_adjusted(LOGITS, IDS, priors=priors), expected, rtol=1e-12)


def test_a_class_that_never_occurs_is_a_class_that_is_not_there():
    present = np.array([True, True, True, True, False, True])
    ids = np.where(IDS == 4, 0, IDS)
    ours, theirs = (
        jax.value_and_grad(lambda z, f=f: jnp.sum(f(z)))(jnp.asarray(LOGITS))
        for f in (
            lambda z: categorical.logit_adjusted(z, ids, priors=np.where(present, 1.0, 0.0), temperature=0.0),
            lambda z: categorical.cross_entropy(z, ids, class_where=present),
        )
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)


def test_a_prior_of_zero_leaves_no_nan_in_its_gradient():
    priors = jnp.array([1.0, 2.0, 0.0, 1.0, 1.0, 1.0])
    ids = np.where(IDS == 2, 0, IDS)
    slopes = jax.grad(lambda p: categorical.logit_adjusted(LOGITS, ids, priors=p).sum())(priors)
    assert np.isfinite(slopes).all()


def test_ldam_is_the_authors_cross_entropy_of_scaled_logits_less_their_margins():
    margins = COUNTS**-0.25 * (0.5 / np.max(COUNTS**-0.25))
    expected = categorical.cross_entropy(30 * (LOGITS - ONE_HOT * margins), IDS)
    found = categorical.ldam(LOGITS, IDS, class_counts=COUNTS, scale=30.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


# --- Keras ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_losses():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="the losses of Keras need Keras")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras was loaded with another backend")
    return keras.losses


@pytest.mark.parametrize("q", [0.2, 0.5, 0.9])
def test_generalized_cross_entropy_is_that_of_keras_on_probabilities(keras_losses, q):
    loss = keras_losses.CategoricalGeneralizedCrossEntropy(q=q, reduction="none", dtype="float64")
    agree(
        lambda z, y: categorical.generalized_cross_entropy(z, y, q=q),
        lambda z, y: loss(y, jax.nn.softmax(z)),
        LOGITS,
        IDS,
    )


def test_generalized_cross_entropy_is_nan_for_an_id_that_costs_two_in_keras(keras_losses):
    ids = jnp.array([CLASSES])
    assert np.isnan(categorical.generalized_cross_entropy(LOGITS[:1], ids)).all()
    loss = keras_losses.CategoricalGeneralizedCrossEntropy(reduction="none")
    np.testing.assert_allclose(loss(ids, jax.nn.softmax(jnp.asarray(LOGITS[:1]))), [2.0])


# --- what the docstrings say --------------------------------------------------------------------------


def test_symmetric_cross_entropy_of_an_id_is_its_textbook_sum():
    p = np.exp(-np.asarray(categorical.cross_entropy(LOGITS, IDS)))
    expected = 0.3 * -np.log(p) + 0.7 * 4.0 * (1 - p)
    found = categorical.symmetric_cross_entropy(LOGITS, IDS, alpha=0.3, beta=0.7, log_zero=-4.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    agree(
        categorical.symmetric_cross_entropy,
        lambda z, t: categorical.symmetric_cross_entropy(z, IDS),
        LOGITS,
        ONE_HOT,
    )


@pytest.mark.parametrize("name", ["hinge", "weston_watkins"])
def test_a_loss_of_ids_refuses_distributions_in_words(name):
    with pytest.raises(TypeError, match=f"{name}: `labels` must be class ids .*argmax"):
        getattr(categorical, name)(LOGITS, SHARES)


@pytest.mark.parametrize("name", ["sparsemax", "entmax15"])
def test_a_projected_loss_of_an_id_is_that_of_its_one_hot_row(name):
    loss = getattr(categorical, name)
    agree(loss, lambda z, y: loss(z, ONE_HOT), LOGITS, IDS)
