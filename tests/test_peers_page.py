"""`docs/peers.md`, line by line: each loss of torch, Keras, jaxopt, scikit-learn and SciPy beside ours."""

import functools
import importlib
import inspect
import os
import re
import sys
import warnings

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pages
import pytest
from jax.scipy.special import gammaln, logit

import jaxloss as jl

PAGE = "peers.md"
SAME = [(library, *row) for library, columns, rows in pages.tables(PAGE) if len(columns) == 2 for row in rows]
DIFFERENT = [
    (library, *row) for library, columns, rows in pages.tables(PAGE) if len(columns) == 5 for row in rows
]


def rows_of(*libraries):
    """What the page says is the same, without the table of the names."""
    chosen = [row[1:] for row in SAME if row[0] in libraries]
    return pytest.mark.parametrize(("there", "here"), chosen, ids=[there for there, _ in chosen])


# --- what a call reads ------------------------------------------------------------------------------


def arrays():
    rng = np.random.default_rng(0)
    rows, classes = 15, 5
    flags, ids = rng.integers(0, 2, rows).astype(float), rng.permutation(np.arange(rows) % classes)
    means = rng.uniform(0.3, 3, rows)
    marks = rng.permuted(np.arange(classes) % 2 * np.ones((rows, 1)), axis=1)
    factor = rng.normal(size=(4, 4))
    first, second, third = rng.normal(size=(3, rows, 4))
    return {
        "predictions": rng.normal(0, 2, rows),
        "targets": rng.normal(0, 2, rows),
        "means": means,
        "log_means": np.log(means),
        "variances": rng.uniform(0.3, 3, rows),
        "amounts": rng.uniform(0.3, 3, rows),
        "counts": rng.integers(0, 5, rows).astype(float),
        "scores": rng.normal(0, 2, rows),
        "chances": rng.uniform(0.05, 0.95, rows),
        "flags": flags,
        "signs": 2 * flags - 1,
        "soft": rng.uniform(0, 1, rows),
        "logits": rng.normal(0, 2, (rows, classes)),
        "log_shares": np.log(rng.dirichlet(np.ones(classes), rows)),
        "shares": rng.dirichlet(np.ones(classes), rows),
        "ids": ids,
        "one_hot": np.eye(classes)[ids],
        "marks": marks,
        "lists": np.argsort(-marks, axis=1, kind="stable") * (-np.sort(-marks) > 0) - (-np.sort(-marks) == 0),
        "weights": rng.uniform(0.3, 3, classes),
        "first": first,
        "second": second,
        "third": third,
        "covariance": factor @ factor.T + np.eye(4),
        "images": rng.normal(size=(3, 4, 5, 3)),
        "pixels": np.eye(3)[rng.integers(0, 3, (3, 4, 5))],
        "frames": rng.normal(size=(6, 12, 5)),
        "words": rng.integers(1, 5, (6, 4)),
        "kernel": rng.normal(size=(4, 5)),
    }


ARRAYS = arrays()
# What a model computes, in whose gradients the libraries are compared.
COMPUTED = [
    "predictions",
    "means",
    "log_means",
    "variances",
    "scores",
    "chances",
    "logits",
    "log_shares",
    "first",
    "second",
    "third",
    "images",
    "frames",
    "kernel",
]
FAMILIES = {name: vars(jl)[name] for name in {card.split(".")[0] for card in jl._loss.CARDS}}
OURS = FAMILIES | {
    "mean": jl.mean,
    "sum": jl.sum,
    "cross_entropy": jl.cross_entropy,
    "gammaln": gammaln,
    "cholesky": jnp.linalg.cholesky,
    "squares": lambda a, b: jnp.sum((a - b) ** 2, axis=-1),
    "logsumexp": jax.nn.logsumexp,
    "logit": logit,
    "minimum": jnp.minimum,
    "stack": jnp.stack,
    "fused": jl.fused,
}
FUNCTIONS = {
    "log": jnp.log,
    "exp": jnp.exp,
    "sqrt": jnp.sqrt,
    "ones": jnp.ones,
    "inf": jnp.inf,
    "pi": jnp.pi,
    "array": jnp.array,
    "arange": jnp.arange,
    "softmax": jax.nn.softmax,
    "concatenate": jnp.concatenate,
}


def array(values, dtype=None):
    """As JAX has it by default: 32 bits."""
    plain = np.asarray(values)
    return jnp.asarray(plain, dtype or (np.float32 if plain.dtype.kind == "f" else np.int32))


def named(cell, names):
    return [name for name in names if re.search(rf"\b{name}\b", cell)]


def value_and_gradients(cell, scope):
    """Of a call written down, in JAX: the value, and the gradients of its sum in what a model computes."""

    @jax.jit
    def run(given):
        def total(given):
            value = eval(cell.strip("`"), scope | FUNCTIONS | ARRAYS | given)
            return jnp.sum(value), value

        return jax.grad(total, has_aux=True)(given)

    gradients, value = run({name: jnp.asarray(ARRAYS[name]) for name in named(cell, COMPUTED)})
    return value, gradients


def as_here(here, value, gradients=None, *, relative=1e-9):
    """The call here answers this; and has these gradients, where there are any to compare."""
    answer, slopes = value_and_gradients(here, OURS)
    np.testing.assert_allclose(answer, value, rtol=relative, atol=1e-12)
    if gradients is not None:
        assert slopes.keys() == gradients.keys()
        for name, gradient in gradients.items():
            np.testing.assert_allclose(slopes[name], gradient, rtol=relative, atol=relative / 10)


# --- torch ------------------------------------------------------------------------------------------


@functools.cache
def torchs():
    torch = pytest.importorskip("torch", reason="the peer is torch: `pip install torch`")
    names = ("tensor", "log", "exp", "log_softmax", "inf")
    squares = {"squares": lambda a, b: ((a - b) ** 2).sum(-1)}
    found = vars(torch.nn) | {"functional": torch.nn.functional}
    return found | {name: getattr(torch, name) for name in names} | squares


@rows_of("torch.nn")
def test_it_is_torchs(there, here):
    tensor = torchs()["tensor"]
    given = {name: tensor(array) for name, array in ARRAYS.items()}
    lengths = [tensor([extent] * 6) for extent in (ARRAYS["frames"].shape[1], ARRAYS["words"].shape[1])]
    leaves = {name: given[name].requires_grad_() for name in named(there, COMPUTED)}
    value = eval(there.strip("`"), torchs() | given | {"lengths": lengths})
    value.sum().backward()
    as_here(here, value.detach().numpy(), {name: leaf.grad.numpy() for name, leaf in leaves.items()})


def test_every_loss_of_torch_is_on_the_page():
    names = {name for name in torchs() if name.endswith("Loss")}
    assert len(names) > 20
    assert not [
        name for name in names if f"{name}(" not in pages.read(PAGE) and f"`{name}`" not in pages.read(PAGE)
    ]


# --- Keras ------------------------------------------------------------------------------------------


def unit(vectors):
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


@functools.cache
def kerass():
    keras = pytest.importorskip("keras", reason="the peer is Keras: `pip install keras`")
    if keras.config.backend() != "jax":
        pytest.skip("Keras was imported before with another backend")
    return vars(keras.losses) | {"unit": unit, "sigmoid": jax.nn.sigmoid}


@pytest.fixture
def in_doubles():
    keras = pytest.importorskip("keras", reason="the peer is Keras: `pip install keras`")
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


@rows_of("Keras")
def test_it_is_kerass(there, here, in_doubles):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = value_and_gradients(there, kerass())
    as_here(here, *theirs, relative=2e-6)  # Keras adds 1e-7 here and there


def test_every_loss_of_keras_is_on_the_page():
    classes = {name for name, found in kerass().items() if inspect.isclass(found)} - {"Loss"}
    assert len(classes) > 20
    assert not [name for name in classes if f"`{name}(" not in pages.read(PAGE)]


# --- jaxopt -----------------------------------------------------------------------------------------


@functools.cache
def jaxopts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it says that it is no longer developed
        module = pytest.importorskip("jaxopt.loss", reason="the peer is jaxopt: `pip install jaxopt`")
        from jaxopt import objective
    losses = {name: found for name, found in vars(module).items() if name.endswith("_loss")}
    found = losses | {name: made for name, made in vars(objective).items() if not inspect.isclass(made)}
    return found | {"vmap": jax.vmap, "partial": functools.partial, "logsumexp": jax.nn.logsumexp}


@rows_of("jaxopt", "jaxopt.objective")
def test_it_is_jaxopts(there, here):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = value_and_gradients(there, jaxopts())
    as_here(here, *theirs)


def test_every_loss_of_jaxopt_is_on_the_page():
    losses = {name for name in jaxopts() if name.endswith("_loss")}
    assert len(losses) > 8
    assert not [name for name in losses if f"({name}" not in pages.read(PAGE)]
    objectives = {name for name in vars(importlib.import_module("jaxopt.objective")) if name.islower()}
    objectives = {name for name in objectives if not name.startswith("__")}
    assert len(objectives) > 7
    assert not [name for name in objectives if f"`{name}" not in pages.read(PAGE)]


# --- scikit-learn and SciPy -------------------------------------------------------------------------


@functools.cache
def sklearns():
    losses = pytest.importorskip("sklearn._loss.loss", reason="the peer is scikit-learn")
    import sklearn.metrics
    from scipy.special import expit, softmax

    functions = {"log": np.log, "exp": np.exp, "expit": expit, "softmax": softmax}
    return vars(sklearn.metrics) | vars(losses) | functions


@functools.cache
def scipys():
    stats = pytest.importorskip("scipy.stats", reason="the peer is SciPy")
    from scipy import special
    from scipy.spatial.distance import jensenshannon

    names = ("huber", "pseudo_huber", "rel_entr", "kl_div")
    found = vars(stats) | {name: getattr(special, name) for name in names}
    return found | {"jensenshannon": jensenshannon, "exp": np.exp, "sqrt": np.sqrt}


@rows_of("scikit-learn")
def test_it_is_scikit_learns(there, here):
    as_here(here, eval(there.strip("`"), sklearns() | ARRAYS))


@rows_of("SciPy")
def test_it_is_scipys(there, here):
    as_here(here, eval(there.strip("`"), scipys() | ARRAYS))


@functools.cache
def sgds():
    """The losses of the stochastic gradient descent, of a row each, and their derivatives."""
    module = pytest.importorskip("sklearn.linear_model", reason="the peer is scikit-learn")
    return module.SGDRegressor.loss_functions | module.SGDClassifier.loss_functions


@rows_of("SGDClassifier and SGDRegressor")
def test_it_is_that_of_scikit_learns_gradient_descent(there, here):
    kind, *options = sgds()[there.strip('`"').removeprefix('loss="')]
    peer, (predicted,) = kind(*options), named(here, COMPUTED)
    rows = ARRAYS[predicted]
    if hasattr(peer, "py_loss"):  # of a row: it takes −1 and 1
        pairs = list(zip(rows, ARRAYS["signs" if predicted == "scores" else "targets"], strict=True))
        losses, slopes = (np.array([f(*pair) for pair in pairs]) for f in (peer.py_loss, peer.py_dloss))
    else:  # one that it shares with its boosted trees: 0 and 1
        losses, slopes = np.empty((2, len(rows)))
        labels = ARRAYS["flags" if predicted == "scores" else "targets"]
        peer.loss_gradient(labels, rows, None, losses, slopes)
    as_here(here, losses, {predicted: slopes})


def test_every_loss_of_scikit_learn_is_on_the_page():
    page = pages.read(PAGE)
    base = sklearns()["BaseLoss"]
    losses = [
        name
        for name, found in sklearns().items()
        if inspect.isclass(found) and issubclass(found, base) and found is not base and "Array" not in name
    ]
    assert len(losses) > 8
    assert not [name for name in losses if f"`{name}(" not in page]
    assert not [name for name in sgds() if f'`loss="{name}"`' not in page]
    metrics = [
        name
        for name in dir(sys.modules["sklearn.metrics"])
        if name.endswith(("_loss", "_error", "_deviance"))
    ]
    assert len(metrics) > 15
    assert not [name for name in metrics if f"`{name}" not in page]
    ensembles = vars(importlib.import_module("sklearn.ensemble"))
    boosted = [found for name, found in ensembles.items() if "GradientBoosting" in name]
    names = {name for found in boosted for name in found._parameter_constraints["loss"][0].options}
    assert len(names) > 6
    assert not [name for name in names if f'"{name}"' not in page]


# --- what differs -----------------------------------------------------------------------------------

JAX = FUNCTIONS | {"array": array}
PEERS = {
    "torch.nn": torchs,
    "Keras": lambda: kerass() | JAX,
    "jaxopt": lambda: jaxopts() | JAX,
    "scikit-learn": sklearns,
    "SciPy": scipys,
}


@pytest.mark.parametrize("row", DIFFERENT, ids=lambda row: row[1])
def test_a_difference_is_as_the_page_says(row):
    library, there, their_answer, here, our_answer, why = row
    assert their_answer != our_answer
    assert why
    for call, told, scope in ((there, their_answer, PEERS[library]()), (here, our_answer, OURS | JAX)):
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            np.errstate(all="ignore"),
        ):
            if told in pages.EXCEPTIONS:
                with pytest.raises(pages.EXCEPTIONS[told]):
                    eval(call.strip("`"), dict(scope))
            else:
                pages.assert_answers(eval(call.strip("`"), dict(scope)), told)


# --- the names on the cards --------------------------------------------------------------------------


PREFIXES = {
    "torch.nn": "torch",
    "Keras": "keras",
    "jaxopt": "jaxopt",
    "scikit-learn": "sklearn",
    "SciPy": "scipy",
}
# What a line begins with; torch's functions are its classes, and the root of a mean is none.
NAMES = re.compile(r"`-?(?:vmap\()?(?:partial\()?(?!functional|root_)(\w+)")


def test_a_loss_that_has_an_equal_here_is_named_on_its_card():
    cards, found = jl._loss.CARDS, {}
    for library, there, here in SAME:
        name = NAMES.match(there)
        if library in PREFIXES and name:
            losses = [cards[loss] for loss in re.findall(r"\w+\.\w+", here) if loss in cards]
            peers = {peer for card in losses for peer in card.peers if peer.startswith(PREFIXES[library])}
            named = name[1].lower() in {peer.split(".")[-1].lower() for peer in peers}
            found[library, name[1]] = found.get((library, name[1]), False) or named
    assert len(found) > 90
    assert not [name for name, named in found.items() if not named]
