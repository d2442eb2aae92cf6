"""Losses that grow more slowly than the square, by hand: Huber, Girshick, Charbonnier, Barron."""

import functools

import numpy as np
from hypothesis import strategies as st
from mpmath import mp, mpf

from oracles._case import Case, Evidence, each, number, sign
from oracles.regression import (
    HARD,
    SAMPLE,
    _default,
    calm_draws,
    case_with,
    residual_case,
    residual_draws,
    rows,
)

# --- Huber (1964); Girshick (2015), eq. 3; Charbonnier et al. (1994) ----------------------------


def huber(p, t, delta=1):
    r = abs(p - t)
    return r * r / 2 if r <= delta else delta * (r - delta / 2 * 1)


def huber_slope(p, t, delta=1):
    return max(-delta, min(delta, p - t))


def smooth_l1(p, t, beta=1):
    r = abs(p - t)
    return r * r / (2 * beta) if r <= beta else r - beta * 1 / 2


def smooth_l1_slope(p, t, beta=1):
    return (p - t) / beta if abs(p - t) <= beta else sign(p - t)


def charbonnier(p, t, delta=1):
    return delta**2 * (mp.sqrt(1 + ((p - t) / delta) ** 2) - 1)


def charbonnier_slope(p, t, delta=1):
    return (p - t) / mp.sqrt(1 + ((p - t) / delta) ** 2)


def charbonnier_in_delta(p, t, delta):
    x = (p - t) / delta
    return delta * (2 * (mp.sqrt(1 + x * x) - 1) - x * x / mp.sqrt(1 + x * x))


# --- Black & Anandan (1996), Geman & McClure (1985), Dennis & Welsch (1978), as Barron (2019) scales them;
# --- Beaton & Tukey (1974) ------------------------------------------------------------------------


def cauchy(p, t, scale=1):
    return mp.log(1 + ((p - t) / scale) ** 2 / 2)


def cauchy_slope(p, t, scale=1):
    return (p - t) / scale**2 / (1 + ((p - t) / scale) ** 2 / 2)


def geman_mcclure(p, t, scale=1):
    x = (p - t) / scale
    return 2 * x**2 / (x**2 + 4)


def geman_mcclure_slope(p, t, scale=1):
    x = (p - t) / scale
    return x / scale / (1 + x**2 / 4) ** 2


def welsch(p, t, scale=1):
    return 1 - mp.exp(-(((p - t) / scale) ** 2) / 2)


def welsch_slope(p, t, scale=1):
    return (p - t) / scale**2 * mp.exp(-(((p - t) / scale) ** 2) / 2)


def welsch_slope_scale(p, t, scale=1):
    # A rounding of r/c is (r/c)² of them in the exponential.
    return welsch_slope(p, t, scale) * (1 + ((p - t) / scale) ** 2)


def by_scale(slope):
    """∂ℓ/∂c of a function of r/c."""
    return {"scale": lambda p, t, scale: -slope(p, t, scale) * (p - t) / scale}


def biweight(p, t, c="4.685"):
    c = _default(c)
    x = min(abs(p - t) / c, mpf(1))
    return c**2 / 6 * (1 - (1 - x**2) ** 3)


def biweight_slope(p, t, c="4.685"):
    c = _default(c)
    return (p - t) * (1 - ((p - t) / c) ** 2) ** 2 if abs(p - t) < c else 0


def biweight_slope_scale(p, t, c="4.685"):
    # p − t is rounded before it is taken from c: what is left of c has that error.
    x = (p - t) / _default(c)
    return (p - t) * (1 - x**2) * (1 + 4 * x**2) if abs(x) < 1 else 0


def biweight_in_c(p, t, c):
    x = min(abs(p - t) / c, mpf(1))
    return c * x**4 * (3 - 2 * x**2) / 3


# --- Barron (2019), eqs. 8, 9, 16 and 17 ----------------------------------------------------------


def general(p, t, alpha=1, scale=1):
    x = (p - t) / scale
    if abs(alpha) == mp.inf:
        return sign(alpha) * (mp.exp(sign(alpha) * x**2 / 2) - 1)
    if alpha == 2:
        return x**2 / 2
    if alpha == 0:
        return mp.log(1 + x**2 / 2)
    return abs(2 - alpha) / alpha * ((1 + x**2 / abs(2 - alpha)) ** (alpha / mpf(2)) - 1)


def general_slope(p, t, alpha=1, scale=1):
    x = (p - t) / scale
    if abs(alpha) == mp.inf:
        return x / scale * mp.exp(sign(alpha) * x**2 / 2)
    return x / scale * ((1 + x**2 / abs(2 - alpha)) ** (alpha / mpf(2) - 1) if alpha != 2 else 1)


def general_in_scale(p, t, alpha, scale):
    return -general_slope(p, t, alpha, scale) * (p - t) / scale


def general_in_alpha(p, t, alpha, scale):
    if abs(alpha) == mp.inf:
        return mpf(0)
    # At 2 it is infinite, and taken as at the float below.
    alpha = 2 - mpf(2) ** -52 if alpha == 2 else alpha
    size, side = abs(2 - alpha), sign(alpha - 2)
    square = ((p - t) / scale) ** 2
    length = mp.log(1 + square / size)
    power = mp.exp(alpha * length / 2)
    if alpha == 0:
        return length**2 / 4 - (length - 1 + mp.exp(-length)) / 2
    shrunk = side * square / size / (size + square)
    return (side / alpha - size / alpha**2) * (power - 1) + size / alpha * power * (
        length - alpha * shrunk
    ) / 2


def general_scale(p, t, alpha=1, scale=1):
    # A rounding of r/c moves the loss by rℓ′/c of them: without bound where it grows as an exponential.
    return general(p, t, alpha, scale) + abs((p - t) * general_slope(p, t, alpha, scale))


def general_slope_scale(p, t, alpha=1, scale=1):
    x = (p - t) / scale
    moved = x**2 if abs(alpha) == mp.inf else abs(alpha - 2) * x**2 / (abs(alpha - 2) + x**2) if x else 0
    return general_slope(p, t, alpha, scale) * (1 + moved)


@functools.cache
def integral(alpha):
    """log Z(α) and its derivative, by the trapezoidal rule in τ, x = √β sinh τ: right to 20 digits."""
    alpha = mpf(alpha) if alpha != 2 else 2 - mpf(2) ** -52
    with mp.workdps(40):
        size, step, total, slopes = 2 - alpha, mpf(1) / 14, mpf(0), mpf(0)
        for k in range(14 * 52):
            x = mp.sqrt(size) * mp.sinh(k * step)
            density = mp.exp(-general(x, 0, alpha, 1)) * mp.cosh(k * step) * (2 if k else 1)
            total += density
            slopes += density * general_in_alpha(x, 0, alpha, 1)
            if density < mpf(10) ** -24:
                break
        return mp.log(step * mp.sqrt(size) * total), -slopes / total


def adaptive(p, t, alpha=1, scale=1):
    return general(p, t, alpha, scale) + mp.log(scale) + integral(float(alpha))[0]


def adaptive_in_alpha(p, t, alpha, scale):
    return general_in_alpha(p, t, alpha, scale) + integral(float(alpha))[1]


def adaptive_scale(p, t, alpha=1, scale=1):
    return general_scale(p, t, alpha, scale) + abs(mp.log(scale)) + integral(float(alpha))[0]


# Above 2 the loss and its gradient overflow: ∞ is left to the tests of the kernel.
ALPHAS = number(0.0, 1.0, 2.0, -np.inf, 1e-9, 2 - 1e-7, -2.0, -1e9, low=-4.0, high=4.0)
SHAPES = st.sampled_from([0.0, 1.0, 2.0, 1e-9, 0.05, 0.5, 1.5, 1.9, 1.9999]).map(np.float64)

POSITIVE = number(1.0, 0.5, low=0.01, high=8.0)


def barron_case(name, alphas, calm_alphas, **fields) -> Case:
    """A loss of alpha and scale: at its limits, and calm between them."""
    return Case(
        name,
        draws=residual_draws(each(alpha=alphas, scale=POSITIVE), "scale"),
        calm=calm_draws(options=each(alpha=calm_alphas, scale=number(1.0, 0.7, low=0.5, high=8.0))),
        with_options=True,
        **fields,
    )


def has_alpha(wanted, data, options):
    return bool(options["alpha"] == wanted)


CASES: tuple[Case, ...] = (
    residual_case("robust.huber", value=huber, gradient=huber_slope, kinks=lambda p, t: abs(abs(p - t) - 1)),
    case_with(
        "robust.huber",
        "delta",
        POSITIVE,
        value=huber,
        gradient=huber_slope,
        kinks=lambda p, t, delta: abs(abs(p - t) - delta),
        option_gradients={"delta": lambda p, t, delta: max(abs(p - t) - delta, 0)},
    ),
    residual_case(
        "robust.smooth_l1", value=smooth_l1, gradient=smooth_l1_slope, kinks=lambda p, t: abs(abs(p - t) - 1)
    ),
    case_with(
        "robust.smooth_l1",
        "beta",
        POSITIVE,
        value=smooth_l1,
        gradient=smooth_l1_slope,
        kinks=lambda p, t, beta: abs(abs(p - t) - beta),
        option_gradients={"beta": lambda p, t, beta: -(min(abs(p - t) / beta, 1) ** 2) / 2},
    ),
    residual_case("robust.pseudo_huber", value=charbonnier, gradient=charbonnier_slope),
    case_with(
        "robust.pseudo_huber",
        "delta",
        POSITIVE,
        value=charbonnier,
        gradient=charbonnier_slope,
        option_gradients={"delta": charbonnier_in_delta},
    ),
    residual_case("robust.general", value=general, gradient=general_slope),
    barron_case(
        "robust.general/alpha and scale",
        ALPHAS,
        number(1.0, 0.5, -1.0, 2.5, low=-3.0, high=3.0),
        value=general,
        gradient=general_slope,
        scale=general_scale,
        gradient_scale=general_slope_scale,
        option_gradients={"alpha": general_in_alpha, "scale": general_in_scale},
        hard={
            **HARD,
            **{f"alpha {a}": functools.partial(has_alpha, a) for a in (0, 2, -np.inf, 1e-9)},
        },
    ),
    residual_case("robust.adaptive_nll", value=adaptive, gradient=general_slope),
    barron_case(
        "robust.adaptive_nll/alpha and scale",
        SHAPES,
        st.sampled_from([0.0, 0.5, 1.0, 1.5, 1.9]).map(np.float64),
        value=adaptive,
        gradient=general_slope,
        scale=adaptive_scale,
        gradient_scale=general_slope_scale,
        option_gradients={
            "alpha": lambda p, t, alpha, scale: (
                general_in_alpha(p, t, alpha, scale) + integral(float(alpha))[1]
            ),
            "scale": lambda p, t, alpha, scale: general_in_scale(p, t, alpha, scale) + 1 / scale,
        },
        hard={**HARD, **{f"alpha {a}": functools.partial(has_alpha, a) for a in (0, 2)}},
    ),
    residual_case("robust.cauchy", value=cauchy, gradient=cauchy_slope),
    case_with(
        "robust.cauchy",
        "scale",
        POSITIVE,
        value=cauchy,
        gradient=cauchy_slope,
        option_gradients=by_scale(cauchy_slope),
    ),
    residual_case("robust.geman_mcclure", value=geman_mcclure, gradient=geman_mcclure_slope),
    case_with(
        "robust.geman_mcclure",
        "scale",
        POSITIVE,
        value=geman_mcclure,
        gradient=geman_mcclure_slope,
        option_gradients=by_scale(geman_mcclure_slope),
    ),
    residual_case("robust.welsch", value=welsch, gradient=welsch_slope, gradient_scale=welsch_slope_scale),
    case_with(
        "robust.welsch",
        "scale",
        POSITIVE,
        value=welsch,
        gradient=welsch_slope,
        gradient_scale=welsch_slope_scale,
        option_gradients=by_scale(welsch_slope),
    ),
    residual_case(
        "robust.tukey_biweight",
        value=biweight,
        gradient=biweight_slope,
        gradient_scale=biweight_slope_scale,
    ),
    case_with(
        "robust.tukey_biweight",
        "c",
        POSITIVE,
        value=biweight,
        gradient=biweight_slope,
        gradient_scale=biweight_slope_scale,
        option_gradients={"c": biweight_in_c},
    ),
)

_FAR = {"bounded": rows(1e6, 0.0)}
_BENT = (rows(1e-3, 0.0), rows(-1e-3, 0.0))
EVIDENCE = {
    name: Evidence(attained={"lipschitz": rows(20.0, 0.0), "smooth": _BENT}, refuted_by=_FAR, sample=SAMPLE)
    for name in ("robust.huber", "robust.smooth_l1", "robust.pseudo_huber", "robust.general")
}
_CAPPED = {"convex": (rows(2.0, 0.0), rows(100.0, 0.0))}
EVIDENCE |= {
    "robust.adaptive_nll": Evidence(
        attained={"lipschitz": rows(20.0, 0.0), "smooth": _BENT},
        refuted_by={**_FAR, "zero_at_target": rows(0.0, 0.0)},
        sample=SAMPLE,
    ),
    "robust.cauchy": Evidence(
        attained={"lipschitz": rows(2**0.5, 0.0), "smooth": _BENT},
        refuted_by={**_CAPPED, "bounded": rows(1e300, 0.0)},
        sample=SAMPLE,
    ),
    "robust.geman_mcclure": Evidence(
        attained={"lipschitz": rows((4 / 3) ** 0.5, 0.0), "smooth": _BENT, "bounded": rows(1e3, 0.0)},
        refuted_by=_CAPPED,
        sample=SAMPLE,
    ),
    "robust.welsch": Evidence(
        attained={"lipschitz": rows(1.0, 0.0), "smooth": _BENT, "bounded": rows(5.0, 0.0)},
        refuted_by=_CAPPED,
        sample=SAMPLE,
    ),
    "robust.tukey_biweight": Evidence(
        attained={"lipschitz": rows(4.685 / 5**0.5, 0.0), "smooth": _BENT, "bounded": rows(5.0, 0.0)},
        refuted_by=_CAPPED,
        sample=SAMPLE,
    ),
}
