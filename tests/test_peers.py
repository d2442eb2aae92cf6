"""The same losses in Optax, torch, Keras and scikit-learn: equal where they are right, value and gradient."""

import functools
import importlib
import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxloss as jl
from jaxloss._loss import CARDS

RNG = np.random.default_rng(0)
ROWS, CLASSES = 16, 5
X = RNG.normal(0, 2, ROWS)
Y = RNG.normal(0, 2, ROWS)
POSITIVE = RNG.uniform(0.2, 3, ROWS)
ABOVE = RNG.uniform(0.2, 3, ROWS)
BITS = RNG.integers(0, 2, ROWS).astype(float)
SOFT = RNG.uniform(0, 1, ROWS)
CHANCE = RNG.uniform(0.05, 0.95, ROWS)
SIGNS = 2 * BITS - 1
LOGITS = RNG.normal(0, 3, (ROWS, CLASSES))
IDS = RNG.integers(0, CLASSES, ROWS)
SHARES = RNG.dirichlet(np.ones(CLASSES), ROWS)
LOG_SHARES = np.log(RNG.dirichlet(np.ones(CLASSES), ROWS))
VECTORS = RNG.normal(size=(2, ROWS, CLASSES))
WEIGHTS = RNG.uniform(0.2, 2, CLASSES)


def ours(loss, first, *rest, **options):
    """Values, and the gradient of their sum in the first argument."""

    @jax.jit
    def run(first, *rest):
        losses, pullback = jax.vjp(lambda x: loss(x, *rest, **options), first)
        return losses, pullback(jnp.ones_like(losses))[0]

    return tuple(map(np.asarray, run(first, *rest)))


def in_jax(function, first, *rest):
    # Peers promote and broadcast as they like.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return ours(function, first, *rest)


def in_torch(name, first, second, **options):
    torch = pytest.importorskip("torch", reason="torch is one of the peers: `pip install torch`")
    x = torch.tensor(first, requires_grad=True)
    function = getattr(torch.nn, name)(reduction="none", **options)
    losses = function(x, torch.tensor(second))
    losses.sum().backward()
    return losses.detach().numpy(), x.grad.numpy()


def in_keras(name, first, second, **options):
    keras = pytest.importorskip("keras", reason="keras is one of the peers: `pip install keras`")
    made = getattr(keras.losses, name)(reduction=None, dtype="float64", **options)
    return in_jax(lambda x: made(jnp.asarray(second), x), first)


def same(found, expected, factor=1.0, *, relative=1e-9):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, factor * np.asarray(b).reshape(a.shape), rtol=relative, atol=1e-11)


R, B, C, D = jl.regression, jl.binary, jl.categorical, jl.divergence

OPTAX = {
    "squared_error": (R.squared_error, optax.losses.squared_error, X, Y),
    "half_squared_error": (R.half_squared_error, optax.losses.l2_loss, X, Y),
    "log_cosh": (R.log_cosh, optax.losses.log_cosh, X, Y),
    "cosine_distance": (R.cosine_distance, optax.losses.cosine_distance, *VECTORS),
    "huber": (jl.robust.huber, optax.losses.huber_loss, X, Y),
    "binary.cross_entropy": (B.cross_entropy, optax.losses.sigmoid_binary_cross_entropy, X, SOFT),
    "binary.focal": (B.focal, optax.losses.sigmoid_focal_loss, X, BITS),
    "hinge": (B.hinge, optax.losses.hinge_loss, X, SIGNS),
    "categorical.cross_entropy": (C.cross_entropy, optax.losses.softmax_cross_entropy, LOGITS, SHARES),
    "categorical.cross_entropy of ids": (
        C.cross_entropy,
        optax.losses.softmax_cross_entropy_with_integer_labels,
        LOGITS,
        IDS,
    ),
    "kl": (D.kl, optax.losses.kl_divergence, LOG_SHARES, SHARES),
}


@pytest.mark.parametrize("name", OPTAX)
def test_it_is_optaxs(name):
    loss, peer, first, second = OPTAX[name]
    same(ours(loss, first, second), in_jax(peer, first, second))


@pytest.mark.parametrize("delta", [0.3, 2.0])
def test_huber_is_optaxs_for_any_delta(delta):
    peer = functools.partial(optax.losses.huber_loss, delta=delta)
    same(ours(jl.robust.huber, X, Y, delta=delta), in_jax(peer, X, Y))


def test_label_smoothing_is_optaxs():
    smooth = jax.jit(optax.losses.smooth_labels)(np.eye(CLASSES)[IDS], 0.1)
    found = ours(C.cross_entropy, LOGITS, IDS, label_smoothing=0.1)
    same(found, in_jax(optax.losses.softmax_cross_entropy, LOGITS, smooth))


TORCH = {
    "squared_error": (R.squared_error, "MSELoss", X, Y, {}, {}),
    "absolute_error": (R.absolute_error, "L1Loss", X, Y, {}, {}),
    "huber": (jl.robust.huber, "HuberLoss", X, Y, {"delta": 0.7}, {"delta": 0.7}),
    "smooth_l1": (jl.robust.smooth_l1, "SmoothL1Loss", X, Y, {"beta": 0.7}, {"beta": 0.7}),
    "binary.cross_entropy": (B.cross_entropy, "BCEWithLogitsLoss", X, SOFT, {}, {}),
    "probability_cross_entropy": (B.probability_cross_entropy, "BCELoss", CHANCE, SOFT, {}, {}),
    "logistic": (B.logistic, "SoftMarginLoss", X, SIGNS, {}, {}),
    "cross_entropy": (C.cross_entropy, "CrossEntropyLoss", LOGITS, IDS, {}, {}),
    "cross_entropy of distributions": (C.cross_entropy, "CrossEntropyLoss", LOGITS, SHARES, {}, {}),
    "cross_entropy, smoothed": (
        C.cross_entropy,
        "CrossEntropyLoss",
        LOGITS,
        IDS,
        {"label_smoothing": 0.2},
        {"label_smoothing": 0.2},
    ),
    "nll": (C.nll, "NLLLoss", LOG_SHARES, IDS, {}, {}),
}


@pytest.mark.parametrize("name", TORCH)
def test_it_is_torchs(name):
    loss, peer, first, second, options, theirs = TORCH[name]
    same(ours(loss, first, second, **options), in_torch(peer, first, second, **theirs))


def test_the_weights_of_the_classes_are_torchs():
    torch = pytest.importorskip("torch", reason="torch is one of the peers: `pip install torch`")
    theirs = in_torch("CrossEntropyLoss", LOGITS, IDS, weight=torch.tensor(WEIGHTS))
    same(ours(C.cross_entropy, LOGITS, IDS, class_weights=WEIGHTS), theirs)


def test_torchs_weighted_mean_is_the_mean_weighted_by_the_labels_weights():
    torch = pytest.importorskip("torch", reason="torch is one of the peers: `pip install torch`")
    weighted = torch.nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS))
    theirs = weighted(torch.tensor(LOGITS), torch.tensor(IDS)).item()
    np.testing.assert_allclose(jl.cross_entropy(LOGITS, IDS, weights=WEIGHTS[IDS]), theirs, rtol=1e-12)


def test_the_ignored_class_is_torchs():
    torch = pytest.importorskip("torch", reason="torch is one of the peers: `pip install torch`")
    labels = np.where(np.arange(ROWS) % 3 == 0, -100, IDS)
    theirs = torch.nn.CrossEntropyLoss()(torch.tensor(LOGITS), torch.tensor(labels)).item()
    np.testing.assert_allclose(jl.cross_entropy(LOGITS, labels, ignore_index=-100), theirs, rtol=1e-12)


def test_pos_weight_is_torchs():
    torch = pytest.importorskip("torch", reason="torch is one of the peers: `pip install torch`")
    theirs = in_torch("BCEWithLogitsLoss", X, SOFT, pos_weight=torch.tensor(2.5, dtype=torch.float64))
    same(ours(B.cross_entropy, X, SOFT, pos_weight=2.5), theirs)


def test_kl_is_the_sum_of_torchs():
    value, gradient = in_torch("KLDivLoss", LOG_SHARES, SHARES)
    same(ours(D.kl, LOG_SHARES, SHARES), (value.sum(axis=-1), gradient))


# --- Keras: the mean over the last axis, so rows of one number each -------------------------------

KERAS = {
    "squared_error": (R.squared_error, "MeanSquaredError", X, Y, {}, {}, 1),
    "absolute_error": (R.absolute_error, "MeanAbsoluteError", X, Y, {}, {}, 1),
    "absolute_percentage_error": (
        R.absolute_percentage_error,
        "MeanAbsolutePercentageError",
        X,
        POSITIVE,
        {},
        {},
        0.01,
    ),
    "squared_log_error": (R.squared_log_error, "MeanSquaredLogarithmicError", ABOVE, POSITIVE, {}, {}, 1),
    "log_cosh": (R.log_cosh, "LogCosh", X, Y, {}, {}, 1),
    "huber": (jl.robust.huber, "Huber", X, Y, {"delta": 0.7}, {"delta": 0.7}, 1),
    "binary.cross_entropy": (B.cross_entropy, "BinaryCrossentropy", X, SOFT, {}, {"from_logits": True}, 1),
    "binary.cross_entropy, smoothed": (
        B.cross_entropy,
        "BinaryCrossentropy",
        X,
        SOFT,
        {"label_smoothing": 0.2},
        {"from_logits": True, "label_smoothing": 0.2},
        1,
    ),
    "probability_cross_entropy": (B.probability_cross_entropy, "BinaryCrossentropy", CHANCE, SOFT, {}, {}, 1),
    "binary.focal": (B.focal, "BinaryFocalCrossentropy", X, BITS, {}, {"from_logits": True}, 1),
    "hinge": (B.hinge, "Hinge", X, SIGNS, {}, {}, 1),
    "squared_hinge": (B.squared_hinge, "SquaredHinge", X, SIGNS, {}, {}, 1),
}


@pytest.mark.parametrize("name", KERAS)
def test_it_is_kerass(name):
    loss, peer, first, second, options, theirs, factor = KERAS[name]
    values, gradient = in_keras(peer, first[:, None], second[:, None], **theirs)
    same(ours(loss, first, second, **options), (values, gradient), factor, relative=1e-6)


ONE_HOT = np.eye(CLASSES)[IDS]
KERAS_CLASSES = {
    "ids": (C.cross_entropy, "SparseCategoricalCrossentropy", IDS, IDS, {}, 1),
    "distributions": (C.cross_entropy, "CategoricalCrossentropy", SHARES, SHARES, {}, 1),
    # Keras multiplies by alpha = ¼, and means over the classes where others sum.
    "focal": (C.focal, "CategoricalFocalCrossentropy", IDS, ONE_HOT, {}, 4),
}


@pytest.mark.parametrize("name", KERAS_CLASSES)
def test_of_classes_it_is_kerass(name):
    loss, peer, labels, theirs, options, factor = KERAS_CLASSES[name]
    found = in_keras(peer, LOGITS, theirs, from_logits=True, **options)
    same(ours(loss, LOGITS, labels), found, factor, relative=1e-6)


def test_kl_is_kerass_on_probabilities():
    predictions = np.exp(LOG_SHARES)
    found = ours(lambda p, t: D.kl(jnp.log(p), t), predictions, SHARES)
    same(found, in_keras("KLDivergence", predictions, SHARES), relative=1e-6)


def test_the_cosine_distance_is_one_more_than_kerass_similarity():
    value, gradient = in_keras("CosineSimilarity", *VECTORS)
    same(ours(R.cosine_distance, *VECTORS), (1 + value, gradient), relative=1e-6)


# --- scikit-learn ----------------------------------------------------------------------------------

SKLEARN = {
    "half_squared_error": (R.half_squared_error, "HalfSquaredError", X, Y, {}, {}),
    "absolute_error": (R.absolute_error, "AbsoluteError", X, Y, {}, {}),
    "pinball": (jl.quantile.pinball, "PinballLoss", X, Y, {"quantile": 0.3}, {"quantile": 0.3}),
    "huber": (jl.robust.huber, "HuberLoss", X, Y, {"delta": 0.7}, {"quantile": 0.9, "delta": 0.7}),
    "binary.cross_entropy": (B.cross_entropy, "HalfBinomialLoss", X, BITS, {}, {}),
}


@pytest.mark.parametrize("name", SKLEARN)
def test_it_is_scikit_learns(name):
    loss, peer, first, second, options, theirs = SKLEARN[name]
    made = getattr(importlib.import_module("sklearn._loss"), peer)(**theirs)
    values, gradient = made.loss_gradient(second, first)
    found = ours(loss, first, second, **options)
    if name == "absolute_error":  # its derivative at no residual is −1 there, and none is drawn here
        assert np.all(first != second)
    same(found, (values, gradient))


# --- where a peer is wrong -------------------------------------------------------------------------


def test_optax_takes_label_minus_one_for_the_last_class():
    peer = optax.losses.softmax_cross_entropy_with_integer_labels
    last = C.cross_entropy(LOGITS, np.full(ROWS, CLASSES - 1))
    np.testing.assert_allclose(jax.jit(peer)(LOGITS, np.full(ROWS, -1)), last)
    assert np.all(np.isnan(C.cross_entropy(LOGITS, np.full(ROWS, -1))))


def test_optax_loses_all_of_log_cosh_of_a_small_residual():
    small = np.float32([1e-4, 1e-5])
    assert np.all(optax.losses.log_cosh(small, np.zeros_like(small)) <= 0)
    np.testing.assert_allclose(
        R.log_cosh(small, np.zeros_like(small)), small.astype(float) ** 2 / 2, rtol=1e-6
    )


def test_optax_loses_a_confident_cross_entropy():
    logits = np.float32([[17.0, 0.0]])
    truth = np.log1p(np.exp(-17.0))
    peer = jax.jit(optax.losses.softmax_cross_entropy_with_integer_labels)
    assert peer(logits, np.array([0]))[0] == 0
    np.testing.assert_allclose(C.cross_entropy(logits, np.array([0])), truth, rtol=1e-6)


def test_torch_stops_the_cross_entropy_of_probabilities_at_a_hundred():
    value, _ = in_torch("BCELoss", np.array([0.0]), np.array([1.0]))
    assert value[0] == 100
    assert B.probability_cross_entropy(np.array([0.0]), np.array([1.0]))[0] == np.inf


# --- the names a card gives -------------------------------------------------------------------------


# What the test command does not install, to look up a name in.
_LEFT_OUT = {
    "tensorflow_addons": "TensorFlow Addons is archived, and needs all of TensorFlow",
    "monai": "MONAI is built for medical images, and needs torch",
    "neuralop": "neuraloperator needs torch and more",
    "robust_loss_pytorch": "robust_loss_pytorch is the repository of a paper, and needs torch",
    "torchvision": "torchvision is built for one torch",
    "torchaudio": "torchaudio is built for one torch, and its loss is not torch's own",
}

# The first version that has every name.
_SINCE = {"optax": "0.2.6"}


@pytest.mark.parametrize("name", sorted({peer for card in CARDS.values() for peer in card.peers}))
def test_a_peer_that_a_card_names_is_there(name):
    path, _, last = name.rpartition(".")
    package = path.split(".")[0]
    reason = _LEFT_OUT.get(package, f"{package} is one of the peers")
    pytest.importorskip(package, minversion=_SINCE.get(package), reason=reason)
    assert hasattr(importlib.import_module(path), last)
