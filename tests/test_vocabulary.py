"""One idea has one name: the signatures, docstrings and cards of all losses, read as data."""

import inspect
import math
import re
import types
import typing

import pytest

import jaxloss as jl
from jaxloss._contracts import Choice, Counts, Interval, Named
from jaxloss._loss import CARDS

# The data arguments, predictions first, by the kind of task.
DATA = {
    ("concentration", "targets"),
    ("cosines", "labels"),
    ("distances", "labels"),
    ("embeddings", "labels"),
    ("first", "second"),
    ("image", "text"),
    ("log_predictions", "log_targets"),
    ("log_predictions", "targets"),
    ("log_probabilities", "labels"),
    ("log_rate", "targets"),
    ("logits", "labels"),
    ("mean", "log_variance"),
    ("predictions", "targets"),
    ("probabilities", "labels"),
    ("queries", "keys"),
    ("samples", "targets"),
    ("scores", "labels"),
    ("student_logits", "teacher_logits"),
    ("anchors", "positives", "labels"),
    ("anchors", "positives", "negatives"),
    ("concentration1", "concentration0", "targets"),
    ("first", "second", "labels"),
    ("loc", "concentration", "targets"),
    ("loc", "scale", "targets"),
    ("logits", "log_rate", "targets"),
    ("lower", "upper", "targets"),
    ("mean", "dispersion", "targets"),
    ("mean", "scale", "targets"),
    ("mean", "scale_tril", "targets"),
    ("mean", "variance", "targets"),
    ("student_logits", "teacher_logits", "labels"),
    ("loc", "scale", "df", "targets"),
    ("logits", "means", "scales", "targets"),
    ("loc", "evidence", "shape", "scale", "targets"),
}
# Every option there is. Those in the second set are data or a choice of rows, and have no range.
NUMERIC = {
    "alpha", "beta", "bias", "c", "class_counts", "class_weights", "clip", "covariance_weight", "delta",
    "end_scores", "epsilon", "evidence_penalty", "expectile", "gamma", "gamma_neg", "gamma_pos",
    "invariance_weight", "label_smoothing", "log_zero", "logit_scale", "margin", "off_diagonal_weight", "p",
    "pos_weight", "power", "prior_log_variance", "prior_mean", "priors", "q", "quantile", "scale", "smooth",
    "start_scores", "student_temperature", "t1", "t2", "teacher_temperature", "temperature", "thresholds",
    "transitions", "trials", "variance_weight", "z_loss",
}  # fmt: skip
OTHER = {
    "blank",
    "centre",
    "class_where",
    "estimator",
    "ignore_index",
    "label_where",
    "link",
    "logit_where",
    "max_fun",
    "swap",
    "where",
    "zero_infinity",
}
# What only the user's data can say: a default would be a silent guess.
REQUIRED = {"class_counts", "priors"}
FAMILIES = {
    name: module
    for name, module in vars(jl).items()
    if isinstance(module, types.ModuleType) and module.__name__ == f"jaxloss.losses.{name}"
}

every_loss = pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)


def parameters(card) -> list[inspect.Parameter]:
    return list(inspect.signature(card.loss).parameters.values())


def options(card) -> list[inspect.Parameter]:
    return [p for p in parameters(card) if p.kind is p.KEYWORD_ONLY]


def documentation(card) -> str:
    return inspect.getdoc(card.loss)


def section(card, name: str) -> str:
    """A section of the docstring, or of the one it refers to with "as for"."""
    document = documentation(card)
    found = re.search(rf"^{name}:\n((?:    .*\n?|\n)+)", document, re.MULTILINE)
    if found:
        return found[1]
    reference = re.search(r"(Args|Args and errors|All else)[^`]* as for `(\w+)`", document)
    return section(CARDS[f"{card.family}.{reference[2]}"], name) if reference else ""


@every_loss
def test_the_data_arguments_are_of_the_vocabulary(card):
    data = tuple(p.name for p in parameters(card) if p.kind is p.POSITIONAL_OR_KEYWORD)
    assert data in DATA


@every_loss
def test_all_that_is_no_data_is_keyword_only(card):
    kinds = [p.kind for p in parameters(card)]
    assert set(kinds[len(card.domain) :]) <= {inspect.Parameter.KEYWORD_ONLY}


@every_loss
def test_every_option_is_of_the_vocabulary(card):
    assert {p.name for p in options(card)} <= NUMERIC | OTHER


@every_loss
def test_every_option_has_a_default(card):
    assert all((p.default is p.empty) == (p.name in REQUIRED) for p in options(card))


def test_the_vocabulary_has_no_word_that_no_loss_uses():
    used = {p.name for card in CARDS.values() for p in options(card)}
    assert used == NUMERIC | OTHER


@every_loss
def test_no_loss_reduces_or_takes_an_axis(card):
    assert not {p.name for p in parameters(card)} & {
        "reduction",
        "axis",
        "reduce",
        "size_average",
        "keepdims",
    }


@every_loss
def test_no_name_says_that_a_loss_is_a_loss(card):
    assert not card.name.endswith("loss")


@every_loss
def test_a_loss_is_found_under_its_name(card):
    family, name = card.name.split(".")
    assert getattr(getattr(jl, family), name) is card.loss


def within(function: object, module: str) -> bool:
    """Whether it is defined in the module, or in one of those it is divided into."""
    return f"{function.__module__}.".startswith(f"{module}.")


def public(module: types.ModuleType) -> dict[str, object]:
    """The functions a family defines without an underscore."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and within(value, module.__name__)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_function_of_a_family_has_a_card(family):
    assert {f"{family}.{name}" for name in public(FAMILIES[family])} <= set(CARDS)


def test_every_family_with_a_card_is_on_the_face():
    assert {card.family for card in CARDS.values()} == set(FAMILIES)


# --- the signature --------------------------------------------------------------------------------


@every_loss
def test_every_argument_is_annotated(card):
    assert all(p.annotation is not p.empty for p in parameters(card))


@every_loss
def test_the_annotations_survive_the_decorator(card):
    hints = typing.get_type_hints(card.loss)
    assert set(hints) == {p.name for p in parameters(card)} | {"return"}


@every_loss
def test_the_result_is_one_value_a_row(card):
    # The rows of a loss of whole images are its batch: the axes behind it are pixels.
    rows = "batch" if card.task == "segmentation" else "*rows"
    assert rows in inspect.signature(card.loss).return_annotation.dim_str


@every_loss
def test_the_decorator_keeps_name_and_module(card):
    assert within(card.loss, f"jaxloss.losses.{card.family}")
    assert f"{card.family}.{card.loss.__name__}" == card.name


# --- the docstring --------------------------------------------------------------------------------


@every_loss
def test_the_docstring_opens_with_one_sentence(card):
    assert card.summary.endswith(".")


@every_loss
def test_the_formula_gives_the_value_and_its_derivative(card):
    assert re.search(r"ℓ = .*∂ℓ/∂", card.formula, re.DOTALL)


@every_loss
@pytest.mark.parametrize("name", ["Args", "Returns", "Raises"])
def test_the_docstring_has_its_sections_or_says_where_they_are(card, name):
    assert section(card, name)


@every_loss
def test_the_docstring_explains_every_argument(card):
    explained = set(re.findall(r"^    (\w+): ", section(card, "Args"), re.MULTILINE))
    reworded = " ".join(documentation(card).split())
    missing = {p.name for p in parameters(card)} - explained
    assert all(
        re.search(rf"\b{name}\b", reworded)
        for name in missing - {"predictions", "targets", "scores", "labels"}
    )


@every_loss
def test_the_docstring_names_the_errors_it_raises(card):
    assert {"TypeError", "ValueError"} <= set(re.findall(r"\w+Error", section(card, "Raises")))


# --- the card -------------------------------------------------------------------------------------


@every_loss
def test_the_card_has_a_domain_for_each_data_argument(card):
    data = [p.name for p in parameters(card) if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(card.domain) == data


@every_loss
def test_every_domain_is_one_of_the_kinds_there_are(card):
    kinds = Interval | Counts | Choice | Named
    assert all(isinstance(d, kinds) for d in (*card.domain.values(), *card.options.values()))


@every_loss
def test_the_card_has_a_range_for_each_numeric_option(card):
    assert set(card.options) == {p.name for p in options(card)} & NUMERIC


@every_loss
def test_every_default_lies_in_its_range(card):
    defaults = {p.name: p.default for p in options(card) if p.default not in (None, p.empty)}
    assert all(card.options[name].holds(value) for name, value in defaults.items() if name in card.options)


@every_loss
def test_what_stands_in_for_a_removed_row_lies_in_the_domain(card):
    numbers = [d for d in (*card.domain.values(), *card.options.values()) if not isinstance(d, Named)]
    assert all(domain.holds(domain.inside) for domain in numbers)
    # Data may be integers.
    data = [d for d in card.domain.values() if not isinstance(d, Named)]
    assert all(domain.holds(math.ceil(domain.inside)) for domain in data)


@every_loss
def test_the_source_says_who_and_when(card):
    assert re.search(r"\((1[6-9]|20)\d\d\)|torch|Keras", card.source)
