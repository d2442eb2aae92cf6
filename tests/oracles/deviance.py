"""Half deviances by hand: McCullagh & Nelder (1989), table 2.1; Jørgensen (1987), as an integral."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp, mpf

from oracles._case import Case, Evidence, any_row, each, floats, number, one_each
from oracles.regression import rows

# --- draws --------------------------------------------------------------------------------------

LOGS = st.sampled_from([0.0, 1e-9, 20.0, -20.0]) | floats(-8, 8)
# How far a target lies from its mean, in means.
APART = st.sampled_from([0.0, 1e-12, -1e-7, 1e-4, -1e-3, 0.5, -0.5, 1.0, 1e6, -0.999999]) | floats(-0.99, 20)


@st.composite
def sized(draw, link, logs, apart, zeros, options):
    """Means and targets next to each other and far apart; targets of 0 where the loss allows them."""
    chosen = draw(options) if options is not None else {}
    prediction = draw(one_each(logs))
    means = np.exp(prediction)
    targets = means * (1 + draw(one_each(apart)))
    if zeros:
        targets = np.where(draw(one_each(st.booleans(), dtype=np.bool_)), targets, 0.0)
    return (means if link == "identity" else prediction, targets), chosen


TRIALS = st.sampled_from([1.0, 2.0, 5.0, 40.0])
LOGITS = st.sampled_from([0.0, 17.0, -17.0, 80.0, -80.0, 1e4, 1e-9]) | floats(-10, 10)


@st.composite
def counted(draw, link, logits, shares):
    """Successes fewer than the trials, and shares no closer to theirs than the rounding of 1 − p allows.

    There the derivative in the trials is −∞, here it is a difference of what was rounded.
    """
    trials, z = draw(one_each(TRIALS)), draw(one_each(logits))
    successes = np.floor(trials * draw(one_each(floats(0, 0.999))))
    nearly = draw(one_each(st.booleans(), dtype=np.bool_)) & (successes > 0)
    close = np.where(nearly, successes / trials * (1 + draw(one_each(shares))), 0.5)
    close = np.log(close) - np.log1p(-close) if link == "logit" else close
    far = z if link == "logit" else 1 / (1 + np.exp(-z))
    return (np.where(nearly, close, far), successes), {"trials": trials}


@st.composite
def single(draw, logits):
    """One trial, and shares of it that binary fractions are."""
    return (draw(one_each(logits)), draw(one_each(st.sampled_from([0.0, 1.0, 0.5, 0.25])))), {}


# --- formulas ------------------------------------------------------------------------------------


def power_integral(u, k):
    """∫ u^k."""
    return mp.log(u) if k == -1 else u ** (k + 1) / (k + 1)


def log_power_integral(u, k):
    """∫ u^k log u."""
    return mp.log(u) ** 2 / 2 if k == -1 else u ** (k + 1) * (mp.log(u) / (k + 1) - 1 / (k + 1) ** 2)


def tweedie(mean, y, power=mpf(3) / 2):
    """∫ (y − u) u^−p du from μ to y: the textbook's formula and its limits at p = 1 and 2."""
    if y == 0:
        return mean ** (2 - power) / (2 - power)
    return y * (power_integral(y, -power) - power_integral(mean, -power)) - (
        power_integral(y, 1 - power) - power_integral(mean, 1 - power)
    )


def tweedie_in_power(mean, y, power):
    return -y * (log_power_integral(y, -power) - log_power_integral(mean, -power)) + (
        log_power_integral(y, 1 - power) - log_power_integral(mean, 1 - power)
    )


def tweedie_slope(mean, y, power=mpf(3) / 2):
    return (mean - y) * mean**-power


def poisson(mean, y):
    return (y * mp.log(y / mean) if y else 0) - y + mean


def gamma(mean, y):
    return y / mean - 1 - mp.log(y / mean)


def inverse_gaussian(mean, y):
    return (y - mean) ** 2 / (2 * y * mean**2)


ROUNDED = mpf(2) ** -24


def in_power(mean, y, power=None):
    """By how much the rounding of 2 − p changes a loss, where p is an option."""
    return 0 if power is None else abs(tweedie_in_power(mean, y, power))


def of_log(value, power):
    """Value, gradient and their scales in z = log μ.

    e^z is rounded before it meets the target: the loss is known to the rounding of μ, its gradient to
    that of each of its two terms.
    """

    def exponent(options):
        return options.get("power", power)

    def slope(z, y, **options):
        return (mp.exp(z) - y) * mp.exp((1 - exponent(options)) * z)

    def slope_scale(z, y, **options):
        size = (mp.exp(z) + y) * mp.exp((1 - exponent(options)) * z)
        return size * (1 + abs(z)) if options else size

    def scale(z, y, **options):
        mean = mp.exp(z)
        rounding = abs(slope(z, y, **options)) + ROUNDED * slope_scale(z, y, **options)
        return value(mean, y, **options) + rounding + in_power(mean, y, **options)

    return {
        "value": lambda z, y, **options: value(mp.exp(z), y, **options),
        "gradient": slope,
        "scale": scale,
        "gradient_scale": slope_scale,
    }


def sigma(z):
    return 1 / (1 + mp.exp(-z))


def binomial(p, y, trials=1):
    failures = trials - y
    return (y * mp.log(y / (trials * p)) if y else 0) + (
        failures * mp.log(failures / (trials * (1 - p))) if failures else 0
    )


def binomial_slope(p, y, trials=1):
    return ((trials - y) / (1 - p) if y != trials else 0) - (y / p if y else 0)


def binomial_slope_scale(p, y, trials=1):
    return ((trials - y) / (1 - p) if y != trials else 0) + (y / p if y else 0)


def binomial_scale(p, y, trials=1):
    # np and n(1 − p) are rounded before they meet the counts.
    return binomial(p, y, trials) + abs(trials * p - y) + ROUNDED * trials


def odds_binomial(z, y, trials=1):
    """Through log σ(z), for 80 digits do not reach 1 − σ(1e4)."""
    failures = trials - y
    return (y * (mp.log(y / trials) + mp.log1p(mp.exp(-z))) if y else 0) + (
        failures * (mp.log(failures / trials) + mp.log1p(mp.exp(z))) if failures else 0
    )


def odds_slope(z, y, trials=1):
    return (trials - y) * sigma(z) - y * sigma(-z)


def odds_slope_scale(z, y, trials=1):
    return (trials - y) * sigma(z) + y * sigma(-z)


def odds_scale(z, y, trials=1):
    return (
        odds_binomial(z, y, trials) + abs(odds_slope(z, y, trials)) + ROUNDED * trials * sigma(z) * sigma(-z)
    )


# --- cases --------------------------------------------------------------------------------------


def agree(link):
    def on_target(p, y, **_):
        return np.isclose(p, np.log(np.maximum(y, 1e-300)) if link == "log" else y, rtol=1e-6, atol=1e-6)

    return any_row(on_target)


def deviance_case(name, kind=None, link="log", zeros=True, options=None, **fields) -> Case:
    hard = {
        "mean on target": agree(link),
        "target far above": any_row(lambda p, y, **_: y > 1e5 * (np.exp(p) if link == "log" else p)),
    }
    if zeros:
        hard["target of zero"] = any_row(lambda p, y, **_: y == 0)
    calm = sized(link, floats(-0.7, 1.6), floats(-0.8, 3), False, options)
    below = {"negative targets": (1, -1.0)} if name in ZEROS else {"targets": (1, 0.0)}
    means = {"predictions": (0, 0.0)} if link == "identity" else {}
    return Case(
        name if kind is None else f"{name}/{kind}",
        draws=sized(link, LOGS, APART, zeros, options),
        calm=calm,
        hard=hard,
        violations={**below, **means},
        with_options=kind is not None,
        words={} if link == "log" else {"link": link},
        **fields,
    )


ZEROS = ("deviance.poisson", "deviance.tweedie")
POWER = each(power=number(1.0, 2.0, 0.0, 3.0, 1.5, 1 + 1e-9, 2 - 1e-7, 1 - 1e-5, low=-1.0, high=4.0))


def both_links(name, value, power, zeros=True) -> tuple[Case, Case]:
    slope = {"gradient": lambda mean, y: (mean - y) * mean**-power}
    return (
        deviance_case(name, zeros=zeros, **of_log(value, power)),
        deviance_case(name, "identity", "identity", zeros=zeros, value=value, **slope),
    )


def binomial_case(kind, link, **fields) -> Case:
    odds = link == "logit"
    return Case(
        f"deviance.binomial/{kind}",
        draws=counted(link, LOGITS if odds else floats(-10, 10), st.sampled_from([1e-4, -1e-3, 0.01])),
        calm=counted(link, floats(-3, 3), st.sampled_from([-0.1, -0.3])),
        hard={
            "no success": any_row(lambda p, y, trials: y == 0),
            "share near the target": any_row(
                lambda p, y, trials: np.isclose(1 / (1 + np.exp(-p)) if odds else p, y / trials, 2e-4)
            ),
        },
        violations={
            "targets": (1, 50.0),
            "negative targets": (1, -1.0),
            **({} if odds else {"predictions": (0, 1.5)}),
        },
        with_options=True,
        row_options=("trials",),
        words={} if odds else {"link": link},
        **fields,
    )


CASES = (
    *both_links("deviance.poisson", poisson, 1),
    *both_links("deviance.gamma", gamma, 2, zeros=False),
    *both_links("deviance.inverse_gaussian", inverse_gaussian, 3, zeros=False),
    deviance_case("deviance.tweedie", **of_log(tweedie, mpf(3) / 2)),
    deviance_case(
        "deviance.tweedie",
        "power",
        zeros=False,
        options=POWER,
        option_gradients={"power": lambda z, y, power: tweedie_in_power(mp.exp(z), y, power)},
        **of_log(tweedie, None),
    ),
    deviance_case(
        "deviance.tweedie",
        "identity",
        "identity",
        zeros=False,
        options=POWER,
        value=tweedie,
        gradient=tweedie_slope,
        scale=lambda mean, y, power: tweedie(mean, y, power) + in_power(mean, y, power),
        option_gradients={"power": tweedie_in_power},
    ),
    Case(
        "deviance.binomial",
        value=odds_binomial,
        gradient=odds_slope,
        scale=odds_scale,
        gradient_scale=odds_slope_scale,
        draws=single(LOGITS),
        calm=single(floats(-3, 3)),
        hard={
            "certain and right": any_row(lambda z, y: (z == 80) & (y == 1)),
            "half a success, half expected": any_row(lambda z, y: (z == 0) & (y == 0.5)),
        },
        violations={"targets": (1, 1.5), "negative targets": (1, -0.5)},
    ),
    binomial_case(
        "trials",
        "logit",
        value=odds_binomial,
        gradient=odds_slope,
        scale=odds_scale,
        gradient_scale=odds_slope_scale,
        option_gradients={"trials": lambda z, y, trials: mp.log((trials - y) / trials) + mp.log1p(mp.exp(z))},
    ),
    binomial_case(
        "identity",
        "identity",
        value=binomial,
        gradient=binomial_slope,
        scale=binomial_scale,
        gradient_scale=binomial_slope_scale,
        option_gradients={"trials": lambda p, y, trials: mp.log((trials - y) / (trials * (1 - p)))},
    ),
)

# --- what decides the claims ------------------------------------------------------------------

_STEEP = {
    "bounded": rows(20.0, 0.0),
    "lipschitz": rows(20.0, 0.0),
    "smooth": (rows(40.0, 0.0), rows(41.0, 0.0)),
}
_STEEP_BELOW = {
    "bounded": rows(-20.0, 1.0),
    "lipschitz": rows(-20.0, 1.0),
    "smooth": (rows(-20.0, 1.0), rows(-21.0, 1.0)),
}
EVIDENCE = {
    "deviance.poisson": Evidence(refuted_by=_STEEP),
    "deviance.tweedie": Evidence(refuted_by=_STEEP),
    "deviance.gamma": Evidence(refuted_by=_STEEP_BELOW),
    "deviance.inverse_gaussian": Evidence(
        refuted_by={**_STEEP_BELOW, "convex": (rows(2.0, 1.0), rows(6.0, 1.0))}
    ),
    "deviance.binomial": Evidence(
        attained={"lipschitz": rows(40.0, 0.0), "smooth": (rows(1e-3, 1.0), rows(-1e-3, 1.0))},
        refuted_by={"bounded": rows(1e6, 0.0)},
    ),
}
