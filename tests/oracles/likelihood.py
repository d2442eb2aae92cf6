"""Densities and masses by hand, from their definitions: Gauss, Laplace, Student, Poisson, and CRPS."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Evidence, any_row, floats, one_each, sign

# --- draws --------------------------------------------------------------------------------------


@st.composite
def of_rows(draw, *elements, options=None):
    """One number for each argument and row."""
    return tuple(draw(one_each(each)) for each in elements), draw(options) if options else {}


def located(*parameters, calm=False, options=None):
    """A location, further parameters and targets; residuals of every size, none among them."""
    awkward = [0.0, 1e-12, -1e-7, 1e-3, 17.0, -80.0, 1e4, 1e15, -1e15]
    targets = floats(-3, 3) if calm else st.sampled_from([0.0, 1.0, -1.0, 1e4]) | floats(-10, 10)
    residuals = floats(-3, 3) if calm else st.sampled_from(awkward) | floats(-10, 10)
    drawn = of_rows(residuals, *parameters, targets, options=options)
    return drawn.map(lambda found: ((found[0][0] + found[0][-1], *found[0][1:]), found[1]))


SCALES = st.sampled_from([1.0, 1e-6, 1e6, 1e-12, 1e12]) | floats(0.01, 10)
CALM_SCALES = floats(0.5, 3)
DEGREES = st.sampled_from([1.0, 2.0, 1e-3, 30.0, 1e4, 1e10]) | floats(0.1, 50)
WHOLE = st.sampled_from([0, 0, 1, 2, 17, 1000, 10**6]).map(float) | st.integers(0, 40).map(float)
CALM_WHOLE = st.integers(0, 6).map(float)
LOGS = st.sampled_from([0.0, 1e-9, -30.0, 30.0, 13.815511]) | floats(-5, 8)


@st.composite
def rated(draw, *parameters, calm=False):
    """Further parameters, logarithmic rates and counts, the rate at the count or near it among them."""
    counts = draw(one_each(CALM_WHOLE if calm else WHOLE))
    given = tuple(draw(one_each(each)) for each in parameters)
    if calm:
        return (*given, draw(one_each(floats(-2, 2))), counts), {}
    near = np.log(np.maximum(counts, 1)) + draw(one_each(st.sampled_from([0.0, 1e-9, -1e-4, 0.3, -0.6])))
    at_count = draw(one_each(st.booleans(), dtype=np.bool_))
    return (*given, np.where(at_count, near, draw(one_each(LOGS))), counts), {}


def rows(*values):
    """Every row the same."""
    return tuple(np.full(ROWS, float(value)) for value in values)


# --- what they are made of ------------------------------------------------------------------------


def log(x):
    return mp.log(x)


def log_gamma(x):
    return mp.loggamma(x)


def digamma(x):
    return mp.digamma(x)


HALF = mpf(1) / 2


def half_log_two_pi():
    return mp.log(2 * mp.pi) / 2


# --- Nix & Weigend (1994); Laplace (1774); Balakrishnan (1991); Lange et al. (1989) ---------------


def gaussian(m, v, t):
    return log(2 * mp.pi * v) / 2 + (m - t) ** 2 / (2 * v)


def gaussian_terms(m, v, t):
    return (abs(log(v)) + log(2 * mp.pi) + (m - t) ** 2 / v) / 2


def laplace(m, b, t):
    return log(2 * b) + abs(m - t) / b


def laplace_terms(m, b, t):
    return abs(log(b)) + log(2) + abs(m - t) / b


def log_cosh(x):
    return abs(x) + mp.log1p(mp.exp(-2 * abs(x))) - log(2)


def tanh(x):
    return mp.tanh(x) if abs(x) < 1000 else mpf(sign(x))


def logistic(m, s, t):
    return log(4 * s) + 2 * log_cosh((m - t) / (2 * s))


def logistic_terms(m, s, t):
    return abs(log(s)) + log(4) + 2 * log_cosh((m - t) / (2 * s))


def student(m, s, df, t):
    constant = log_gamma(df / 2) - log_gamma((df + 1) / 2) + log(df * mp.pi) / 2
    return constant + log(s) + (df + 1) / 2 * mp.log1p(((m - t) / s) ** 2 / df)


def student_terms(m, s, df, t):
    return abs(log(s)) + student(m, 1, df, t) + (df + 1) / 2 * mp.log1p(((m - t) / s) ** 2 / df) + 1


def student_slope(m, s, df, t):
    return (df + 1) * (m - t) / (df * s**2 + (m - t) ** 2)


def student_in_df(m, s, df, t):
    constant = digamma(df / 2) - digamma((df + 1) / 2) + 1 / df
    tail = mp.log1p(((m - t) / s) ** 2 / df) - (m - t) * student_slope(m, s, df, t) / df
    return (constant + tail) / 2


# --- counts ---------------------------------------------------------------------------------------


def poisson(eta, k):
    return mp.exp(eta) - k * eta + log_gamma(k + 1)


def poisson_slope(eta, k):
    return mp.exp(eta) - k


def poisson_terms(eta, k):
    # A rounding of η, or of log k, is one of ℓ by its slope.
    return poisson(eta, k) + abs(poisson_slope(eta, k)) * (1 + abs(eta))


# --- Gneiting & Raftery (2007), eq. 21 --------------------------------------------------------------


def bump(z):
    return mp.sqrt(2 / mp.pi) * mp.exp(-z * z / 2) - 1 / mp.sqrt(mp.pi)


def crps_gaussian(m, s, t):
    z = (m - t) / s
    return s * (z * mp.erf(z / mp.sqrt(2)) + bump(z))


# --- the cases --------------------------------------------------------------------------------------

ON_TARGET = any_row(lambda first, *rest, **_: first == rest[-1])
HARD = {
    "prediction on target": ON_TARGET,
    "huge residual": any_row(lambda first, *rest, **_: np.abs(first - rest[-1]) > 1e14),
    "small scale": any_row(lambda first, second, *_, **options: second < 1e-5),
}
NOT_POSITIVE = {"zero": 0.0, "negative": -1.0}
NO_COUNT = {"negative": -1.0, "fraction": 2.5}


def bad(position, argument, values):
    """Violations of one argument's domain."""
    return {f"{argument}: {kind}": (position, value) for kind, value in values.items()}


BAD_SCALE = bad(1, "scale", NOT_POSITIVE)

CASES: tuple[Case, ...] = (
    Case(
        "likelihood.gaussian",
        value=gaussian,
        gradient=lambda m, v, t: (m - t) / v,
        more_gradients={1: lambda m, v, t: (1 - (m - t) ** 2 / v) / (2 * v)},
        scale=gaussian_terms,
        draws=located(SCALES),
        calm=located(CALM_SCALES, calm=True),
        hard=HARD,
        violations=BAD_SCALE,
    ),
    Case(
        "likelihood.laplace",
        value=laplace,
        gradient=lambda m, b, t: sign(m - t) / b,
        more_gradients={1: lambda m, b, t: (1 - abs(m - t) / b) / b},
        scale=laplace_terms,
        kinks=lambda m, b, t: abs(m - t),
        draws=located(SCALES),
        calm=located(CALM_SCALES, calm=True),
        hard=HARD,
        violations=BAD_SCALE,
    ),
    Case(
        "likelihood.logistic",
        value=logistic,
        gradient=lambda m, s, t: tanh((m - t) / (2 * s)) / s,
        more_gradients={1: lambda m, s, t: (1 - (m - t) / s * tanh((m - t) / (2 * s))) / s},
        scale=logistic_terms,
        draws=located(SCALES),
        calm=located(CALM_SCALES, calm=True),
        hard=HARD,
        violations=BAD_SCALE,
    ),
    Case(
        "likelihood.student_t",
        value=student,
        gradient=student_slope,
        more_gradients={
            1: lambda m, s, df, t: (1 - (m - t) * student_slope(m, s, df, t)) / s,
            2: student_in_df,
        },
        scale=student_terms,
        draws=located(SCALES, DEGREES),
        calm=located(CALM_SCALES, floats(0.5, 20), calm=True),
        hard={**HARD, "nearly normal": any_row(lambda m, s, df, t: df > 1e9)},
        violations={**BAD_SCALE, **bad(2, "df", NOT_POSITIVE)},
    ),
    Case(
        "likelihood.poisson",
        value=poisson,
        gradient=poisson_slope,
        scale=poisson_terms,
        # The exponential's last digit, where it is all but the count.
        gradient_scale=lambda eta, k: mp.exp(eta),
        draws=rated(),
        calm=rated(calm=True),
        hard={
            "no event": any_row(lambda eta, k: k == 0),
            "a million, as expected": any_row(lambda eta, k: (k == 1e6) & (np.abs(eta - np.log(1e6)) < 1e-3)),
        },
        violations=bad(1, "targets", NO_COUNT),
    ),
    Case(
        "likelihood.crps_gaussian",
        value=crps_gaussian,
        gradient=lambda m, s, t: mp.erf((m - t) / (s * mp.sqrt(2))),
        more_gradients={1: lambda m, s, t: bump((m - t) / s)},
        draws=located(SCALES),
        calm=located(CALM_SCALES, calm=True),
        hard=HARD,
        violations=BAD_SCALE,
    ),
)

# --- the claims --------------------------------------------------------------------------------------

_STEEP = {
    "non_negative": rows(0.0, 1e-3, 0.0),
    "lipschitz": rows(1.0, 1e-4, 0.0),
    "bounded": rows(1e7, 1.0, 0.0),
}
_SHARP = (rows(1e-10, 1e-8, 0.0), rows(-1e-10, 1e-8, 0.0))
EVIDENCE = {
    "likelihood.gaussian": Evidence(refuted_by={**_STEEP, "smooth": _SHARP}),
    "likelihood.laplace": Evidence(refuted_by={**_STEEP, "smooth": _SHARP}),
    "likelihood.logistic": Evidence(refuted_by={**_STEEP, "smooth": _SHARP}),
    "likelihood.student_t": Evidence(
        refuted_by={
            "non_negative": rows(0.0, 1e-3, 1.0, 0.0),
            "convex": (rows(10.0, 1.0, 1.0, 0.0), rows(20.0, 1.0, 1.0, 0.0)),
            "lipschitz": rows(1e-4, 1e-4, 1.0, 0.0),
            "smooth": (rows(1e-10, 1e-8, 1.0, 0.0), rows(-1e-10, 1e-8, 1.0, 0.0)),
            "bounded": rows(1e3, 1.0, 1e3, 0.0),
        }
    ),
    "likelihood.poisson": Evidence(
        refuted_by={
            "lipschitz": rows(10.0, 0.0),
            "smooth": (rows(20.0, 0.0), rows(20.1, 0.0)),
            "bounded": rows(10.0, 0.0),
        }
    ),
    "likelihood.crps_gaussian": Evidence(
        attained={"lipschitz": rows(20.0, 1.0, 0.0)},
        refuted_by={"smooth": _SHARP, "bounded": rows(1e7, 1.0, 0.0)},
    ),
}
