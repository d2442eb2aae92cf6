"""Losses that grow more slowly than the square, by hand: Huber, Girshick, Charbonnier."""

from mpmath import mp

from oracles._case import Case, Evidence, number, sign
from oracles.regression import SAMPLE, case_with, residual_case, rows

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


POSITIVE = number(1.0, 0.5, low=0.01, high=8.0)

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
)

_FAR = {"bounded": rows(1e6, 0.0)}
_BENT = (rows(1e-3, 0.0), rows(-1e-3, 0.0))
EVIDENCE = {
    name: Evidence(attained={"lipschitz": rows(20.0, 0.0), "smooth": _BENT}, refuted_by=_FAR, sample=SAMPLE)
    for name in ("robust.huber", "robust.smooth_l1", "robust.pseudo_huber")
}
