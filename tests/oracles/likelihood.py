"""Densities and masses by hand, from their definitions: Gauss, Laplace, Student, Poisson, and CRPS."""

import numpy as np
from hypothesis import strategies as st
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Evidence, any_row, each, floats, norm, number, one_each, sign

# --- draws --------------------------------------------------------------------------------------


@st.composite
def of_rows(draw, *elements, options=None):
    """One number for each argument and row."""
    return tuple(draw(one_each(each)) for each in elements), {} if options is None else draw(options)


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
    return tuple(np.array([value] * ROWS, float) for value in values)


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


def negative_binomial(mu, alpha, k):
    r = 1 / alpha
    combinations = log_gamma(r) + log_gamma(k + 1) - log_gamma(k + r)
    return combinations + (k + r) * mp.log1p(alpha * mu) - k * log(alpha * mu)


def negative_binomial_terms(mu, alpha, k):
    # And a rounding of μ.
    return negative_binomial(mu, alpha, k) + abs(mu - k) / (1 + alpha * mu)


def negative_binomial_in_dispersion(mu, alpha, k):
    r = 1 / alpha
    steps = digamma(k + r) - digamma(r) - mp.log1p(alpha * mu)
    return r * r * steps + r * (mu - k) / (1 + alpha * mu)


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def zero_inflated(a, eta, k):
    missing = sigmoid(-a) * (1 - mp.exp(-mp.exp(eta)))
    return mp.log1p(mp.exp(a)) + poisson(eta, k) if k else -mp.log1p(-missing)


def zero_inflated_slope(a, eta, k):
    rate = mp.exp(eta)
    return sigmoid(a) if k else -sigmoid(a + rate) * sigmoid(-a) * (1 - mp.exp(-rate))


def zero_inflated_in_rate(a, eta, k):
    rate = mp.exp(eta)
    return rate - k if k else rate * sigmoid(-a - rate)


# --- Mardia & Jupp (2000); Ferrari & Cribari-Neto (2004); Amini et al. (2020) ---------------------


def von_mises(m, kappa, t):
    return log(2 * mp.pi * mp.besseli(0, kappa)) - kappa * mp.cos(m - t)


def von_mises_terms(m, kappa, t):
    sizes = kappa * (1 - mp.cos(m - t)) + abs(log(mp.besseli(0, kappa)) - kappa)
    return sizes + log(2 * mp.pi) + kappa * abs(mp.sin(m - t) * (m - t))


def von_mises_slope_terms(m, kappa, t):
    return kappa * (abs(mp.sin(m - t)) + abs((m - t) * mp.cos(m - t)))


def beta(a, b, x):
    constant = log_gamma(a) + log_gamma(b) - log_gamma(a + b)
    return constant - (a - 1) * log(x) - (b - 1) * mp.log1p(-x)


def beta_terms(a, b, x):
    moved = abs((b - 1) * x - (a - 1) * (1 - x))
    return abs(beta(a, b, x)) + abs(log(x)) + abs(mp.log1p(-x)) + abs(log(a)) + abs(log(b)) + moved + 1


def evidential(m, nu, alpha, beta_, t, evidence_penalty=0):
    omega = 2 * beta_ * (1 + nu)
    likelihood = log(mp.pi / nu) / 2 - alpha * log(omega) + (alpha + HALF) * log(nu * (m - t) ** 2 + omega)
    penalty = abs(m - t) * (2 * nu + alpha)
    return likelihood + log_gamma(alpha) - log_gamma(alpha + HALF) + evidence_penalty * penalty


def evidential_terms(m, nu, alpha, beta_, t, evidence_penalty=0):
    omega = 2 * beta_ * (1 + nu) / nu
    tail = (alpha + HALF) * mp.log1p((m - t) ** 2 / omega)
    penalty = evidence_penalty * abs(m - t) * (2 * nu + alpha)
    return 2 + abs(log(omega)) + abs(log(alpha)) + tail + penalty


def evidential_slope(m, nu, alpha, beta_, t, evidence_penalty=0):
    omega = 2 * beta_ * (1 + nu) / nu
    likelihood = (2 * alpha + 1) * (m - t) / (omega + (m - t) ** 2)
    return likelihood + evidence_penalty * (2 * nu + alpha) * sign(m - t)


def in_omega(m, nu, alpha, beta_, t):
    omega = 2 * beta_ * (1 + nu) / nu
    return (HALF - (alpha + HALF) * (m - t) ** 2 / (omega + (m - t) ** 2)) / omega


def evidential_in_evidence(m, nu, alpha, beta_, t, evidence_penalty=0):
    return -in_omega(m, nu, alpha, beta_, t) * 2 * beta_ / nu**2 + 2 * evidence_penalty * abs(m - t)


def evidential_in_shape(m, nu, alpha, beta_, t, evidence_penalty=0):
    omega = 2 * beta_ * (1 + nu) / nu
    tail = mp.log1p((m - t) ** 2 / omega) + evidence_penalty * abs(m - t)
    return digamma(alpha) - digamma(alpha + HALF) + tail


def evidential_in_scale(m, nu, alpha, beta_, t, evidence_penalty=0):
    return in_omega(m, nu, alpha, beta_, t) * 2 * (1 + nu) / nu


def softmax(z):
    top = max(z)
    powers = [mp.exp(entry - top) for entry in z]
    return [power / sum(powers) for power in powers]


def log_sum(z):
    return max(z) + log(sum(mp.exp(entry - max(z)) for entry in z))


def costs(logits, means, scales, t):
    """−log p_j N(t; m_j, s_j²) of each component, without the half of log 2π."""
    total = log_sum(logits)
    each_one = zip(logits, means, scales, strict=True)
    return [total - a + log(s) + ((m - t) / s) ** 2 / 2 for a, m, s in each_one]


def mixture(logits, means, scales, t):
    return half_log_two_pi() - log_sum([-cost for cost in costs(logits, means, scales, t)])


def posterior(logits, means, scales, t):
    return softmax([-cost for cost in costs(logits, means, scales, t)])


def mixture_sizes(logits, means, scales, t):
    """What each cost is rounded to."""
    total = log_sum(logits)
    each_one = zip(logits, means, scales, strict=True)
    return [1 + abs(total - a) + abs(log(s)) + ((m - t) / s) ** 2 for a, m, s in each_one]


def mixture_terms(*row):
    return 1 + sum(q * size for q, size in zip(posterior(*row), mixture_sizes(*row), strict=True))


def mixture_slope(logits, *rest):
    return [p - q for p, q in zip(softmax(logits), posterior(logits, *rest), strict=True)]


def mixture_slope_terms(logits, *rest):
    given = zip(softmax(logits), posterior(logits, *rest), mixture_sizes(logits, *rest), strict=True)
    return [p * (1 + abs(log(p))) + q * (size + mixture_terms(logits, *rest)) for p, q, size in given]


def mixture_in_means(logits, means, scales, t):
    shares_ = posterior(logits, means, scales, t)
    return [q * (m - t) / s**2 for q, m, s in zip(shares_, means, scales, strict=True)]


def mixture_in_scales(logits, means, scales, t):
    shares_ = posterior(logits, means, scales, t)
    return [q * (1 - ((m - t) / s) ** 2) / s for q, m, s in zip(shares_, means, scales, strict=True)]


def solve(lower, r):
    """L⁻¹ r, by hand."""
    found = []
    for i, row in enumerate(lower):
        found.append((r[i] - sum(row[j] * found[j] for j in range(i))) / row[i])
    return found


def solve_transposed(lower, z):
    size = len(z)
    found = [mpf(0)] * size
    for i in reversed(range(size)):
        found[i] = (z[i] - sum(lower[j][i] * found[j] for j in range(i + 1, size))) / lower[i][i]
    return found


def magnified(lower):
    """The matrix whose solutions bound those of this one: nothing cancels."""
    return [[entry if i == j else -abs(entry) for j, entry in enumerate(row)] for i, row in enumerate(lower)]


def differences(m, t):
    return [a - b for a, b in zip(m, t, strict=True)]


def multivariate(m, lower, t):
    z = solve(lower, differences(m, t))
    logs = sum(log(row[i]) for i, row in enumerate(lower))
    return sum(entry**2 for entry in z) / 2 + logs + len(m) * half_log_two_pi()


def multivariate_terms(m, lower, t):
    z = solve(magnified(lower), [abs(r) for r in differences(m, t)])
    logs = sum(abs(log(row[i])) for i, row in enumerate(lower))
    return sum(entry**2 for entry in z) + logs + len(m) * half_log_two_pi()


def multivariate_slope(m, lower, t):
    return solve_transposed(lower, solve(lower, differences(m, t)))


def multivariate_slope_terms(m, lower, t):
    large = magnified(lower)
    return solve_transposed(large, solve(large, [abs(r) for r in differences(m, t)]))


def multivariate_in_factor(m, lower, t):
    z, w = solve(lower, differences(m, t)), multivariate_slope(m, lower, t)
    size = range(len(m))
    return [
        [(1 / lower[i][i] if i == j else 0) - w[i] * z[j] if j <= i else mpf(0) for j in size] for i in size
    ]


def dirichlet(alpha, x):
    constant = sum(log_gamma(a) for a in alpha) - log_gamma(sum(alpha))
    return constant - sum((a - 1) * log(share) for a, share in zip(alpha, x, strict=True))


def dirichlet_terms(alpha, x):
    logs = sum(abs(log(share)) + abs(log(a)) for a, share in zip(alpha, x, strict=True))
    # A rounding of Σ x.
    return abs(dirichlet(alpha, x)) + logs + sum(alpha) + 1


def dirichlet_slope(alpha, x):
    return [digamma(a) - digamma(sum(alpha)) - log(share) for a, share in zip(alpha, x, strict=True)]


def dirichlet_slope_terms(alpha, x):
    return [1 + digamma(sum(alpha)) - digamma(a) - log(share) for a, share in zip(alpha, x, strict=True)]


# --- Zamo & Naveau (2018), eq. 3 and 6; Gneiting & Raftery (2007), eq. 22 ---------------------------


def crps_ensemble(x, y):
    count = len(x)
    gaps = sum(abs(a - b) for a in x for b in x)
    return sum(abs(a - y) for a in x) / count - gaps / (2 * count * (count - 1))


def crps_ensemble_slope(x, y):
    count = len(x)
    gaps = [sum(sign(a - b) for b in x) for a in x]
    return [sign(a - y) / mpf(count) - gap / mpf(count * (count - 1)) for a, gap in zip(x, gaps, strict=True)]


def nearest_gap(x, y):
    return min(abs(a - b) for i, a in enumerate(x) for b in [y, *x[:i]])


def energy_score(x, y):
    count = len(x)
    gaps = sum(norm(differences(a, b)) for a in x for b in x)
    return sum(norm(differences(a, y)) for a in x) / count - gaps / (2 * count * (count - 1))


def direction(v):
    return [entry / norm(v) if any(v) else mpf(0) for entry in v]


def energy_score_slope(x, y):
    count = len(x)
    found = []
    for a in x:
        towards = [direction(differences(a, b)) for b in x]
        gaps = [sum(column) / (count * (count - 1)) for column in zip(*towards, strict=True)]
        found.append([u / count - g for u, g in zip(direction(differences(a, y)), gaps, strict=True)])
    return found


def nearest_point(x, y):
    return min(norm(differences(a, b)) for i, a in enumerate(x) for b in [y, *x[:i]])


def weighted(m, v, t, beta=HALF):
    return v**beta * gaussian(m, v, t)


def weighted_terms(m, v, t, beta=HALF):
    # And v^β, of which a rounding of β makes β |log v|.
    return v**beta * gaussian_terms(m, v, t) * (1 + beta * abs(log(v)) / 8)


# --- Gneiting & Raftery (2007), eq. 21 --------------------------------------------------------------


def bump(z):
    return mp.sqrt(2 / mp.pi) * mp.exp(-z * z / 2) - 1 / mp.sqrt(mp.pi)


def crps_gaussian(m, s, t):
    z = (m - t) / s
    return s * (z * mp.erf(z / mp.sqrt(2)) + bump(z))


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


@st.composite
def dispersed(draw, calm=False):
    """Means, dispersions and counts, the mean at the count or near it among them."""
    (logs, counts), _ = draw(rated(calm=calm))
    awkward = st.sampled_from([1.0, 1e-12, 1e-6, 1e-3, 1e4]) | floats(0.01, 10)
    return (np.exp(logs), draw(one_each(floats(0.2, 2) if calm else awkward)), counts), {}


ANGLES = st.sampled_from([0.0, 1e-9, -1e-4, 3.0, -1.5]) | floats(-6, 6)
TURNS = st.sampled_from([0.0, 1e-6, 1.0, 11.0, 31.0, 33.0, 1e4, 1e8]) | floats(0, 40)


@st.composite
def shares(draw, calm=False):
    """Concentrations, and shares at their mean and anywhere."""
    if calm:
        return tuple(draw(one_each(floats(*ends))) for ends in ((0.5, 4), (0.5, 4), (0.1, 0.9))), {}
    concentrations = st.sampled_from([1.0, 1e-3, 1e3, 1e6]) | floats(0.1, 50)
    first, second = draw(one_each(concentrations)), draw(one_each(concentrations))
    anywhere = draw(one_each(st.sampled_from([0.5, 1e-12, 1 - 1e-6]) | floats(0.01, 0.99)))
    mean = np.clip(first / (first + second), 1e-9, 1 - 1e-6)
    return (first, second, np.where(draw(one_each(st.booleans(), dtype=np.bool_)), mean, anywhere)), {}


COMPONENTS, FEATURES, SAMPLES = 3, 3, 4


@st.composite
def mixtures(draw, calm=False):
    """Components near the target and far from it, likely and all but excluded."""
    item = (COMPONENTS,)
    if calm:
        targets, logits = draw(one_each(floats(-2, 2))), draw(one_each(floats(-2, 2), *item))
        return (
            logits,
            draw(one_each(floats(-2, 2), *item)),
            draw(one_each(floats(0.7, 2), *item)),
            targets,
        ), {}
    logits = draw(one_each(st.sampled_from([0.0, 0.0, 30.0, -80.0, 1e4]) | floats(-5, 5), *item))
    targets = draw(one_each(st.sampled_from([0.0, 1.0, -1e3]) | floats(-10, 10)))
    away = draw(one_each(st.sampled_from([0.0, 1e-7, 17.0, -80.0, 80.0, 1e4]) | floats(-10, 10), *item))
    scales = draw(one_each(st.sampled_from([1.0, 1e-3, 1e3]) | floats(0.1, 10), *item))
    return (logits, targets[:, None] + away, scales, targets), {}


@st.composite
def matrices(draw, calm=False):
    """Means, triangular factors with something above the diagonal too, and targets."""
    below = draw(one_each(floats(-0.3, 0.3) if calm else floats(-2, 2), FEATURES, FEATURES))
    widths = draw(
        one_each(floats(1.5, 3) if calm else st.sampled_from([1.0, 1e-3]) | floats(0.5, 10), FEATURES)
    )
    targets = draw(one_each(floats(-3, 3), FEATURES))
    away = floats(-3, 3) if calm else st.sampled_from([0.0, 1e-7, 1e4]) | floats(-10, 10)
    factors = np.where(np.eye(FEATURES, dtype=bool), widths[:, None, :], below)
    return (targets + draw(one_each(away, FEATURES)), factors, targets), {}


@st.composite
def compositions(draw, calm=False):
    """Concentrations, and distributions at their mean and anywhere."""
    concentrations = floats(0.5, 4) if calm else st.sampled_from([1.0, 1e-3, 1e3, 1e5]) | floats(0.1, 50)
    alpha = draw(one_each(concentrations, COMPONENTS))
    raw = draw(
        one_each(floats(0.1, 1) if calm else st.sampled_from([1.0, 1e-9]) | floats(0.01, 1), COMPONENTS)
    )
    at_mean = draw(one_each(st.booleans(), dtype=np.bool_))[:, None] & (not calm)
    parts = np.where(at_mean, np.maximum(alpha / alpha.max(axis=-1, keepdims=True), 1e-6), raw)
    return (alpha, parts / parts.sum(axis=-1, keepdims=True)), {}


@st.composite
def ensembles(draw, *item, calm=False):
    """Samples and targets, far from the origin or not, with ties among them."""
    entries = floats(-3, 3) if calm else st.sampled_from([0.0, 1.0, 1.0, -80.0, 1e15]) | floats(-10, 10)
    targets = draw(
        one_each(floats(-3, 3) if calm else st.sampled_from([0.0, 1.0, 1e4]) | floats(-10, 10), *item)
    )
    samples = draw(one_each(entries, SAMPLES, *item))
    if not calm:
        same = draw(one_each(st.integers(0, 3)))
        samples[same == 1, 1] = samples[same == 1, 0]
        samples[same == 2, 0] = targets[same == 2]
        samples[same == 3] = samples[same == 3, :1]
    return (samples, targets), {}


EVIDENCES = st.sampled_from([1.0, 1e-3, 1e6]) | floats(0.1, 50)
PENALTY = each(evidence_penalty=number(0.01, 0.0, low=0.001, high=2.0))
WEIGHT = each(beta=number(0.5, 0.0, 1.0, low=0.01, high=0.99))
EVIDENTIAL = {
    "value": evidential,
    "gradient": evidential_slope,
    "more_gradients": {1: evidential_in_evidence, 2: evidential_in_shape, 3: evidential_in_scale},
    "scale": evidential_terms,
    "violations": {
        **bad(1, "evidence", NOT_POSITIVE),
        **bad(2, "shape", NOT_POSITIVE),
        **bad(3, "scale", NOT_POSITIVE),
    },
}
WEIGHTED = {
    "value": weighted,
    "gradient": lambda m, v, t, beta=HALF: v**beta * (m - t) / v,
    "more_gradients": {1: lambda m, v, t, beta=HALF: v**beta * (1 - (m - t) ** 2 / v) / (2 * v)},
    "scale": weighted_terms,
    "hard": HARD,
    "violations": BAD_SCALE,
}
SPREADS = {
    "draws": located(EVIDENCES, EVIDENCES, SCALES),
    "calm": located(floats(0.5, 4), floats(0.5, 4), floats(0.5, 4), calm=True),
    "hard": {name: HARD[name] for name in ("prediction on target", "huge residual")},
}
NEGATIVE_BINOMIAL_HARD = {
    "no event": any_row(lambda mu, alpha, k: k == 0),
    "nearly Poisson": any_row(lambda mu, alpha, k: (alpha < 1e-9) & (k > 0)),
    "a million, as expected": any_row(lambda mu, alpha, k: (k == 1e6) & (np.abs(mu - k) < 1e-3 * k)),
}

# --- the cases --------------------------------------------------------------------------------------

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
        "likelihood.negative_binomial",
        value=negative_binomial,
        gradient=lambda mu, alpha, k: (mu - k) / (mu * (1 + alpha * mu)),
        more_gradients={1: negative_binomial_in_dispersion},
        scale=negative_binomial_terms,
        gradient_scale=lambda mu, alpha, k: (mu + k) / (mu * (1 + alpha * mu)),
        draws=dispersed(),
        calm=dispersed(calm=True),
        hard=NEGATIVE_BINOMIAL_HARD,
        violations={
            **bad(0, "mean", NOT_POSITIVE),
            **bad(1, "dispersion", NOT_POSITIVE),
            **bad(2, "targets", NO_COUNT),
        },
    ),
    Case(
        "likelihood.zero_inflated_poisson",
        value=zero_inflated,
        gradient=zero_inflated_slope,
        more_gradients={1: zero_inflated_in_rate},
        scale=lambda a, eta, k: zero_inflated(a, eta, k) + (poisson_terms(eta, k) if k else 0),
        # A rounding of a + λ.
        gradient_scale=lambda a, eta, k: zero_inflated_slope(a, eta, k) * (1 + abs(a)),
        draws=rated(st.sampled_from([0.0, 30.0, -30.0, -80.0]) | floats(-5, 5)),
        calm=rated(floats(-2, 2), calm=True),
        hard={
            "no event": any_row(lambda a, eta, k: k == 0),
            "a zero all but sure to be one": any_row(lambda a, eta, k: (k == 0) & (a >= 30)),
            "a zero all but impossible": any_row(lambda a, eta, k: (k == 0) & (a < -20) & (eta > 3)),
        },
        violations=bad(2, "targets", NO_COUNT),
    ),
    Case(
        "likelihood.von_mises",
        value=von_mises,
        gradient=lambda m, kappa, t: kappa * mp.sin(m - t),
        more_gradients={1: lambda m, kappa, t: mp.besseli(1, kappa) / mp.besseli(0, kappa) - mp.cos(m - t)},
        scale=von_mises_terms,
        gradient_scale=von_mises_slope_terms,
        draws=of_rows(ANGLES, TURNS, ANGLES),
        calm=of_rows(floats(-3, 3), floats(0.2, 3), floats(-3, 3)),
        hard={
            "prediction on target": ON_TARGET,
            "every direction alike": any_row(lambda m, kappa, t: kappa == 0),
            "sharp": any_row(lambda m, kappa, t: kappa > 1e7),
        },
        violations={"concentration": (1, -1.0)},
    ),
    Case(
        "likelihood.beta",
        value=beta,
        gradient=lambda a, b, x: digamma(a) - digamma(a + b) - log(x),
        more_gradients={1: lambda a, b, x: digamma(b) - digamma(a + b) - mp.log1p(-x)},
        scale=beta_terms,
        gradient_scale=lambda a, b, x: digamma(a + b) - digamma(a) - log(x),
        draws=shares(),
        calm=shares(calm=True),
        hard={
            "a million of each": any_row(lambda a, b, x: (a == 1e6) & (b == 1e6) & (x == 0.5)),
            "far from the mean": any_row(lambda a, b, x: (a > 1) & (x < 1e-3 * a / (a + b))),
        },
        violations={
            **bad(0, "concentration1", NOT_POSITIVE),
            **bad(1, "concentration0", NOT_POSITIVE),
            **bad(2, "targets", {"negative": -0.1, "above one": 1.5}),
        },
    ),
    Case(
        "likelihood.gaussian_mixture",
        value=mixture,
        gradient=mixture_slope,
        more_gradients={1: mixture_in_means, 2: mixture_in_scales},
        scale=mixture_terms,
        gradient_scale=mixture_slope_terms,
        draws=mixtures(),
        calm=mixtures(calm=True),
        item_ndim=1,
        hard={
            "far from every component": any_row(
                lambda a, m, s, t: np.min(np.abs(m - t[:, None]), axis=-1) > 50
            ),
            "a component all but excluded": any_row(lambda a, m, s, t: np.ptp(a, axis=-1) > 70),
        },
        violations=bad(2, "scales", {"zero": [1.0, 0.0, 1.0], "negative": [1.0, 1.0, -1.0]}),
    ),
    Case(
        "likelihood.multivariate_gaussian",
        value=multivariate,
        gradient=multivariate_slope,
        more_gradients={1: multivariate_in_factor},
        scale=multivariate_terms,
        gradient_scale=multivariate_slope_terms,
        draws=matrices(),
        calm=matrices(calm=True),
        item_ndim=1,
        hard={
            "prediction on target": any_row(lambda m, lower, t: np.all(m == t, axis=-1)),
            "narrow": any_row(lambda m, lower, t: np.linalg.det(np.tril(lower)) < 1e-5),
        },
        violations=bad(
            1, "scale_tril", {"singular": np.diag([1.0, 0.0, 1.0]), "negative": np.diag([1, 1, -1])}
        ),
    ),
    Case(
        "likelihood.dirichlet",
        value=dirichlet,
        gradient=dirichlet_slope,
        scale=dirichlet_terms,
        gradient_scale=dirichlet_slope_terms,
        draws=compositions(),
        calm=compositions(calm=True),
        item_ndim=1,
        hard={
            "large": any_row(lambda a, x: np.min(a, axis=-1) >= 1e3),
            "a share of next to nothing": any_row(lambda a, x: np.min(x, axis=-1) < 1e-8),
        },
        violations={
            **bad(0, "concentration", {"zero": [1.0, 0.0, 1.0], "negative": [-1.0, 1.0, 1.0]}),
            **bad(1, "targets", {"too much": [0.5, 0.4, 0.3], "negative": [1.5, -0.5, 0.0]}),
        },
    ),
    Case(
        "likelihood.crps_ensemble",
        value=crps_ensemble,
        gradient=crps_ensemble_slope,
        # What is left of distances between samples and to the target.
        scale=lambda x, y: sum(abs(a - y) for a in x) / len(x),
        gradient_scale=lambda x, y: [1 / mpf(len(x)) for _ in x],
        kinks=nearest_gap,
        draws=ensembles(),
        calm=ensembles(calm=True),
        item_ndim=1,
        hard={
            "a sample on target": any_row(lambda x, y: np.any(x == y[:, None], axis=-1)),
            "two samples alike": any_row(lambda x, y: np.any(np.diff(np.sort(x, axis=-1)) == 0, axis=-1)),
            "all samples alike": any_row(lambda x, y: np.ptp(x, axis=-1) == 0),
        },
    ),
    Case(
        "likelihood.energy_score",
        value=energy_score,
        gradient=energy_score_slope,
        scale=lambda x, y: sum(norm(differences(a, y)) for a in x) / len(x),
        gradient_scale=lambda x, y: [[1 / mpf(len(x)) for _ in a] for a in x],
        kinks=nearest_point,
        draws=ensembles(FEATURES),
        calm=ensembles(FEATURES, calm=True),
        item_ndim=2,
        hard={
            "a sample on target": any_row(lambda x, y: np.any(np.all(x == y[:, None], axis=-1), axis=-1)),
            "all samples alike": any_row(lambda x, y: np.all(np.ptp(x, axis=1) == 0, axis=-1)),
        },
    ),
    Case("likelihood.evidential", **EVIDENTIAL, **SPREADS),
    Case(
        "likelihood.evidential/penalty",
        **EVIDENTIAL,
        option_gradients={
            "evidence_penalty": lambda m, nu, alpha, beta_, t, evidence_penalty: abs(m - t) * (2 * nu + alpha)
        },
        kinks=lambda m, nu, alpha, beta_, t, evidence_penalty: abs(m - t),
        draws=located(EVIDENCES, EVIDENCES, SCALES, options=PENALTY),
        calm=located(floats(0.5, 4), floats(0.5, 4), floats(0.5, 4), calm=True, options=PENALTY),
        hard=SPREADS["hard"],
        with_options=True,
    ),
    Case("likelihood.beta_gaussian", **WEIGHTED, draws=located(SCALES), calm=located(CALM_SCALES, calm=True)),
    Case(
        "likelihood.beta_gaussian/beta",
        **WEIGHTED,
        option_gradients={"beta": lambda m, v, t, beta: weighted(m, v, t, beta) * log(v)},
        draws=located(SCALES, options=WEIGHT),
        calm=located(CALM_SCALES, calm=True, options=WEIGHT),
        with_options=True,
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


def _wide(away, width):
    return [away, 0, 0], np.diag([width, 1, 1]), [0, 0, 0]


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
    "likelihood.negative_binomial": Evidence(
        refuted_by={
            "convex": (rows(0.1, 1.0, 0.0), rows(100.0, 1.0, 0.0)),
            "lipschitz": rows(1e-4, 1.0, 1.0),
            "smooth": (rows(1e-4, 1.0, 1.0), rows(1.1e-4, 1.0, 1.0)),
            "bounded": rows(1e-3, 1.0, 1000.0),
        }
    ),
    "likelihood.zero_inflated_poisson": Evidence(
        attained={"lipschitz": rows(20.0, 0.0, 1.0), "smooth": (rows(1e-3, 0.0, 1.0), rows(-1e-3, 0.0, 1.0))},
        refuted_by={
            "convex": (rows(-40.0, np.log(20.0), 0.0), rows(0.0, np.log(20.0), 0.0)),
            "bounded": rows(0.0, 10.0, 1.0),
        },
    ),
    "likelihood.von_mises": Evidence(
        refuted_by={
            "non_negative": rows(0.0, 1e4, 0.0),
            "convex": (rows(2.0, 5.0, 0.0), rows(4.2, 5.0, 0.0)),
            "lipschitz": rows(1.0, 1e4, 0.0),
            "smooth": (rows(1e-6, 1e8, 0.0), rows(-1e-6, 1e8, 0.0)),
            "bounded": rows(3.0, 1e4, 0.0),
        }
    ),
    "likelihood.beta": Evidence(
        refuted_by={
            "non_negative": rows(100.0, 100.0, 0.5),
            "lipschitz": rows(1e-4, 1.0, 0.5),
            "smooth": (rows(1e-4, 1.0, 0.5), rows(2e-4, 1.0, 0.5)),
            "bounded": rows(1e4, 1.0, 0.5),
        }
    ),
    "likelihood.evidential": Evidence(
        refuted_by={
            "non_negative": rows(0.0, 1.0, 1.0, 1e-8, 0.0),
            "convex": (rows(10.0, 1.0, 1.0, 1.0, 0.0), rows(20.0, 1.0, 1.0, 1.0, 0.0)),
            "lipschitz": rows(1e-4, 1.0, 1.0, 1e-9, 0.0),
            "smooth": (rows(1e-10, 1.0, 1.0, 1e-16, 0.0), rows(-1e-10, 1.0, 1.0, 1e-16, 0.0)),
            "bounded": rows(1e3, 1.0, 1e3, 1.0, 0.0),
        }
    ),
    "likelihood.beta_gaussian": Evidence(
        refuted_by={
            **_STEEP,
            "lipschitz": rows(1e4, 1.0, 0.0),
            "smooth": (rows(1e-10, 1e-14, 0.0), rows(-1e-10, 1e-14, 0.0)),
        }
    ),
    "likelihood.gaussian_mixture": Evidence(
        attained={
            "lipschitz": rows([20, -20, -20], [1e3, 0, 1e3], [1, 1, 1], 0),
            "smooth": (
                rows([1e-3, 0, -40], [0, 1e3, 1e3], [1, 1, 1], 0),
                rows([0, 1e-3, -40], [0, 1e3, 1e3], [1, 1, 1], 0),
            ),
        },
        refuted_by={
            "non_negative": rows([0, 0, 0], [0, 0, 0], [1e-3, 1e-3, 1e-3], 0),
            "convex": (
                rows([0, 0, -80], [np.sqrt(20), 0, 0], [1, 1, 1], 0),
                rows([20, 0, -80], [np.sqrt(20), 0, 0], [1, 1, 1], 0),
            ),
            "bounded": rows([0, 0, 0], [1e3, 1e3, 1e3], [1, 1, 1], 0),
        },
    ),
    "likelihood.multivariate_gaussian": Evidence(
        refuted_by={
            "non_negative": rows(*_wide(0, 1e-3)),
            "lipschitz": rows(*_wide(1, 1e-3)),
            "smooth": (rows(*_wide(1e-10, 1e-8)), rows(*_wide(-1e-10, 1e-8))),
            "bounded": rows(*_wide(1e4, 1)),
        }
    ),
    "likelihood.dirichlet": Evidence(
        refuted_by={
            "non_negative": rows([100, 100, 100], [1 / 3, 1 / 3, 1 / 3]),
            "lipschitz": rows([1e-4, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
            "smooth": (rows([1e-4, 1, 1], [1 / 3, 1 / 3, 1 / 3]), rows([2e-4, 1, 1], [1 / 3, 1 / 3, 1 / 3])),
            "bounded": rows([1e4, 1, 1], [1 / 3, 1 / 3, 1 / 3]),
        }
    ),
    "likelihood.crps_ensemble": Evidence(
        attained={"lipschitz": rows([1, 2], 0)},
        refuted_by={
            "convex": (rows([10, 30, 20], 0), rows([30, 10, 20], 0)),
            "smooth": (rows([1e-9, 5, 7], 0), rows([-1e-9, 5, 7], 0)),
            "bounded": rows([1e4, 1e4, 1e4], 0),
        },
    ),
    "likelihood.energy_score": Evidence(
        attained={"lipschitz": rows([[1, 0], [2, 0]], [0, 0])},
        refuted_by={
            "convex": (rows([[10], [30], [20]], [0]), rows([[30], [10], [20]], [0])),
            "smooth": (rows([[1e-9], [5], [7]], [0]), rows([[-1e-9], [5], [7]], [0])),
            "bounded": rows([[1e4], [1e4], [1e4]], [0]),
        },
    ),
    "likelihood.crps_gaussian": Evidence(
        attained={"lipschitz": rows(20.0, 1.0, 0.0)},
        refuted_by={"smooth": _SHARP, "bounded": rows(1e7, 1.0, 0.0)},
    ),
}
