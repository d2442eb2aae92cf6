"""Every loss, by property, judged by its oracle: one test a property, over all cases."""

import contextlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import support
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import CASES, EVIDENCE, ROWS

import jaxloss as jl
from jaxloss._contracts import REAL, Interval
from jaxloss._loss import CARDS

EACH_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# Of a loss that couples its rows: a mask of its own drops them, and batches are independent.
EACH_CASE_OF_BATCHES = pytest.mark.parametrize(
    "case", [case for case in CASES if case.couples], ids=lambda case: case.name
)
WITH_OPTIONS = pytest.mark.parametrize(
    "case", [case for case in CASES if case.option_gradients], ids=lambda case: case.name
)
# What a program does not change with fewer options is asked of the fullest.
FULLEST_CASES = support.fullest(CASES)
FULLEST = pytest.mark.parametrize("case", FULLEST_CASES, ids=lambda case: case.name)
FULLEST_OF_ROWS = pytest.mark.parametrize(
    "case", [case for case in FULLEST_CASES if not case.couples], ids=lambda case: case.name
)
# Second order is costly to compile: of each loss one case.
LAST_CASE = pytest.mark.parametrize(
    "case", {case.loss: case for case in CASES}.values(), ids=lambda case: case.name
)
# What a mean knows of a loss is what it takes: one loss of each kind.
ONE_OF_A_KIND = pytest.mark.parametrize(
    "case",
    {CARDS[case.loss].task: case for case in CASES if not case.couples}.values(),
    ids=lambda case: case.name,
)
FEW = settings(max_examples=6)
POISON = st.sampled_from([np.nan, np.inf, -np.inf])


# --- nothing public without a judge -----------------------------------------------------------


def public_losses() -> dict:
    found = {}
    for family in vars(jl.losses).values():
        if not isinstance(family, types.ModuleType):
            continue
        name = family.__name__.rsplit(".", 1)[-1]
        found |= {
            f"{name}.{key}": value
            for key, value in vars(family).items()
            if callable(value)
            and not key.startswith("_")
            and f"{getattr(value, '__module__', '')}.".startswith(f"{family.__name__}.")
        }
    return found


@pytest.mark.parametrize("name", sorted(public_losses()))
def test_a_public_loss_has_a_card_an_oracle_and_evidence(name):
    assert name in CARDS
    assert any(case.name.split("/")[0] == name for case in CASES)
    assert name in EVIDENCE


@pytest.mark.parametrize("name", sorted(CARDS))
def test_an_oracle_covers_every_option_of_a_card(name):
    drawn = {option for case in CASES if case.loss == name for option in support.examples(case, 1)[0][1]}
    assert set(CARDS[name].options) <= drawn


@EACH_CASE
def test_a_tolerance_of_its_own_gives_its_reason(case):
    assert case.ulps == 16 or case.ulps_reason


# --- value and gradient -------------------------------------------------------------------------


@EACH_CASE
@support.EVERY_EXAMPLE
@given(st.data())
def test_value_is_the_oracles(case, data):
    support.check_value(support.loss_of(case), case, *data.draw(support.drawn(case)))


@EACH_CASE
@support.EVERY_EXAMPLE
@given(st.data())
def test_autodiff_is_the_closed_form(case, data):
    support.check_gradient(support.loss_of(case), case, *data.draw(support.drawn(case)))


@pytest.mark.parametrize("case", [case for case in CASES if case.more_gradients], ids=lambda case: case.name)
@support.EVERY_EXAMPLE
@given(st.data())
def test_autodiff_by_another_argument_is_the_closed_form(case, data):
    support.check_more_gradients(support.loss_of(case), case, *data.draw(support.drawn(case)))


@WITH_OPTIONS
@support.EVERY_EXAMPLE
@given(st.data())
def test_autodiff_by_a_hyperparameter_is_the_closed_form(case, data):
    support.check_option_gradients(support.loss_of(case), case, *data.draw(support.drawn(case)))


@FULLEST
@FEW
@given(st.data())
def test_autodiff_of_both_orders_and_modes_is_the_finite_difference(case, data):
    support.check_finite_differences(support.loss_of(case), case, *data.draw(support.drawn(case, calm=True)))


@FULLEST
def test_value_under_differentiation_is_the_value(case):
    support.check_value_under_differentiation(support.loss_of(case), support.examples(case))


# --- transformations of JAX -----------------------------------------------------------------------


@FULLEST
@settings(max_examples=3)
@given(st.data())
def test_compiled_is_eager(case, data):
    support.check_eager(support.loss_of(case), case, *data.draw(support.drawn(case)))


@ONE_OF_A_KIND
def test_compiled_is_one_operation_at_a_time(case):
    for data, options in support.examples(case, 2):
        support.check_one_operation_at_a_time(support.loss_of(case), case, data, options)


@FULLEST_OF_ROWS
@settings(max_examples=5)
@given(st.data())
def test_vmap_over_rows_is_the_batch(case, data):
    support.check_vmap(support.loss_of(case), case, *data.draw(support.drawn(case)))


@EACH_CASE_OF_BATCHES
@settings(max_examples=5)
@given(st.data())
def test_vmap_over_batches_is_a_loop(case, data):
    support.check_vmap_of_batches(support.loss_of(case), case, *data.draw(support.drawn(case)))


@FULLEST_OF_ROWS
@FEW
@given(st.data())
def test_a_row_touches_no_other_row(case, data):
    changed = data.draw(st.integers(0, ROWS - 1))
    support.check_rows_independent(support.loss_of(case), case, *data.draw(support.drawn(case)), changed)


@FULLEST_OF_ROWS
def test_sharded_over_eight_devices_is_unsharded(case):
    assert len(jax.devices()) == 8
    for data, options in support.examples(case, 2, calm=True):
        support.check_sharded(support.loss_of(case), case, data, options)


@FULLEST_OF_ROWS
def test_rows_over_a_mesh_of_explicit_axes_are_accepted(case):
    support.check_explicit_axes(support.loss_of(case), case, *support.examples(case, 1, calm=True)[0])


@ONE_OF_A_KIND
def test_a_mean_over_eight_devices_is_that_over_one(case):
    ((data, options),) = support.examples(case, 1, calm=True)
    support.check_mean_of_shards(support.loss_of(case), case, data, options)


# --- precision ----------------------------------------------------------------------------------


@EACH_CASE
@support.EVERY_EXAMPLE
@given(st.data())
def test_float32_is_within_its_ulps(case, data):
    support.check_float32(support.loss_of(case), case, *data.draw(support.drawn(case)))


@FULLEST
def test_bfloat16_is_computed_in_float32_and_its_gradient_rounded_once(case):
    support.check_bfloat16(support.loss_of(case), case, support.examples(case, 6, calm=True))


# --- reductions ---------------------------------------------------------------------------------


@FULLEST
@FEW
@given(st.data())
def test_mean_is_the_mean_of_the_rows_that_count(case, data):
    support.check_mean_is_the_mean(support.loss_of(case), case, *data.draw(support.drawn(case)))


@pytest.mark.parametrize("case", [case for case in CASES if not case.couples], ids=lambda case: case.name)
def test_mean_of_many_rows_and_its_slopes_are_those_of_a_few_and_hide_no_nan(case):
    for data, options in support.examples(case, 1, calm=True):
        support.check_mean_of_many(support.loss_of(case), case, data, options)


@FULLEST
@FEW
@given(st.data())
def test_masked_is_dropped_in_value_and_every_gradient(case, data):
    drawn = data.draw(support.drawn(case))
    removed, value = data.draw(support.removals()), data.draw(POISON)
    weights = support.rng_weights(data.draw(st.integers(0, 99)))
    support.check_masked(support.loss_of(case), case, *drawn, removed, value, weights)


@LAST_CASE
@settings(max_examples=4)
@given(st.data())
def test_masked_is_dropped_in_forward_mode_and_second_order(case, data):
    drawn, removed, value = (
        data.draw(support.drawn(case, calm=True)),
        data.draw(support.removals()),
        data.draw(POISON),
    )
    weights = support.rng_weights(data.draw(st.integers(0, 99)))
    support.check_masked(support.loss_of(case), case, *drawn, removed, value, weights, second=True)


@ONE_OF_A_KIND
@pytest.mark.parametrize("second", [False, True], ids=["first order", "second order"])
def test_removed_rows_might_as_well_not_be_there(case, second):
    (data, options), *_ = support.examples(case, 1, calm=True)
    loss, weights = support.loss_of(case), support.rng_weights(0)
    support.check_masked(loss, case, data, options, [1, 4, 6], np.nan, weights, second=second, drop=True)


@FULLEST
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_kept_is_zero_with_zero_gradients(case, value):
    for data, options in support.examples(case, 1):
        support.check_nothing_kept(support.loss_of(case), case, data, options, value)


@FULLEST_OF_ROWS
@FEW
@given(st.data())
def test_weight_two_is_the_row_twice(case, data):
    support.check_weight_two_is_twice(support.loss_of(case), case, *data.draw(support.drawn(case)))


@FULLEST_OF_ROWS
@FEW
@given(st.data())
def test_microbatches_merged_are_the_whole(case, data):
    support.check_split(support.loss_of(case), case, *data.draw(support.drawn(case)))


@FULLEST
def test_a_nan_in_a_kept_row_is_not_hidden(case):
    (data, options), *_ = support.examples(case, 1, calm=True)
    broken = np.array(data[0])
    broken[2] = np.nan
    options.pop("ignore_index", None)
    options.pop("where", None)
    weights = np.where(np.arange(ROWS) < 4, 1.0, 0.0)
    found = support.weighted_mean(support.loss_of(case), case, (broken, *data[1:]), options, weights)
    assert np.isnan(found["value"])


# --- other people's losses ------------------------------------------------------------------------


def lambda_loss(predictions, targets):
    return jnp.sqrt(jnp.abs(predictions - targets)) * jnp.log(targets)


@pytest.mark.parametrize("loss", [optax.huber_loss, lambda_loss], ids=["optax.huber_loss", "lambda"])
@pytest.mark.parametrize("second", [False, True], ids=["first order", "second order"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_masked_is_dropped_for_anyones_loss(loss, second, value):
    case = next(case for case in CASES if case.name == "robust.huber")
    data = np.linspace(-2, 2, ROWS) + 0.1, np.linspace(1, 3, ROWS) ** 2
    weights = support.rng_weights(0)
    support.check_masked(loss, case, data, {}, [0, 3, 4], value, weights, second=second)


# --- extremes -------------------------------------------------------------------------------------


HUGE = {"regression", "vector", "binary", "margin", "categorical", "likelihood", "embedding", "ranking"}
FREE = [
    case
    for case in CASES
    if CARDS[case.loss].task in HUGE and next(iter(CARDS[case.loss].domain.values())) == REAL
]


@pytest.mark.parametrize("case", FREE, ids=lambda case: case.name)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_float32_gives_the_oracles_value_and_no_nan_gradient(case, sign):
    (data, options), *_ = support.examples(case, 1, calm=True)
    data, options = support.cast(data, np.float32), support.cast(options, np.float32)
    huge = np.array(data[0])
    largest = np.float32(sign * 3e38)
    huge[(..., 0) if case.item_ndim else ...] = largest
    data = (huge, *data[1:])
    loss = support.loss_of(case)
    relative = case.ulps * support.ULP
    scale = case.value_scale(data, options)
    expected = case.values(data, options)
    found, gradient = support.rounded_rows_and_slope(loss)(data, options)
    support.close(found, expected, scale, relative, dtype=np.float32, square=case.quadratic)
    assert not np.any(np.isnan(gradient))


# --- bad input --------------------------------------------------------------------------------------


@FULLEST
@pytest.mark.worded
def test_a_trailing_axis_too_many_is_refused_in_words(case):
    (data, options), *_ = support.examples(case, 1, calm=True)
    with pytest.raises(ValueError, match=case.loss) as refusal:
        support.loss_of(case)(data[0], data[1][..., None], *data[2:], **options)
    assert str(data[0].shape) in str(refusal.value)
    assert str(data[1][..., None].shape) in str(refusal.value)


@FULLEST
@pytest.mark.worded
def test_integer_predictions_are_refused_in_words(case):
    (data, options), *_ = support.examples(case, 1, calm=True)
    card = CARDS[case.loss]
    with pytest.raises(TypeError, match=rf"{case.loss}: `{next(iter(card.domain))}` must be floating point"):
        support.loss_of(case)(np.zeros(data[0].shape, int), *data[1:], **options)


@FULLEST
def test_an_integer_mask_is_refused_in_words(case):
    (data, options), *_ = support.examples(case, 1, calm=True)
    shape = data[0].shape[: data[0].ndim - case.item_ndim]
    options, where = support.masked(case, data, options, np.ones(shape, bool))
    with pytest.raises(TypeError, match="`where` must be bool"):
        jl.mean(support.loss_of(case))(*data, where=where.astype(int), **options)


RANGED = [
    (case, name)
    for case in FULLEST_CASES
    for name in CARDS[case.loss].options
    if name in case.option_gradients
]
OF_NUMBERS = [
    (case, name) for case, name in RANGED if not case.item_ndim and not case.couples and name != "thresholds"
]


def rows_with_a_column(case, name):
    """The shape of the rows, and of the losses where an option has (n, 1) values beside n rows."""
    (data, options), *_ = support.examples(case, 1, calm=True)
    rows = data[0].shape[: data[0].ndim - case.item_ndim]
    options |= {name: np.full((*rows, 1), np.ravel(options[name])[0])}
    with jax.numpy_rank_promotion("allow"):  # as JAX has it by default
        return rows, jax.eval_shape(lambda *data: support.loss_of(case)(*data, **options), *data).shape


@pytest.mark.parametrize(("case", "name"), OF_NUMBERS, ids=lambda x: getattr(x, "name", x))
def test_an_option_with_an_axis_too_many_is_refused_in_words(case, name):
    with pytest.raises(ValueError, match=rf"{case.loss}: .*`{name}` \({ROWS}, (\d+, )?1\)"):
        rows_with_a_column(case, name)


OF_ITEMS = [each for each in RANGED if each not in OF_NUMBERS]


@pytest.mark.parametrize(("case", "name"), OF_ITEMS, ids=lambda x: getattr(x, "name", x))
def test_no_option_broadcasts_beyond_the_rows(case, name):
    with contextlib.suppress(TypeError, ValueError):
        rows, shape = rows_with_a_column(case, name)
        assert shape == rows


OPTIONS = [
    (case, name, side)
    for case in CASES
    for name, domain in CARDS[case.loss].options.items()
    for side in ("low", "high")
    if name in case.option_gradients and isinstance(domain, Interval) and np.isfinite(getattr(domain, side))
]
EACH_OPTION = pytest.mark.parametrize(("case", "name", "side"), OPTIONS, ids=lambda x: getattr(x, "name", x))


def out_of_range(case, name, side):
    (data, options), *_ = support.examples(case, 1, calm=True)
    domain = CARDS[case.loss].options[name]
    beyond = domain.low - 1 if side == "low" else domain.high + 1
    return data, options | {name: np.full_like(np.asarray(options[name], float), beyond)}


@EACH_OPTION
def test_a_concrete_option_out_of_range_is_refused_in_words(case, name, side):
    data, options = out_of_range(case, name, side)
    with pytest.raises(ValueError, match=f"{case.loss}: `{name}` must be in"):
        support.loss_of(case)(*data, **options)


@EACH_OPTION
def test_a_traced_option_out_of_range_is_nan(case, name, side):
    data, options = out_of_range(case, name, side)
    options.pop("ignore_index", None)
    options.pop("class_where", None)
    options.pop("where", None)
    assert np.all(np.isnan(support.rows_and_slope(support.loss_of(case))(data, options)[0]))


VIOLATIONS = [(case, kind) for case in FULLEST_CASES for kind in case.violations]
EACH_VIOLATION = pytest.mark.parametrize(("case", "kind"), VIOLATIONS, ids=lambda x: getattr(x, "name", x))
BAD = 3


def violated(case, kind):
    (data, options), *_ = support.examples(case, 1, calm=True)
    position, value = case.violations[kind]
    broken = [np.array(array) for array in data]
    broken[position][BAD] = value
    options.pop("ignore_index", None)
    options.pop("where", None)
    for mask in {"logit_where", "label_where"} & options.keys():
        options[mask] = np.array(options[mask])
        options[mask][BAD] = True  # nothing of what is bad is masked away
    return data, tuple(broken), options, list(CARDS[case.loss].domain)[position], np.ravel(value)


@EACH_VIOLATION
def test_a_value_outside_its_domain_is_nan_in_its_row_only(case, kind):
    data, broken, options, *_ = violated(case, kind)
    run = support.rows_and_slope(support.loss_of(case))
    for found, sound, what in zip(run(broken, options), run(data, options), ("value", "slope"), strict=True):
        assert np.all(np.isnan(np.asarray(found)[BAD])), what
        support.same(np.delete(found, BAD, 0), np.delete(sound, BAD, 0), what)


@EACH_VIOLATION
def test_a_value_outside_its_domain_is_nan_in_a_mean_of_thousands(case, kind):
    """One among them, in float32, where XLA's CPU compiler has a way of its own: see `check_mean_of_many`."""
    data, broken, options, *_ = violated(case, kind)
    loss, (position, value) = support.loss_of(case), case.violations[kind]
    options = support.cast(options, np.float32)
    many, many_options = support.of_thousands(case, support.cast(data, np.float32), options)
    many[position][len(many[position]) // 2 + BAD] = value
    hidden = ~np.isnan(support.rows_and_slope(loss)(broken, options)[0][BAD])
    assert hidden or np.isnan(support.mean_and_slopes(loss, ())(many, many_options)[0])


@EACH_VIOLATION
def test_checked_names_the_loss_the_argument_and_the_value(case, kind):
    _, broken, options, argument, value = violated(case, kind)
    with pytest.raises(ValueError, match=rf"{case.loss}: `{argument}` must be in .*, got ") as refusal:
        support.checked(support.loss_of(case))(*broken, **options)
    said = str(refusal.value)
    # A whole row is at fault where it does not sum to 1: the first of it is named.
    assert any(f"got {number:g}" in said or f"got {number}" in said for number in value)
