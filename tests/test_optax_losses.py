"""`adapters.optax_losses` beside `optax.losses`: names, signatures, values, gradients, every difference."""

import contextlib
import doctest
import functools
import importlib
import inspect
import pickle
import sys
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pages
import programs
import pytest
from jax import lax

optax = pytest.importorskip("optax", reason="compares with Optax")
if tuple(map(int, optax.__version__.split(".")[:3])) < (0, 2, 8):
    pytest.skip("the names and signatures are those of Optax 0.2.8", allow_module_level=True)

from jaxloss import checked  # noqa: E402
from jaxloss.adapters import optax_losses as ours  # noqa: E402

NAMES = [
    name for name in dir(optax.losses) if not name.startswith("_") and callable(getattr(optax.losses, name))
]


@pytest.fixture(scope="module", autouse=True)
def _quickly():
    """Small programs, run once: what they cost is their compilation."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@contextlib.contextmanager
def as_users_have_it():
    """Optax promotes and broadcasts as JAX does by default."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


# --- names and signatures -------------------------------------------------------------------------


def test_the_names_are_those_of_optax():
    assert sorted(ours.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_are_those_of_optax(name):
    def arguments(function):
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert arguments(getattr(ours, name)) == arguments(getattr(optax.losses, name))


def test_the_loss_that_is_made_takes_what_that_of_optax_takes():
    made, theirs = (module.make_fenchel_young_loss(jnp.max) for module in (ours, optax.losses))
    kinds = [[(p.name, p.kind) for p in inspect.signature(f).parameters.values()] for f in (made, theirs)]
    assert kinds[0] == kinds[1]


# --- value and gradient, every name with all its options ------------------------------------------

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 4, 3))
SCORES = 2 * RNG.normal(size=(4, 3))
SHARES = RNG.dirichlet(np.ones(3), size=4)
LOG_SHARES = np.log(RNG.dirichlet(np.ones(3), size=4))
SOFT, SIGNS, BITS = RNG.uniform(size=(4, 3)), np.sign(RNG.normal(size=(4, 3))), RNG.integers(2, size=(4, 3))
IDS = np.array([2, 0, 1, 1])
KEPT = np.array([[True, True, False], [True, True, True], [False, True, True], [False, False, False]])
ROWS = np.array([True, False, True, True])
# Not at the mask's place of the label, which is infinitely wrong here, and of KEPT's empty row any.
THERE = np.array([1, 0, 1, 1])
IMAGE, PIXELS = RNG.normal(size=(2, 4, 5, 3)), np.eye(3)[RNG.integers(3, size=(2, 4, 5))]
WEIGHTS = np.array([0.2, 1, 3], np.float32)
CHANCES = RNG.dirichlet(np.ones(3), size=(2, 4, 5))
MAP, MARKS = RNG.normal(size=(2, 4, 5)), RNG.integers(2, size=(2, 4, 5)).astype(float)
FRAMES = RNG.normal(size=(3, 6, 4))
FRAME_PADDINGS = np.array([[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1]], float)
SAID, SAID_PADDINGS = (
    np.array([[1, 2, 3], [3, 1, 0], [2, 0, 0]]),
    np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1]], float),
)
OTHER_BLANK = {"blank_id": 3, "log_epsilon": -1e6}
GRADES = RNG.integers(4, size=(4, 3)).astype(float)
A, B, C = RNG.normal(size=(3, 4, 3))


def forward_probabilities(losses, z):
    """The losses, and the probabilities of labels that there are and can be: the others are some −1e5."""
    found, *logs = losses.ctc_loss_with_forward_probs(z, FRAME_PADDINGS, SAID, SAID_PADDINGS)
    lengths = np.sum(SAID_PADDINGS == 0, axis=1, keepdims=True)
    meant = np.arange(4) <= lengths, np.arange(3) < lengths
    shown = [jnp.where((log > -5e4) & there, log, 0) for log, there in zip(logs, meant, strict=True)]
    return jnp.concatenate([found, *map(jnp.ravel, shown)])


def smooth_maximum(z, sharpness=1.0):
    return jax.nn.logsumexp(sharpness * z) / sharpness


def old_name(losses, *arrays, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return losses.convex_kl_divergence(*arrays, **options)


# By name: what is differentiated, and every way to call it.
CALLS = {
    "squared_error": (
        (X, Y),
        [lambda m, x, y: m.squared_error(x, y), lambda m, x, y: m.squared_error(x * y)],
    ),
    "l2_loss": ((X, Y), [lambda m, x, y: m.l2_loss(x, y), lambda m, x, y: m.l2_loss(x * y)]),
    "huber_loss": (
        (X, Y),
        [
            lambda m, x, y: m.huber_loss(x, y),
            lambda m, x, y: m.huber_loss(x * y),
            lambda m, x, y: m.huber_loss(x, y[0], delta=0.3),
            lambda m, x, y: m.huber_loss(x[:, None], y[None]),
        ],
    ),
    "log_cosh": (
        (X, Y),
        [
            lambda m, x, y: m.log_cosh(x, y),
            lambda m, x, y: m.log_cosh(x * y),
            lambda m, x, y: m.log_cosh(x[0], y),
        ],
    ),
    "cosine_similarity": (
        (X, 0.4 * Y),
        [
            lambda m, x, y: m.cosine_similarity(x, y),
            lambda m, x, y: m.cosine_similarity(x, y, axis=(0, 1), where=KEPT[1]),
            lambda m, x, y: m.cosine_similarity(x[None], y[:, None], epsilon=0.7),
        ],
    ),
    "cosine_distance": (
        (X, 0.4 * Y),
        [
            lambda m, x, y: m.cosine_distance(x, y, epsilon=0.7),
            lambda m, x, y: m.cosine_distance(x, y, axis=0, where=KEPT, epsilon=1e-3),
            lambda m, x, y: m.cosine_distance(x, y, axis=None),
        ],
    ),
    "sigmoid_binary_cross_entropy": (
        (SCORES, SOFT),
        [
            lambda m, x, y: m.sigmoid_binary_cross_entropy(x, y),
            lambda m, x, _: m.sigmoid_binary_cross_entropy(x, BITS),
            lambda m, x, y: m.sigmoid_binary_cross_entropy(x, y[0]),
        ],
    ),
    "sigmoid_focal_loss": (
        (SCORES, SOFT),
        [
            lambda m, x, y: m.sigmoid_focal_loss(x, y),
            lambda m, x, y: m.sigmoid_focal_loss(x, y, alpha=0.3, gamma=0.5),
            lambda m, x, _: m.sigmoid_focal_loss(x, BITS[0], gamma=0.0),
        ],
    ),
    "hinge_loss": (
        (SCORES, SIGNS),
        [lambda m, x, y: m.hinge_loss(x, y), lambda m, x, y: m.hinge_loss(x, y[0])],
    ),
    "perceptron_loss": ((SCORES, SIGNS), [lambda m, x, y: m.perceptron_loss(x, y)]),
    "sparsemax_loss": (
        (SCORES,),
        [lambda m, x: m.sparsemax_loss(x, BITS), lambda m, x: m.sparsemax_loss(x, BITS[0] == 1)],
    ),
    "softmax_cross_entropy": (
        (SCORES, SHARES),
        [
            lambda m, x, y: m.softmax_cross_entropy(x, y),
            lambda m, x, y: m.softmax_cross_entropy(x, 3 * y[0], axis=None),
            lambda m, x, _: m.softmax_cross_entropy(x, np.eye(3, dtype=int)[[1, 1, 1, 2]], where=KEPT),
            lambda m, x, y: m.softmax_cross_entropy(x, lax.stop_gradient(y), -1, ROWS),
            lambda m, x, y: m.softmax_cross_entropy(x, lax.stop_gradient(y), axis=(1, 0), where=KEPT),
            lambda m, x, y: m.softmax_cross_entropy(x, lax.stop_gradient(y), axis=0, where=KEPT[1]),
        ],
    ),
    "safe_softmax_cross_entropy": (
        (SCORES, SHARES),
        [
            lambda m, x, y: m.safe_softmax_cross_entropy(x, y),
            lambda m, x, _: m.safe_softmax_cross_entropy(
                jnp.where(KEPT[:3], x[:3], -jnp.inf), jnp.array([0, 1, 0], x.dtype)
            ),
        ],
    ),
    "softmax_cross_entropy_with_integer_labels": (
        (SCORES,),
        [
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(x, IDS),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(x, IDS.astype(np.uint8)),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(x, IDS[:1]),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(x[:1], IDS),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(x, THERE, where=KEPT),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(x, IDS, where=ROWS),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(
                x, np.array([2, 0, 3]), axis=0, where=ROWS[:, None]
            ),
            lambda m, x: m.softmax_cross_entropy_with_integer_labels(
                jnp.stack([x, 2 * x]), np.array([0, 7]), axis=(2, 1), where=np.stack([KEPT, ~KEPT])
            ),
        ],
    ),
    "poly_loss_cross_entropy": (
        (SCORES, SHARES),
        [
            lambda m, x, y: m.poly_loss_cross_entropy(x, y),
            lambda m, x, y: m.poly_loss_cross_entropy(x, 3 * y[0], epsilon=-1.5, axis=0),
            lambda m, x, y: m.poly_loss_cross_entropy(x, lax.stop_gradient(y), where=KEPT | ~ROWS[:, None]),
            lambda m, x, y: m.poly_loss_cross_entropy(x, lax.stop_gradient(y), axis=None, where=KEPT),
        ],
    ),
    "multiclass_hinge_loss": (
        (SCORES,),
        [
            lambda m, x: m.multiclass_hinge_loss(x, IDS),
            lambda m, x: m.multiclass_hinge_loss(x[0], IDS[0]),
            lambda m, x: m.multiclass_hinge_loss(x, IDS[0]),
            lambda m, x: m.multiclass_hinge_loss(x, np.stack([IDS, 2 - IDS])),
        ],
    ),
    "multiclass_perceptron_loss": (
        (SCORES,),
        [
            lambda m, x: m.multiclass_perceptron_loss(x, IDS),
            lambda m, x: m.multiclass_perceptron_loss(x[0], IDS[0]),
            lambda m, x: m.multiclass_perceptron_loss(x[0], IDS),
        ],
    ),
    "multiclass_sparsemax_loss": ((SCORES,), [lambda m, x: m.multiclass_sparsemax_loss(x, IDS)]),
    "make_fenchel_young_loss": (
        (SCORES, Y),
        [
            lambda m, x, y: m.make_fenchel_young_loss(jax.nn.logsumexp)(x, y),
            lambda m, x, y: m.make_fenchel_young_loss(smooth_maximum)(x, y[0], sharpness=2.0),
        ],
    ),
    "ranking_softmax_loss": (
        (SCORES, GRADES),
        [
            lambda m, x, y: m.ranking_softmax_loss(x, y),
            lambda m, x, y: m.ranking_softmax_loss(x, y, where=KEPT, weights=np.float32(SOFT)),
            lambda m, x, y: m.ranking_softmax_loss(x, y, where=KEPT, reduce_fn=None),
            lambda m, x, y: m.ranking_softmax_loss(x, y, where=KEPT, reduce_fn=jnp.sum),
            lambda m, x, y: m.ranking_softmax_loss(x, y, where=np.zeros_like(KEPT)),
            lambda m, x, _: m.ranking_softmax_loss(x[0], BITS[0]),
        ],
    ),
    "smooth_labels": (
        (SHARES,),
        [
            lambda m, x: m.smooth_labels(x, 0.2),
            lambda m, x: m.smooth_labels(x, 0.2, axis=0),
            lambda m, x: m.smooth_labels(x, 0.2, axis=None),
            lambda m, x: m.smooth_labels(x, 0.2, where=KEPT | ~ROWS[:, None] | ROWS[:, None]),
            lambda m, x: m.smooth_labels(x, 0.2, axis=(0, 1), where=KEPT),
        ],
    ),
    "kl_divergence": (
        (LOG_SHARES, SHARES),
        [
            lambda m, x, y: m.kl_divergence(x, y),
            lambda m, x, y: m.kl_divergence(x, 2 * y[0]),
            lambda m, x, y: m.kl_divergence(x, y, axis=0, where=KEPT),
            lambda m, x, y: m.kl_divergence(x, y, None, KEPT[0]),
        ],
    ),
    "kl_divergence_with_log_targets": (
        (LOG_SHARES, np.log(SHARES)),
        [
            lambda m, x, y: m.kl_divergence_with_log_targets(x, y),
            lambda m, x, y: m.kl_divergence_with_log_targets(x, 2 * y[0]),
            lambda m, x, y: m.kl_divergence_with_log_targets(x, y, axis=0, where=KEPT),
            lambda m, x, y: m.kl_divergence_with_log_targets(x, y, None, KEPT[0]),
        ],
    ),
    "generalized_kl_divergence": (
        (SCORES, 4 * SHARES),
        [
            lambda m, x, y: m.generalized_kl_divergence(x, y),
            lambda m, x, y: m.generalized_kl_divergence(x, 2 * y[0]),
            lambda m, x, y: m.generalized_kl_divergence(x, y, axis=0, where=KEPT),
            lambda m, x, y: m.generalized_kl_divergence(x, y, None, KEPT[0]),
        ],
    ),
    "convex_kl_divergence": ((SCORES, 4 * SHARES), [lambda m, x, y: old_name(m, x, y, axis=0, where=KEPT)]),
    "ctc_loss": (
        (FRAMES,),
        [lambda m, z: m.ctc_loss(z, FRAME_PADDINGS, (SAID - 1) % 4, SAID_PADDINGS, **OTHER_BLANK)],
    ),
    "ctc_loss_with_forward_probs": ((FRAMES,), [forward_probabilities]),
    "dice_loss": (
        (IMAGE, PIXELS),
        [
            lambda m, x, y: m.dice_loss(x, y),
            lambda m, x, y: m.dice_loss(x, y, alpha=0.3, beta=0.7, smooth=0.1, reduction="sum", axis=1),
            lambda m, x, y: m.dice_loss(x[0], y[0], class_weights=WEIGHTS, reduction="none"),
            lambda m, x, y: m.dice_loss(x, y, ignore_background=True, axis=(0, 1, 2), smooth=0.0),
            lambda m, x, y: m.dice_loss(x[..., 0], y[..., :1], ignore_background=True),
            lambda m, x, y: m.dice_loss(x[..., :1], y[..., 0]),
        ],
    ),
    "multiclass_generalized_dice_loss": (
        (IMAGE, PIXELS),
        [
            lambda m, x, y: m.multiclass_generalized_dice_loss(x, y),
            lambda m, x, y: m.multiclass_generalized_dice_loss(x, y, smooth=0.2, ignore_background=True),
        ],
    ),
    "binary_dice_loss": (
        (MAP, MARKS),
        [
            lambda m, x, y: m.binary_dice_loss(x, y),
            lambda m, x, y: m.binary_dice_loss(x[..., None], y[..., None], smooth=0.3),
        ],
    ),
    "ntxent": (
        (X,),
        [
            lambda m, x: m.ntxent(x, np.array([0, 0, 1, 1])),
            lambda m, x: m.ntxent(x, np.array([2, 2, 2, 5]), temperature=0.5),
            lambda m, x: m.ntxent(x, np.array([0.5, 0.5, 1.5, 0.5]), 0.2),
        ],
    ),
    "triplet_margin_loss": (
        (A, B, C),
        [
            lambda m, a, b, c: m.triplet_margin_loss(a, b, c),
            lambda m, a, b, c: m.triplet_margin_loss(a, b, c, 0, 4, 2.0, 0.1),
            lambda m, a, b, c: m.triplet_margin_loss(a, b[0], c, eps=0.0, margin=3.0),
        ],
    ),
}


def test_every_name_is_called():
    assert CALLS.keys() == set(NAMES)


def values_and_gradients(losses, name, arrays):
    """Of every call: what it returns, and the gradient of a weighted sum of it in each argument."""
    found = []
    for call in CALLS[name][1]:
        value, pulled_back = jax.vjp(functools.partial(call, losses), *arrays)
        weights = np.cos(np.arange(value.size)).reshape(value.shape).astype(value.dtype)
        found.append((value, pulled_back(jnp.asarray(weights))))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_those_of_optax(name):
    """Optax's in float64, for both dtypes."""
    narrow = [np.asarray(array, np.float32) for array in CALLS[name][0]]
    wide = [np.asarray(array, np.float64) for array in narrow]
    with as_users_have_it():
        wanted = jax.jit(lambda arrays: values_and_gradients(optax.losses, name, arrays))(wide)
        found = jax.jit(lambda *both: [values_and_gradients(ours, name, arrays) for arrays in both])(
            narrow, wide
        )
    for tolerance, each in zip((1e-5, 1e-10), found, strict=True):
        jax.tree.map(functools.partial(assert_same, tolerance=tolerance), each, wanted)


def assert_same(found, wanted, *, tolerance):
    assert found.shape == wanted.shape
    assert found.dtype == (jnp.float64 if tolerance < 1e-8 else jnp.float32)
    size = float(np.max(np.abs(wanted), initial=0))
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * size)


# One more: a reduction that may be anybody's is called as it is, and options are checked before what they
# enter is run. `make_fenchel_young_loss` runs the given function, which may not be compiled at all.
PROGRAMS = {"ranking_softmax_loss": 2, "triplet_margin_loss": 2, "ntxent": 3}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "make_fenchel_young_loss"])
def test_an_eager_call_is_one_program(name):
    arrays, (call, *_) = CALLS[name]
    arrays = [jnp.asarray(array, jnp.float32) for array in arrays]
    if name == "ctc_loss_with_forward_probs":

        def call(m, z):
            return m.ctc_loss_with_forward_probs(z, FRAME_PADDINGS, SAID, SAID_PADDINGS)[0]

    assert programs.compilations(call, ours, *arrays) <= PROGRAMS.get(name, 1)


@pytest.mark.parametrize(
    "name",
    [
        "softmax_cross_entropy",
        "safe_softmax_cross_entropy",
        "poly_loss_cross_entropy",
        "softmax_cross_entropy_with_integer_labels",
        "kl_divergence",
        "kl_divergence_with_log_targets",
        "generalized_kl_divergence",
        "cosine_similarity",
        "cosine_distance",
        "triplet_margin_loss",
    ],
)
def test_a_batch_without_rows_has_no_losses(name):
    count = len(CALLS[name][0])
    arrays = [jnp.zeros((0, 3)), jnp.zeros(0, int)] if count == 1 else [jnp.zeros((0, 3))] * count
    assert jax.eval_shape(getattr(ours, name), *arrays).shape == (0,)


def test_a_loss_is_pickled_by_its_name():
    assert all(pickle.loads(pickle.dumps(loss)) is loss for loss in map(vars(ours).get, NAMES))


def test_given_probabilities_are_those_of_optax():
    """Not under `jit`, where Optax's check of them cannot be traced."""
    with as_users_have_it():
        found, wanted = (
            m.dice_loss(jnp.asarray(CHANCES), jnp.asarray(PIXELS), apply_softmax=False)
            for m in (ours, optax.losses)
        )
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_it_needs_no_promotion_of_ranks_or_dtypes():
    """The suite's own configuration refuses both."""
    logits, targets = jnp.asarray(IMAGE, jnp.float32), jnp.asarray(PIXELS, jnp.int32)
    overlap, distance, surprise = jax.eval_shape(
        lambda z, t: (
            ours.dice_loss(z, t),
            ours.huber_loss(z, t[0], delta=2),
            ours.softmax_cross_entropy(z, t, where=jnp.ones((2, 4, 5), bool)),
        ),
        logits,
        targets,
    )
    assert overlap.dtype == jnp.float32
    assert distance.shape == logits.shape
    assert surprise.shape == (2, 4, 5)


# --- Optax's own examples -------------------------------------------------------------------------


def examples():
    """The doctests of Optax's modules and of what they define."""
    finder = doctest.DocTestFinder(recurse=False)
    modules = [
        importlib.import_module(f"optax.losses._{name}")
        for name in (
            "classification",
            "fenchel_young",
            "ranking",
            "regression",
            "segmentation",
            "self_supervised",
        )
    ]
    objects = [*modules, *(getattr(optax.losses, name) for name in NAMES)]
    found = [test for item in objects for test in finder.find(item, item.__name__, module=False)]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_of_optaxs_documentation_prints_the_same_here(example, monkeypatch):
    stand_in = types.ModuleType("optax")
    stand_in.losses = ours
    for name in NAMES:
        setattr(stand_in, name, getattr(ours, name))
    monkeypatch.setitem(sys.modules, "optax", stand_in)
    monkeypatch.setitem(sys.modules, "optax.losses", ours)
    example.globs = {"optax": stand_in, "jax": jax, "jnp": jnp}
    told = []
    with np.printoptions(), as_users_have_it(), jax.enable_x64(False):
        outcome = doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert not outcome.failed, "".join(told)


def test_there_are_examples_of_every_kind():
    assert {"optax.losses._ranking", "softmax_cross_entropy", "triplet_margin_loss"} <= {
        e.name for e in examples()
    }


# --- the differences, as `docs/optax.md` lists them -----------------------------------------------

(TABLE,) = (rows for _, columns, rows in pages.tables("optax.md") if columns[1] == "call")


def answer_of(losses, call):
    names = {name: getattr(losses, name) for name in NAMES}
    names |= {"array": jnp.array, "zeros": jnp.zeros, "log": jnp.log, "inf": jnp.inf, "nan": jnp.nan}
    with as_users_have_it(), jax.enable_x64(False):
        return eval(call.strip("`"), names | {"grad": jax.grad, "jacfwd": jax.jacfwd})


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[1].strip("`"))
def test_a_difference_is_as_the_table_says(row):
    """Numbers by one program for both: an operation at a time is a program for each."""
    name, call, theirs, here, why = row
    assert f"{name}(" in call or f"({name}" in call
    assert theirs != here
    assert why
    numbers = []
    for losses, told in ((optax.losses, theirs), (ours, here)):
        if told in pages.EXCEPTIONS:
            with pytest.raises(pages.EXCEPTIONS[told]):
                answer_of(losses, call)
        elif told in {"bfloat16", "float32"}:
            assert answer_of(losses, call) == jnp.dtype(told)
        else:
            numbers.append((losses, told))
    answers = jax.jit(lambda: [answer_of(losses, call) for losses, _ in numbers])()
    for answer, (_, told) in zip(answers, numbers, strict=True):
        pages.assert_answers(answer, told)


def test_the_page_names_every_loss():
    """Those that differ in nothing are said to."""
    page = pages.read("optax.md")
    assert not [name for name in NAMES if name not in page]


# --- what only ours has ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "whole"),
    [
        (((3, 4), (4,)), (3, 4)),
        (((4,), (3, 4)), (3, 4)),
        (((3, 1), (1, 4)), (3, 4)),
        (((3, 4), ()), (3, 4)),
        (((3, 1), (3, 4)), (3, 4)),
    ],
)
def test_leading_axes_and_axes_of_size_one_broadcast(shapes, whole):
    assert ours.log_cosh(*map(jnp.zeros, shapes)).shape == whole


@pytest.mark.parametrize("shapes", [((4, 1), (4,)), ((4,), (4, 1)), ((2, 1, 3), (2, 3)), ((3,), (4,))])
@pytest.mark.parametrize(
    "name",
    ["huber_loss", "sigmoid_focal_loss", "hinge_loss", "sparsemax_loss", "kl_divergence", "cosine_distance"],
)
def test_a_product_of_shapes_is_refused_in_words(name, shapes):
    with pytest.raises(ValueError, match=rf"{name}: `\w+` \([\d, ]+\) and `\w+` \([\d, ]+\) "):
        getattr(ours, name)(*map(jnp.ones, shapes))


MASKED = {
    "softmax_cross_entropy": (SCORES, SHARES),
    "softmax_cross_entropy_with_integer_labels": (SCORES,),
    "poly_loss_cross_entropy": (SCORES, SHARES),
    "ranking_softmax_loss": (SCORES, SHARES),
    "kl_divergence": (LOG_SHARES, SHARES),
    "kl_divergence_with_log_targets": (LOG_SHARES, LOG_SHARES),
    "generalized_kl_divergence": (LOG_SHARES, SHARES),
    "cosine_distance": (X, Y),
    "cosine_similarity": (X, Y),
}


@pytest.mark.parametrize("name", MASKED)
def test_nan_behind_a_mask_reaches_no_value_and_no_gradient(name):
    hidden = [np.where(KEPT, array, np.nan) for array in MASKED[name]]
    ids = () if len(hidden) == 2 else (THERE,)

    def total(*arrays):
        return jnp.sum(getattr(ours, name)(*arrays, *ids, where=KEPT))

    of = jax.jit(jax.value_and_grad(total, argnums=tuple(range(len(hidden)))))
    jax.tree.map(np.testing.assert_array_equal, of(*hidden), of(*MASKED[name]))
    assert np.all(np.isfinite(of(*hidden)[0]))


@pytest.mark.parametrize("name", [*MASKED, "smooth_labels"])
def test_weights_are_no_mask(name):
    """Optax refuses them as well, but in `smooth_labels`."""
    arrays = (SHARES, 0.1) if name == "smooth_labels" else MASKED[name]
    ids = () if len(arrays) == 2 else (THERE,)
    with pytest.raises(TypeError, match=rf"{name}: `where` must be bool, got float"):
        getattr(ours, name)(*map(jnp.asarray, arrays), *ids, where=jnp.asarray(SOFT))


@pytest.mark.parametrize("name", ["multiclass_hinge_loss", "softmax_cross_entropy_with_integer_labels"])
def test_a_product_of_rows_is_refused_in_words(name):
    with pytest.raises(ValueError, match=r"(would make|must have the rows' shape)"):
        getattr(ours, name)(jnp.ones((4, 3)), jnp.ones((4, 1), int))


def test_a_label_that_is_no_class_is_named_under_checked():
    loss = checked(ours.softmax_cross_entropy_with_integer_labels)
    with pytest.raises(ValueError, match=r"`labels` must be in \[0, 3\), got -1 at flat index 1"):
        loss(jnp.asarray(SCORES), jnp.array([0, -1, 1, 2]))


def test_focal_has_a_second_derivative_where_the_logits_are_certain():
    logits, labels = np.float32([100, -100, 75, -75, 50, -50]), np.float32([0.9, 0.1, 0.8, 0.2, 1, 0])

    def total(z):
        each = [ours.sigmoid_focal_loss(z, labels, gamma=gamma) for gamma in (0.0, 0.5, 2.0)]
        return jnp.sum(jnp.stack(each), axis=0)

    slope = jax.grad(lambda z: jnp.sum(total(z)))
    _, curvatures = jax.jit(lambda z: jax.jvp(slope, (z,), (jnp.ones_like(z),)))(logits)
    assert np.all(np.isfinite(curvatures))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.dice_loss(jnp.asarray(IMAGE), jnp.asarray(PIXELS), reduction="max"), "mean, sum, none"),
        (
            lambda: ours.dice_loss(jnp.asarray(IMAGE), jnp.asarray(PIXELS), class_weights=jnp.ones(2)),
            "class_weights",
        ),
        pytest.param(
            lambda: ours.squared_error(jnp.zeros(3), jnp.zeros(1)),
            "must have one shape",
            marks=pytest.mark.worded,
        ),
    ],
)
def test_what_fits_nothing_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.worded
def test_integer_labels_are_not_smoothed():
    with pytest.raises(TypeError, match="`labels` must be floating point, got int"):
        ours.smooth_labels(jnp.eye(3, dtype=int), 0.1)


def test_the_old_name_is_deprecated():
    with pytest.warns(DeprecationWarning, match="use generalized_kl_divergence"):
        ours.convex_kl_divergence(jnp.zeros(3), jnp.ones(3))
