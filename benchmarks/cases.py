"""What is compared with what, on which data, by which truth, and how fast it has to be."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxloss as jl
from benchmarks import by_hand, truth
from benchmarks.contrastive_cases import CASES as CONTRASTIVE_CASES
from benchmarks.fused_cases import FUSED_CASES
from benchmarks.harness import (
    LIMIT,
    OURS,
    Case,
    Contender,
    Function,
    Inputs,
    Target,
    compiled,
    eager,
    imported,
    torch_autograd,
)
from benchmarks.training_cases import TRAINING_CASES

# --- data -------------------------------------------------------------------------------------


def _generator() -> np.random.Generator:
    return np.random.default_rng(0)


def _rows(*, quick: bool) -> int:
    return 4_000 if quick else 8_000_000


def _real_pairs(*, quick: bool) -> Inputs:
    """Predictions and targets whose residuals lie on both sides of huber's corner."""
    random = _generator()
    return tuple(random.standard_normal(_rows(quick=quick), np.float32) for _ in range(2))


def _binary_pairs(*, quick: bool) -> Inputs:
    """Logits, and labels 0 or 1 in float32."""
    random = _generator()
    logits = 3 * random.standard_normal(_rows(quick=quick), np.float32)
    return logits, (random.random(_rows(quick=quick), np.float32) < 0.5).astype(np.float32)


def _classified(*, quick: bool) -> Inputs:
    """Logits [2048, 32000] and class ids."""
    random = _generator()
    rows, classes = (16, 300) if quick else (2048, 32_000)
    logits = 3 * random.standard_normal((rows, classes), np.float32)
    return logits, random.integers(0, classes, rows, np.int32)


def _masked(inputs: Callable[..., Inputs]) -> Callable[..., Inputs]:
    """The same data and a mask that keeps 70 % of the rows."""

    def with_mask(*, quick: bool) -> Inputs:
        data = inputs(quick=quick)
        return *data, _generator().random(data[1].shape) < 0.7

    return with_mask


def _weighted_pairs(*, quick: bool) -> Inputs:
    """Logits and labels of two classes, and a weight a row."""
    logits, labels = _binary_pairs(quick=quick)
    return logits, labels, _generator().random(labels.shape, np.float32)


def _spoken(*, quick: bool) -> Inputs:
    """Logits [32, 256, 128], and 64 labels a row, none of them the blank 0."""
    random = _generator()
    rows, frames, labels, classes = (3, 24, 5, 9) if quick else (32, 256, 64, 128)
    logits = random.standard_normal((rows, frames, classes), np.float32)
    return logits, random.integers(1, classes, (rows, labels), np.int32)


def _few_pairs(**_: bool) -> Inputs:
    """32 predictions and targets."""
    return tuple(array[:32] for array in _real_pairs(quick=True))


def _few_binary(**_: bool) -> Inputs:
    """32 logits and labels."""
    return tuple(array[:32] for array in _binary_pairs(quick=True))


def _few_classified(**_: bool) -> Inputs:
    """Logits [32, 10] and class ids."""
    random = _generator()
    return random.standard_normal((32, 10), np.float32), random.integers(0, 10, 32, np.int32)


def _nothing(**_: bool) -> Inputs:
    return ()


# --- contenders ---------------------------------------------------------------------------------


def _average(loss: Function) -> Function:
    return lambda p, t, weights: jnp.average(loss(p, t), weights=weights)


def _mean_where(loss: Function) -> Function:
    """The masked mean of anybody's loss, as one writes it: a sum of `where` over a count."""
    return lambda p, t, kept: jnp.sum(jnp.where(kept, loss(p, t), 0)) / jnp.sum(kept)


def _mean(loss: Function) -> Function:
    return lambda p, t: jnp.mean(loss(p, t))


def _ours_where(loss: Function) -> Function:
    return lambda p, t, kept: jl.mean(loss)(p, t, where=kept)


def _differentiated(name: str, objective: Function) -> Contender:
    return Contender(name, jax.value_and_grad(objective), compiled)


def _torch(name: str) -> Contender:
    """PyTorch's mean of the same loss, with autograd."""

    def objective(first: Any, second: Any) -> Any:
        import torch

        second = second.long() if name == "cross_entropy" else second
        return getattr(torch.nn.functional, name)(first, second)

    return Contender("torch", objective, torch_autograd, needs="torch")


def _torch_categorical_where(z: Any, ids: Any, kept: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(z, torch.where(kept, ids.long(), -100), ignore_index=-100)


def _optax_ctc(z: jax.Array, ids: jax.Array) -> jax.Array:
    return optax.ctc_loss(z, jnp.zeros(z.shape[:2]), ids, jnp.zeros(ids.shape))


def _torch_ctc(z: Any, ids: Any) -> Any:
    import torch

    log_shares = torch.log_softmax(z, -1).transpose(0, 1)
    frames, labels = ([count] * len(ids) for count in (z.shape[1], ids.shape[1]))
    losses = torch.nn.functional.ctc_loss(log_shares, ids.long(), frames, labels, reduction="none")
    return losses.mean()


def _limit(touch: Function) -> Contender:
    """Every input read once, the gradient's bytes written once, and nothing else: this machine's best."""
    return Contender(LIMIT, touch, compiled, answers=False)


def _add(p: jax.Array, t: jax.Array) -> jax.Array:
    return p + t


def _select(p: jax.Array, t: jax.Array, kept: jax.Array) -> jax.Array:
    return jnp.where(kept, p, t)


def _shift(z: jax.Array, ids: jax.Array) -> jax.Array:
    return z + ids.astype(z.dtype)[:, None]


def _shift_where(z: jax.Array, ids: jax.Array, kept: jax.Array) -> jax.Array:
    return jnp.where(kept[:, None], z, ids.astype(z.dtype)[:, None])


_ONE_CALL = Contender(LIMIT, jax.jit(_add), eager, answers=False)
_ONE_CATEGORICAL_CALL = Contender(LIMIT, jax.jit(_shift), eager, answers=False)

# --- targets ------------------------------------------------------------------------------------

BY_HAND, WHERE, UNMASKED = "by hand", "where", f"{OURS}, no mask"

_MEANS = (Target(1.0, "optax"), Target(1.15, BY_HAND))
_MASKED_MEANS = (Target(1.3, WHERE),)
_FIVE_TIMES_OPTAX = (Target(0.2, "optax"),)


def _mean_case(
    name: str,
    title: str,
    inputs: Callable[..., Inputs],
    rows: Function,
    ours: Function,
    hand: Function,
    theirs: Function,
    torch: str | None = None,
) -> Case:
    """value_and_grad of a mean over 8 million rows."""
    return Case(
        name,
        f"{title}, value and gradient of the mean",
        inputs,
        truth.mean_of(rows),
        (
            _differentiated(OURS, jl.mean(ours)),
            Contender(BY_HAND, hand, compiled),
            _differentiated("optax", _mean(theirs)),
            *([_torch(torch)] if torch else []),
            _limit(_add),
        ),
        _MEANS,
    )


def _masked_case(
    name: str,
    title: str,
    rows: Function,
    ours: Function,
    plain: Function,
    hand: Function,
    theirs: Function,
) -> Case:
    """value_and_grad of a mean over the kept ones of 8 million rows."""
    return Case(
        name,
        f"{title}, 70 % of rows kept, value and gradient of the mean",
        _masked(_real_pairs),
        truth.mean_of(rows),
        (
            _differentiated(OURS, _ours_where(ours)),
            _differentiated(WHERE, _mean_where(plain)),
            Contender(BY_HAND, hand, compiled),
            _differentiated("optax", lambda p, t, kept: jnp.mean(theirs(p, t), where=kept)),
            _limit(_select),
        ),
        _MASKED_MEANS,
    )


def _eager_case(
    name: str,
    title: str,
    inputs: Callable[..., Inputs],
    rows: Function,
    ours: Function,
    theirs: Function,
    one_call: Contender = _ONE_CALL,
) -> Case:
    """One call outside `jit`; the limit is one call of a compiled function that does next to nothing."""
    return Case(
        name,
        f"{title}, one call outside jit",
        inputs,
        truth.values_of(rows),
        (Contender(OURS, ours, eager), Contender("optax", theirs, eager), one_call),
        _FIVE_TIMES_OPTAX,
    )


CASES: tuple[Case, ...] = (
    _mean_case(
        "mse",
        "squared error",
        _real_pairs,
        truth.squared,
        jl.regression.squared_error,
        by_hand.squared,
        optax.squared_error,
        "mse_loss",
    ),
    _mean_case(
        "mae",
        "absolute error",
        _real_pairs,
        truth.absolute,
        jl.regression.absolute_error,
        by_hand.absolute,
        lambda p, t: jnp.abs(p - t),
        "l1_loss",
    ),
    _mean_case(
        "huber",
        "huber",
        _real_pairs,
        truth.huber,
        jl.robust.huber,
        by_hand.huber,
        optax.huber_loss,
        "huber_loss",
    ),
    _mean_case(
        "binary_cross_entropy",
        "binary cross-entropy",
        _binary_pairs,
        truth.binary,
        jl.binary.cross_entropy,
        by_hand.binary,
        optax.sigmoid_binary_cross_entropy,
        "binary_cross_entropy_with_logits",
    ),
    Case(
        "binary_cross_entropy_weighted",
        "binary cross-entropy, a weight a row, value and gradient of the mean",
        _weighted_pairs,
        truth.mean_of(truth.binary),
        (
            _differentiated(OURS, lambda z, y, w: jl.mean(jl.binary.cross_entropy)(z, y, weights=w)),
            Contender(BY_HAND, by_hand.binary_weighted, compiled),
            _differentiated("optax", _average(optax.sigmoid_binary_cross_entropy)),
            _limit(lambda z, y, w: z + y + w),
        ),
        _MEANS,
    ),
    _mean_case(
        "binary_focal",
        "binary focal",
        _binary_pairs,
        truth.focal,
        jl.binary.focal,
        by_hand.focal,
        lambda z, y: optax.sigmoid_focal_loss(z, y, gamma=2.0),
    ),
    _mean_case(
        "log_cosh",
        "log-cosh",
        _real_pairs,
        truth.log_cosh,
        jl.regression.log_cosh,
        by_hand.log_cosh,
        optax.log_cosh,
    ),
    _masked_case(
        "mse_masked",
        "squared error",
        truth.squared,
        jl.regression.squared_error,
        lambda p, t: jnp.square(p - t),
        by_hand.squared_where,
        optax.squared_error,
    ),
    _masked_case(
        "huber_masked",
        "huber",
        truth.huber,
        jl.robust.huber,
        by_hand.huber_rows,
        by_hand.huber_where,
        optax.huber_loss,
    ),
    Case(
        "cross_entropy",
        "cross-entropy of class ids, value and gradient of the mean",
        _classified,
        truth.mean_of(truth.categorical),
        (
            _differentiated(OURS, jl.cross_entropy),
            Contender(BY_HAND, by_hand.categorical, compiled),
            _differentiated("optax", _mean(optax.softmax_cross_entropy_with_integer_labels)),
            _torch("cross_entropy"),
            _limit(_shift),
        ),
        _MEANS,
    ),
    Case(
        "cross_entropy_masked",
        "cross-entropy of class ids, 70 % of rows kept, value and gradient of the mean",
        _masked(_classified),
        truth.mean_of(truth.categorical),
        (
            _differentiated(OURS, _ours_where(jl.categorical.cross_entropy)),
            Contender(BY_HAND, by_hand.categorical, compiled),
            _differentiated(WHERE, _mean_where(by_hand.categorical_rows)),
            _differentiated("optax", _mean_where(optax.softmax_cross_entropy_with_integer_labels)),
            Contender("torch", _torch_categorical_where, torch_autograd, needs="torch"),
            _differentiated(UNMASKED, lambda z, ids, _: jl.cross_entropy(z, ids))._replace(answers=False),
            _limit(_shift_where),
        ),
        (Target(1.3, WHERE), Target(1.05, UNMASKED)),
    ),
    Case(
        "ctc",
        "CTC, value and gradient of the mean",
        _spoken,
        truth.mean_of(truth.ctc),
        (
            _differentiated(OURS, jl.mean(jl.sequence.ctc)),
            # Their gradients are off by 4e-4 and 9e-4 (unscaled logarithms near -1000): timed all the same.
            _differentiated("optax", _mean(_optax_ctc))._replace(answers=False),
            Contender("torch", _torch_ctc, torch_autograd, answers=False, needs="torch"),
            _limit(lambda z, _: -z),
        ),
        (Target(1.0, "optax"), Target(1.0, "torch")),
    ),
    _eager_case("eager_huber", "huber", _few_pairs, truth.huber, jl.robust.huber, optax.huber_loss),
    _eager_case(
        "eager_binary_cross_entropy",
        "binary cross-entropy",
        _few_binary,
        truth.binary,
        jl.binary.cross_entropy,
        optax.sigmoid_binary_cross_entropy,
    ),
    _eager_case(
        "eager_cross_entropy",
        "cross-entropy of class ids",
        _few_classified,
        truth.categorical,
        jl.categorical.cross_entropy,
        optax.softmax_cross_entropy_with_integer_labels,
        _ONE_CATEGORICAL_CALL,
    ),
    *FUSED_CASES,
    *CONTRASTIVE_CASES,
    *TRAINING_CASES,
    Case(
        "import",
        "import, beyond `import jax`",
        _nothing,
        None,
        (Contender(OURS, "jaxloss", imported), Contender("optax", "optax", imported)),
        (Target(0.1),),
    ),
)
