"""What a card claims is attacked; what it does not claim fails on a stored example."""

import dataclasses

import numpy as np
import pytest
import support
from hypothesis import given
from hypothesis import strategies as st
from oracles import CASES, EVIDENCE, ROWS, Case, Data

from jaxloss._loss import CARDS, Claims

PLAIN = {name: [case for case in CASES if case.loss == name and case.plain] for name in CARDS}
DISTRIBUTIONS = {"log_predictions", "log_probabilities"}

# A bound not claimed is beaten by a stored example: a gradient, a loss or a ratio as large as this.
BEYOND = {"lipschitz": 1e3, "smooth": 1e6, "bounded": 1e3}


# Claims that say nothing of a kind of loss, or of one loss, and why: there they are neither made nor refuted.
_SYMMETRIC = "its arguments mean different things"
_SHIFTED = "its arguments have no common origin"
_BEST = "its prediction is more than one number"
_GROWS = "it grows with the number of classes, whose pairs it makes"
_TARGET = "its prediction does not say what the target says"
_LONGER = "its bound is another for each length of a list"
_LENGTH = "it grows with the length of the sequence"
MEANINGLESS = {
    "likelihood": {
        "symmetric": _SYMMETRIC,
        "shift_invariant": _SHIFTED,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
    },
    "deviance": {"symmetric": _SYMMETRIC, "shift_invariant": _SHIFTED, "elicits": "log links, see its tests"},
    "multilabel": {"shift_invariant": _SHIFTED, "elicits": _BEST, "zero_at_target": _TARGET},
    "ordinal": {
        "symmetric": "classes have an order",
        "shift_invariant": _SHIFTED,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
    },
    "segmentation": {"shift_invariant": _SHIFTED, "elicits": _BEST, "zero_at_target": _TARGET},
    "embedding": {
        "symmetric": _SYMMETRIC,
        "shift_invariant": _SHIFTED,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
    },
    "contrastive": {
        "symmetric": _SYMMETRIC,
        "shift_invariant": _SHIFTED,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
    },
    "ranking": {
        "symmetric": _SYMMETRIC,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
        "lipschitz": _LONGER,
        "smooth": _LONGER,
    },
    "sequence": {
        "symmetric": _SYMMETRIC,
        "shift_invariant": _SHIFTED,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
        "lipschitz": _LENGTH,
        "smooth": _LENGTH,
    },
}


_BY_CLASSES = "it grows with the logarithm of the number of classes"
_BY_ROWS = "as many anchors may pull a row as a batch has"
_BY_PIXELS = "its steepest point depends on how many pixels and classes there are"
_BY_EPSILON = "its steepest point depends on epsilon, and on how many features there are"
# The same for single losses, unlike the rest of their kind.
MEANINGLESS_FOR = {
    "metric.arcface": {"bounded": _BY_CLASSES},
    "metric.cosface": {"bounded": _BY_CLASSES},
    "metric.batch_hard_triplet": {"lipschitz": _BY_ROWS},
    **{
        f"segmentation.{name}": {"lipschitz": _BY_PIXELS, "smooth": _BY_PIXELS}
        for name in ("dice", "generalized_dice", "tversky", "focal_tversky", "jaccard")
    },
    "contrastive.barlow_twins": {"lipschitz": _BY_EPSILON, "smooth": _BY_EPSILON},
    "quantile.interval_score": {"symmetric": _SYMMETRIC, "elicits": _BEST, "zero_at_target": _TARGET},
    "divergence.gaussian_kl": {
        "symmetric": _SYMMETRIC,
        "shift_invariant": _SHIFTED,
        "elicits": _BEST,
        "zero_at_target": _TARGET,
    },
    "multilabel.margin": {"lipschitz": _GROWS},
    "ordinal.squared_emd": {"lipschitz": _GROWS, "smooth": _GROWS},
    "divergence.distillation": {"symmetric": _SYMMETRIC, "elicits": "its targets are logits"},
}
# And of a loss that couples the rows of a batch.
COUPLED = {"bounded": "its bound is another for each size of a batch"}


def meaningless(name: str) -> dict[str, str]:
    """The claims that say nothing of a loss, each with the reason."""
    coupled = any(case.couples for case in CASES if case.loss == name)
    of_kind = MEANINGLESS.get(CARDS[name].task, {}) | (COUPLED if coupled else {})
    return of_kind | MEANINGLESS_FOR.get(name, {})


def means_something(name: str, claim: str) -> bool:
    return claim not in meaningless(name)


def claiming(claim: str):
    """The cases of every card that makes the claim."""
    cases = [case for name, card in CARDS.items() for case in PLAIN[name] if _makes(card.claims, claim)]
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def not_claiming(claim: str):
    names = [n for n, card in CARDS.items() if not _makes(card.claims, claim) and means_something(n, claim)]
    return pytest.mark.parametrize("name", names)


def _makes(claims: Claims, claim: str) -> bool:
    return not any(getattr(claims, claim) is absent for absent in (False, None))


def claims_of(case: Case) -> Claims:
    return CARDS[case.loss].claims


def first_argument(case_or_name) -> str:
    name = case_or_name if isinstance(case_or_name, str) else case_or_name.loss
    return next(iter(CARDS[name].domain))


def has_log_targets(name: str) -> bool:
    return "log_targets" in CARDS[name].domain


def values_and_slopes(name: str, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Each row's loss, and its gradient as a vector."""
    losses, gradient = support.rows_and_slope(CARDS[name].loss)(data, dict(EVIDENCE[name].options))
    return np.asarray(losses), np.asarray(gradient).reshape(ROWS, -1)


def values(name: str, data: Data) -> np.ndarray:
    return values_and_slopes(name, data)[0]


def slopes(name: str, data: Data) -> np.ndarray:
    return values_and_slopes(name, data)[1]


def steepness(name: str, data: Data) -> np.ndarray:
    return np.linalg.norm(slopes(name, data), axis=-1)


def ratios(name: str, a: Data, b: Data) -> np.ndarray:
    """How fast the gradient changes from one prediction to another, and with what rounding error."""
    moved = np.linalg.norm((a[0] - b[0]).reshape(ROWS, -1), axis=-1)
    change = np.linalg.norm(slopes(name, a) - slopes(name, b), axis=-1)
    return np.divide(change, moved, out=np.zeros(ROWS), where=moved > 0)


def scale(case: Case, data: Data) -> np.ndarray:
    return case.value_scale(data, dict(EVIDENCE[case.loss].options))


# --- every claim is decided -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(CARDS))
def test_every_claim_not_made_has_its_counterexample(name):
    fields = {field.name for field in dataclasses.fields(Claims)} - {"elicits"}
    unclaimed = {
        claim for claim in fields if not _makes(CARDS[name].claims, claim) and means_something(name, claim)
    }
    assert unclaimed == set(EVIDENCE[name].refuted_by)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_no_claim_is_made_that_says_nothing(name):
    assert not any(_makes(CARDS[name].claims, claim) for claim in meaningless(name))


@pytest.mark.parametrize("name", sorted(CARDS))
def test_every_bound_claimed_has_its_extremal_point(name):
    claimed = {claim for claim in BEYOND if _makes(CARDS[name].claims, claim)}
    assert claimed == set(EVIDENCE[name].attained)


# --- signs and zeros --------------------------------------------------------------------------------


@claiming("non_negative")
@support.EVERY_EXAMPLE
@given(st.data())
def test_no_loss_is_negative(case, data):
    drawn, _ = data.draw(support.drawn(case))
    # Distributions sum to 1 but for a rounding.
    rounding = 4 * support.DOUBLE_ULP if first_argument(case) in DISTRIBUTIONS else 0.0
    assert np.all(values(case.loss, drawn) >= -1e-14 * scale(case, drawn) - rounding)


@not_claiming("non_negative")
def test_a_loss_not_claimed_non_negative_is_negative_somewhere(name):
    assert np.all(values(name, EVIDENCE[name].refuted_by["non_negative"]) < 0)


def agreeing(case: Case, targets: np.ndarray) -> np.ndarray:
    """The prediction that says what the targets say."""
    argument = first_argument(case)
    if claims_of(case).zero_at_target and CARDS[case.loss].task == "categorical":
        return saying(case.loss, targets if targets.ndim > 1 else np.eye(5)[targets])
    if argument == "scores":
        return 1e4 * targets
    if argument == "logits":
        return linked(case.loss, targets, almost=0.0)
    if CARDS[case.loss].task == "deviance":
        # Through the links that the losses have by default.
        return _log_odds(targets, 0.0) if case.loss == "deviance.binomial" else _log(targets)
    return _log(targets) if argument in DISTRIBUTIONS and not has_log_targets(case.loss) else targets


def _log(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


def _tempered(shares):
    with np.errstate(divide="ignore"):
        return (1 - shares**-0.2) / 0.2


SAYING = {
    "categorical.perceptron": np.sign,
    "categorical.entmax15": lambda t: 2 * np.sqrt(t),
    "categorical.bi_tempered_logistic": _tempered,
}


def saying(name: str, shares: np.ndarray) -> np.ndarray:
    """The logits that a loss without a softmax takes for these shares of the classes."""
    return SAYING.get(name, lambda t: t)(shares)


@claiming("zero_at_target")
@support.EVERY_EXAMPLE
@given(st.data())
def test_a_prediction_that_says_what_the_target_says_costs_nothing(case, data):
    (_, targets), _ = data.draw(support.drawn(case))
    found = (agreeing(case, targets), targets)
    costs = np.abs(values(case.loss, found))
    assert np.all((costs == 0) | (costs <= 1e-14 * scale(case, found)))


@not_claiming("zero_at_target")
def test_an_agreement_not_claimed_free_costs_something_somewhere(name):
    assert np.all(values(name, EVIDENCE[name].refuted_by["zero_at_target"]) > 0.1)


# --- symmetries -------------------------------------------------------------------------------------


def mirrored(name: str, data: Data, seed: int = 0) -> Data:
    """Predictions and targets in each other's place; labels and classes renamed."""
    first, second = data
    of_classes = CARDS[name].task == "segmentation" and name != "segmentation.lovasz_hinge"
    if CARDS[name].task == "categorical" or of_classes:
        order = np.random.default_rng(seed).permutation(first.shape[-1])
        by_class = second.ndim == first.ndim
        return first[..., order], second[..., order] if by_class else np.argsort(order)[second]
    return {
        "predictions": lambda: (second, first),
        "log_predictions": lambda: (
            (second, first) if has_log_targets(name) else (np.log(second), np.exp(first))
        ),
        "logits": lambda: (-first, 1 - second),
        "probabilities": lambda: (1 - first, 1 - second),
        "scores": lambda: (-first, -second),
    }[first_argument(name)]()


@claiming("symmetric")
@given(st.data())
def test_a_symmetric_loss_is_its_mirror_image(case, data):
    drawn, _ = data.draw(support.drawn(case, calm=True))
    found = mirrored(case.loss, drawn, data.draw(st.integers(0, 99)))
    support.close(
        values(case.loss, found), values(case.loss, drawn), scale(case, drawn), 1e-12, square=case.quadratic
    )


@not_claiming("symmetric")
def test_a_loss_not_claimed_symmetric_differs_from_its_mirror_image(name):
    example = EVIDENCE[name].refuted_by["symmetric"]
    assert np.all(np.abs(values(name, mirrored(name, example)) - values(name, example)) > 1e-3)


def shifted(name: str, data: Data, by: float) -> Data:
    """A constant added to all logits, or to predictions and targets."""
    together = first_argument(name) in ("predictions", "log_predictions", "probabilities", "lower")
    return (data[0] + by, *(array + by if together else array for array in data[1:]))


@claiming("shift_invariant")
@given(st.data())
def test_a_shift_invariant_loss_does_not_see_a_shift(case, data):
    (first, *rest), _ = data.draw(support.drawn(case, calm=True))
    # On a grid of 2⁻¹⁰ the shift itself is exact.
    drawn = tuple(
        np.round(x * 1024) / 1024 if x is first or x.ndim == first.ndim == 1 else x for x in (first, *rest)
    )
    found = shifted(case.loss, drawn, data.draw(st.integers(-4096, 4096)))
    support.close(values(case.loss, found), values(case.loss, drawn), scale(case, drawn), 1e-12)


@not_claiming("shift_invariant")
def test_a_loss_not_claimed_shift_invariant_sees_a_shift(name):
    example, by = EVIDENCE[name].refuted_by["shift_invariant"]
    assert not np.any(np.abs(values(name, shifted(name, example, by)) - values(name, example)) <= 1e-3)


# --- curvature --------------------------------------------------------------------------------------


def near(case: Case, logs: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Log-distributions so close that those between them are distributions too, to the slack allowed."""
    with np.errstate(divide="ignore"):
        mixed = np.log(0.9 * np.exp(logs) + 0.1 * np.exp(other))
    return np.where(logs == -np.inf, logs, mixed) if case.loss == "categorical.nll" else mixed


@claiming("convex")
@given(st.data())
def test_a_convex_loss_lies_below_its_chords(case, data):
    (a, *rest), _ = data.draw(support.drawn(case))
    (b, *_), _ = data.draw(support.drawn(case, calm=True))
    if first_argument(case) in DISTRIBUTIONS:
        a, b = b, near(case, b, data.draw(support.drawn(case, calm=True))[0][0])
        rest = data.draw(support.drawn(case, calm=True))[0][1:]
    share = data.draw(st.floats(0.05, 0.95))
    at_a, at_b = (values(case.loss, (x, *rest)) for x in (a, b))
    between = values(case.loss, (share * a + (1 - share) * b, *rest))
    size = np.abs(np.where(np.isfinite(a), a, 0)).reshape(ROWS, -1).max(axis=-1)
    rounding = 1e-13 * (np.abs(at_a) + np.abs(at_b)) + 1e-15 * size * sum(
        steepness(case.loss, (x, *rest)) for x in (a, b)
    )
    assert np.all(between <= share * at_a + (1 - share) * at_b + rounding)


@not_claiming("convex")
def test_a_loss_not_claimed_convex_rises_above_a_chord(name):
    a, b = EVIDENCE[name].refuted_by["convex"]
    middle = (0.5 * (a[0] + b[0]), *a[1:])
    assert np.all(values(name, middle) > 0.5 * (values(name, a) + values(name, b)) + 1e-3)


# --- bounds -----------------------------------------------------------------------------------------


@claiming("lipschitz")
@support.EVERY_EXAMPLE
@given(st.data())
def test_no_gradient_exceeds_its_bound(case, data):
    drawn, _ = data.draw(support.drawn(case))
    assert np.all(steepness(case.loss, drawn) <= claims_of(case).lipschitz * (1 + 1e-12))


@claiming("lipschitz")
def test_a_gradient_all_but_reaches_its_bound(case):
    bound = claims_of(case).lipschitz
    assert np.all(steepness(case.loss, EVIDENCE[case.loss].attained["lipschitz"]) >= 0.99 * bound)


@not_claiming("lipschitz")
def test_a_gradient_not_claimed_bounded_is_huge_somewhere(name):
    assert np.all(steepness(name, EVIDENCE[name].refuted_by["lipschitz"]) > BEYOND["lipschitz"])


@claiming("smooth")
@support.EVERY_EXAMPLE
@given(st.data())
def test_no_gradient_changes_faster_than_its_bound(case, data):
    (a, *rest), _ = data.draw(support.drawn(case, calm=True))
    (b, *_), _ = data.draw(support.drawn(case, calm=True))
    apart = np.linalg.norm((a - b).reshape(ROWS, -1), axis=-1) > 1e-6
    found = np.where(apart, ratios(case.loss, (a, *rest), (b, *rest)), 0)
    assert np.all(found <= claims_of(case).smooth * (1 + 1e-9) + 1e-15)


@claiming("smooth")
def test_a_gradient_changes_all_but_as_fast_as_its_bound(case):
    found = ratios(case.loss, *EVIDENCE[case.loss].attained["smooth"])
    assert np.all(found >= 0.99 * claims_of(case).smooth)


@not_claiming("smooth")
def test_a_gradient_not_claimed_smooth_jumps_somewhere(name):
    assert np.all(ratios(name, *EVIDENCE[name].refuted_by["smooth"]) > BEYOND["smooth"])


@claiming("bounded")
@support.EVERY_EXAMPLE
@given(st.data())
def test_no_value_exceeds_its_bound(case, data):
    drawn, _ = data.draw(support.drawn(case))
    assert np.all(values(case.loss, drawn) <= claims_of(case).bounded * (1 + 1e-12))


@claiming("bounded")
def test_a_value_all_but_reaches_its_bound(case):
    assert np.all(
        values(case.loss, EVIDENCE[case.loss].attained["bounded"]) >= 0.99 * claims_of(case).bounded
    )


@not_claiming("bounded")
def test_a_value_not_claimed_bounded_is_huge_somewhere(name):
    assert np.all(values(name, EVIDENCE[name].refuted_by["bounded"]) > BEYOND["bounded"])


# --- the best constant ------------------------------------------------------------------------------


def most_common(sample: np.ndarray) -> np.ndarray:
    found, counts = np.unique(sample, return_counts=True, axis=0)
    return found[np.argmax(counts)]


STATISTICS = {
    "mean": lambda sample: np.mean(sample, axis=0),
    "median": lambda sample: np.median(sample, axis=0),
    "mode": most_common,
    "log1p mean": lambda sample: np.expm1(np.mean(np.log1p(np.maximum(sample, -0.999)), axis=0)),
}
ALMOST = 1e-9
SAMPLE_SIZE = 11


# The log-odds of label 1 in a score or a logit.
LOG_ODDS = {
    "binary.cross_entropy": 1,
    "binary.focal": 1,
    "binary.poly1": 1,
    "binary.brier": 1,
    "binary.logistic": 1,
    "binary.exponential": 2,
    "binary.savage": 2,
}


def _log_odds(p, almost):
    p = np.clip(p, almost, 1 - almost)
    return _log(p) - _log(1 - p)


# A loss to which equal logits say everything that a target may.
FLAT = {"categorical.perceptron"}


def linked(name: str, statistic: np.ndarray, almost: float = ALMOST) -> np.ndarray:
    """The prediction that says a statistic of the targets."""
    argument = first_argument(name)
    if CARDS[name].claims.zero_at_target and CARDS[name].task == "categorical" and name not in FLAT:
        return saying(name, statistic)
    if name in LOG_ODDS:
        share = statistic if argument == "logits" else (1 + statistic) / 2
        return _log_odds(share, almost) / LOG_ODDS[name]
    if name == "binary.sparsemax":
        return 2 * statistic - 1
    if CARDS[name].task == "categorical" or argument == "log_predictions":
        return np.log(np.maximum(statistic, ALMOST) / np.sum(np.maximum(statistic, ALMOST)))
    return statistic


def totals(name: str, constants: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """The summed loss of each of several constants `[rivals, ...]`."""
    labels = np.argmax(sample, axis=-1) if CARDS[name].task == "categorical" else sample
    labels = np.log(labels) if has_log_targets(name) else labels
    predictions = np.broadcast_to(constants[:, None], (len(constants), *sample.shape))
    targets = np.broadcast_to(labels, (len(constants), *labels.shape))
    losses = support.rows(CARDS[name].loss)((predictions, targets), dict(EVIDENCE[name].options))
    return np.asarray(losses).sum(axis=-1)


def lowest_and_rivals(name: str, statistic: str, sample: np.ndarray, seeds) -> tuple[float, np.ndarray]:
    """The summed loss of the constant that says a statistic of a sample, and that of other constants."""
    best = linked(name, STATISTICS[statistic](sample))
    constants = np.concatenate([np.asarray(best)[None], *(rivals(name, best, seed) for seed in seeds)])
    lowest, *others = totals(name, constants, sample)
    return lowest, np.array(others)


def rivals(name: str, best: np.ndarray, seed: int, count: int = 256) -> np.ndarray:
    """Other predictions of the domain, near and far."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-4, 1, (count,) + (1,) * np.ndim(best))
    moved = best + size * rng.normal(size=(count, *np.shape(best)))
    argument, task = first_argument(name), CARDS[name].task
    if argument == "probabilities":
        return np.clip(moved, ALMOST, 1 - ALMOST)
    if argument in DISTRIBUTIONS:
        return moved - np.log(np.sum(np.exp(moved), axis=-1, keepdims=True))
    if task == "divergence":
        return np.abs(moved) / np.sum(np.abs(moved), axis=-1, keepdims=True)
    return np.maximum(moved, -0.999) if name == "regression.squared_log_error" else moved


def samples(name: str) -> st.SearchStrategy[np.ndarray]:
    """Targets for a constant prediction, as numbers or as distributions."""
    size = {"min_size": SAMPLE_SIZE, "max_size": SAMPLE_SIZE}
    return {
        "regression": st.lists(st.floats(-0.9, 5), **size).map(np.array),
        "binary": st.lists(st.sampled_from([0.0, 1.0]), **size).map(lambda x: np.array([0.0, 1.0, *x[2:]])),
        "margin": st.lists(st.sampled_from([-1.0, 1.0]), **size).map(lambda x: np.array([-1.0, 1.0, *x[2:]])),
        "categorical": st.lists(st.integers(0, 4), **size).map(lambda x: np.eye(5)[np.r_[0:5, x[5:]]]),
        "divergence": next(case for case in CASES if case.loss == "divergence.kl").calm.map(
            lambda x: x[0][1]
        ),
    }[CARDS[name].task]


@pytest.mark.parametrize("name", [name for name, card in CARDS.items() if card.claims.elicits])
@given(st.data())
def test_no_constant_beats_the_statistic_a_loss_elicits(name, data):
    seed = data.draw(st.integers(0, 10**6))
    lowest, others = lowest_and_rivals(name, CARDS[name].claims.elicits, data.draw(samples(name)), [seed])
    assert np.all(lowest <= others + 1e-12 * np.abs(others))


ELICITS_NOTHING = [
    name for name, card in CARDS.items() if card.claims.elicits is None and means_something(name, "elicits")
]


@pytest.mark.parametrize("name", ELICITS_NOTHING)
@pytest.mark.parametrize("statistic", STATISTICS)
def test_some_constant_beats_a_statistic_that_a_loss_does_not_claim_to_elicit(name, statistic):
    sample = EVIDENCE[name].sample
    sample = np.eye(5)[sample] if CARDS[name].task == "categorical" else sample
    lowest, others = lowest_and_rivals(name, statistic, sample, range(8))
    assert np.min(others) < lowest * (1 - 1e-9)
