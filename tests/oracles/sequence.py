"""Losses of sequences by hand, every alignment or path enumerated: Graves (2006)."""

import functools
import itertools

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mpmath import mp, mpf

from oracles._case import ROWS, Case, Evidence, any_row, floats, one_each

FRAMES, CLASSES, LABELS = 5, 4, 3
OTHER_BLANK = 2

# --- draws --------------------------------------------------------------------------------------


@st.composite
def scores(draw, *item: int, awkward: bool = True) -> np.ndarray:
    """Logits with a common offset, and frames where one class is far ahead."""
    if not awkward:
        return draw(one_each(floats(-2, 2), *item))
    offset = draw(one_each(st.sampled_from([0.0, 0.0, 1e4]))).reshape(ROWS, *[1] * len(item))
    lead = draw(one_each(st.sampled_from([0.0, 17.0, 40.0]))).reshape(ROWS, *[1] * len(item))
    ahead = draw(
        arrays(np.int64, (ROWS, *item[:-1]), elements=st.integers(0, item[-1] - 1), fill=st.nothing())
    )
    z = draw(one_each(st.sampled_from([0.0]) | floats(-5, 5), *item))
    return z + offset + lead * (np.arange(item[-1]) == ahead[..., None])


def flags(count: int) -> st.SearchStrategy[np.ndarray]:
    """Which of a sequence's places there are: the first at least."""
    drawn = arrays(np.bool_, (ROWS, count), elements=st.sampled_from([True, True, False]), fill=st.nothing())
    return drawn.map(lambda there: there | (np.arange(count) == 0))


@st.composite
def spoken(draw, options: bool = False, awkward: bool = True):
    """Frames, and labels that they can spell."""
    blank = draw(st.sampled_from([0, OTHER_BLANK])) if options else 0
    z = draw(scores(FRAMES, CLASSES, awkward=awkward))
    steps = draw(one_each(st.integers(1, CLASSES - 1), LABELS, dtype=np.int64))
    if not options:
        # Two blanks between three equal labels are all that five frames have room for.
        return (z, (blank + steps) % CLASSES), {}
    there, frames = draw(flags(LABELS)), draw(flags(FRAMES))
    labels = (blank + steps) % CLASSES
    needed = [_frames_needed(row[kept]) for row, kept in zip(labels, there, strict=True)]
    frames |= (np.arange(FRAMES) < np.array(needed)[:, None]) & (frames.sum(-1) < needed)[:, None]
    given = {"logit_where": frames, "label_where": there, "blank": np.int64(blank), "zero_infinity": False}
    return (z, labels), given


def _frames_needed(labels: np.ndarray) -> int:
    return len(labels) + int(np.sum(labels[1:] == labels[:-1]))


# --- formulas -----------------------------------------------------------------------------------


def shares(z):
    """The softmax of one frame."""
    top = max(z)
    parts = [mp.exp(entry - top) for entry in z]
    return [part / mp.fsum(parts) for part in parts]


@functools.cache
def namings(frames: int, labels: tuple[int, ...], blank: int) -> tuple[tuple[int, ...], ...]:
    """Every naming of so many frames that is the labels, repetitions merged and then blanks taken out."""
    symbols = {blank, *labels}
    every = itertools.product(sorted(symbols), repeat=frames)
    return tuple(n for n in every if tuple(c for c, _ in itertools.groupby(n) if c != blank) == labels)


def _kept(z, y, logit_where, label_where):
    frames = [t for t in range(len(z)) if logit_where is None or logit_where[t]]
    return frames, tuple(c for n, c in enumerate(y) if label_where is None or label_where[n])


def _likelihoods(z, y, logit_where, label_where, blank):
    """The frames there are, their softmax, every naming and its probability."""
    frames, labels = _kept(z, y, logit_where, label_where)
    p = [shares(z[t]) for t in frames]
    found = namings(len(frames), labels, int(blank))
    return frames, p, found, [mp.fprod(p[t][c] for t, c in enumerate(naming)) for naming in found]


def _ctc(z, y, logit_where=None, label_where=None, blank=0, zero_infinity=False):
    *_, each = _likelihoods(z, y, logit_where, label_where, blank)
    return -mp.log(mp.fsum(each)) if each else mpf(0) if zero_infinity else mp.inf


def _posterior(found, each, t, k):
    return mp.fsum(a for naming, a in zip(found, each, strict=True) if naming[t] == k) / mp.fsum(each)


def _ctc_slope(z, y, logit_where=None, label_where=None, blank=0, zero_infinity=False):
    frames, p, found, each = _likelihoods(z, y, logit_where, label_where, blank)
    slopes = [[mpf(0)] * len(z[0]) for _ in z]
    for t, frame in enumerate(frames):
        slopes[frame] = [p_k - _posterior(found, each, t, k) for k, p_k in enumerate(p[t])]
    return slopes


def _ctc_scale(z, y, logit_where=None, label_where=None, blank=0, zero_infinity=False):
    # The surprise of the likeliest naming, from which those of the others take away; and what a rounding of
    # each difference of logits changes.
    *_, each = _likelihoods(z, y, logit_where, label_where, blank)
    slopes = _ctc_slope(z, y, logit_where, label_where, blank)
    gaps = [
        abs(s) * (max(row) - x)
        for row, slope in zip(z, slopes, strict=True)
        for x, s in zip(row, slope, strict=True)
    ]
    return -mp.log(max(each)) + mp.fsum(gaps)


def _ctc_slope_scale(z, y, logit_where=None, label_where=None, blank=0, zero_infinity=False):
    # A probability of e^−x is as exact as x, and so is that of a symbol given the labels, where x is the
    # surprise of the likeliest naming that has the symbol there; each is as exact as 1 less itself, too.
    frames, p, found, each = _likelihoods(z, y, logit_where, label_where, blank)
    scales = [[mpf(0)] * len(z[0]) for _ in z]
    cost = -mp.log(max(each)) if each else mpf(0)
    for t, frame in enumerate(frames):
        q = [_posterior(found, each, t, k) for k in range(len(p[t]))]
        loose = [q_k * (1 - mp.log(q_k) + cost) if q_k else mpf(0) for q_k in q]
        free = [p_k * (1 - mp.log(p_k)) for p_k in p[t]]
        scales[frame] = [
            abs(p[t][k] - q_k)
            + min(loose[k], mp.fsum(loose) - loose[k])
            + min(free[k], mp.fsum(free) - free[k])
            for k, q_k in enumerate(q)
        ]
    return scales


# --- cases --------------------------------------------------------------------------------------


def _leads(z, by):
    ordered = np.sort(z, axis=-1)
    return np.max(ordered[..., -1] - ordered[..., -2], axis=-1) >= by


CTC_HARD = {
    "offset of 1e4": any_row(lambda z, y, **_: np.max(z, axis=(-1, -2)) > 9e3),
    "confident": any_row(lambda z, y, **_: _leads(z, 30)),
    "a label twice running": any_row(lambda z, y, **_: np.any(y[:, 1:] == y[:, :-1], axis=-1)),
    "a label three times running": any_row(lambda z, y, **_: (y[:, 0] == y[:, 1]) & (y[:, 1] == y[:, 2])),
}
MASKED = {
    "a frame gone from the middle": any_row(
        lambda z, y, logit_where, **_: np.diff(logit_where.astype(int), axis=-1).max(-1) > 0
    ),
    "a label gone from the middle": any_row(
        lambda z, y, label_where, **_: ~label_where[:, 1] & label_where[:, 2]
    ),
    "another blank": lambda data, options: bool(options["blank"] != 0),
}
CTC = {
    "value": _ctc,
    "gradient": _ctc_slope,
    "scale": _ctc_scale,
    "gradient_scale": _ctc_slope_scale,
    "item_ndim": 2,
}

CASES = (
    Case(
        "sequence.ctc",
        draws=spoken(),
        calm=spoken(awkward=False),
        hard=CTC_HARD,
        violations={"labels": (1, CLASSES), "negative labels": (1, -1), "the blank": (1, 0)},
        **CTC,
    ),
    Case(
        "sequence.ctc/with options",
        draws=spoken(options=True),
        calm=spoken(options=True, awkward=False),
        with_options=True,
        hard=CTC_HARD | MASKED,
        violations={"labels": (1, CLASSES), "negative labels": (1, -1)},
        **CTC,
    ),
)


def _rows(*items) -> tuple[np.ndarray, ...]:
    return tuple(np.broadcast_to(np.asarray(item), (ROWS, *np.shape(item))).copy() for item in items)


def _frames(*names, lead=8.0):
    """Logits that say each name in turn."""
    return lead * np.eye(CLASSES)[list(names)]


EVIDENCE = {
    "sequence.ctc": Evidence(
        refuted_by={
            # Either pace is likely; halfway between the two the frames say nothing.
            "convex": (_rows(_frames(1, 2, 2), [1, 2]), _rows(_frames(1, 1, 2), [1, 2])),
            "bounded": _rows(_frames(1, 1, 1, lead=2e3), [1, 2]),
        }
    ),
}
