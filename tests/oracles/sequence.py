"""Losses of sequences by hand, every alignment or path enumerated: Graves (2006, 2012), Lafferty (2001)."""

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


HEARD, SAID, SOUNDS = 3, 2, 3


@st.composite
def transduced(draw, options: bool = False, awkward: bool = True):
    """Logits of each frame once so many labels are said, and the labels: there may be none."""
    blank = draw(st.sampled_from([0, OTHER_BLANK])) if options else 0
    z = draw(scores(HEARD, SAID + 1, SOUNDS, awkward=awkward))
    labels = (blank + draw(one_each(st.integers(1, SOUNDS - 1), SAID, dtype=np.int64))) % SOUNDS
    if awkward:
        # Some rows are sure of one order: all labels at once, then blanks.
        sure = draw(one_each(st.booleans(), dtype=np.bool_))[:, None, None, None]
        following = np.eye(SOUNDS)[np.concatenate([labels, np.full((ROWS, 1), blank)], axis=1)]
        lead = draw(one_each(st.sampled_from([17.0, 40.0])))[:, None, None, None]
        z = np.where(
            sure, draw(one_each(floats(-2, 2), SOUNDS))[:, None, None] + lead * following[:, None], z
        )
    if not options:
        return (z, labels), {}
    there = draw(one_each(st.sampled_from([True, True, False]), SAID, dtype=np.bool_))
    given = {"logit_where": draw(flags(HEARD)), "label_where": there}
    return (z, labels), given | {"blank": np.int64(blank), "zero_infinity": False}


PLACES, TAGS = 4, 3
STEPS = floats(-3, 3)
AWKWARD_STEPS = st.sampled_from([0.0, -40.0, 17.0]) | STEPS


@st.composite
def tagged(draw, options: bool = False, awkward: bool = True):
    """Places and a label for each."""
    z = draw(scores(PLACES, TAGS, awkward=awkward))
    labels = draw(one_each(st.integers(0, TAGS - 1), PLACES, dtype=np.int64))
    if awkward:
        # Of some rows the labels are the chain that is far ahead.
        sure = draw(one_each(st.booleans(), dtype=np.bool_))
        labels = np.where(sure[:, None], np.argmax(z, axis=-1), labels)
    if not options:
        return (z, labels), {}
    step = AWKWARD_STEPS if awkward else STEPS
    shapes = {"transitions": (TAGS, TAGS), "start_scores": (TAGS,), "end_scores": (TAGS,)}
    given = {
        name: draw(arrays(np.float64, n, elements=step, fill=st.nothing())) for name, n in shapes.items()
    }
    kept = st.sampled_from([True, True, False])
    return (z, labels), given | {"where": draw(one_each(kept, PLACES, dtype=np.bool_))}


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


@functools.cache
def orders(frames: int, labels: int) -> tuple[tuple[tuple[int, int, bool], ...], ...]:
    """Every order of so many labels and a blank a frame: at which frame, after how many labels, which."""

    def onward(t, n):
        if t == frames:
            return [()] if n == labels else []
        said = [((t, n, True), *rest) for rest in onward(t, n + 1)] if n < labels else []
        return said + [((t, n, False), *rest) for rest in onward(t + 1, n)]

    return tuple(onward(0, 0))


class Orders:
    """Every order, its probability, and the share that takes a turn among all of them."""

    def __init__(self, z, y, logit_where=None, label_where=None, blank=0, zero_infinity=False):
        self.frames = [t for t in range(len(z)) if logit_where is None or logit_where[t]]
        kept = [n for n in range(len(y)) if label_where is None or label_where[n]]
        self.states = [0] + [n + 1 for n in kept]
        self.labels, self.blank = [y[n] for n in kept], int(blank)
        self.p = {
            (t, n): shares(z[f][s]) for t, f in enumerate(self.frames) for n, s in enumerate(self.states)
        }
        self.each = {
            order: mp.fprod(self.p[t, n][self.labels[n] if said else self.blank] for t, n, said in order)
            for order in orders(len(self.frames), len(kept))
        }
        self.total = mp.fsum(self.each.values())
        self.cost = -mp.log(max(self.each.values()))

    def share(self, *turn):
        return mp.fsum(p for order, p in self.each.items() if turn in order) / self.total

    def turns(self):
        """Of each frame and state: where they are in the logits, p, the symbols to say and their shares."""
        for (t, n), p in self.p.items():
            said = [(self.blank, self.share(t, n, False))]
            said += [(self.labels[n], self.share(t, n, True))] if n < len(self.labels) else []
            yield self.frames[t], self.states[n], p, said


def _transducer(z, y, **options):
    return -mp.log(Orders(z, y, **options).total)


def _transducer_slope(z, y, **options):
    slopes = [[[mpf(0)] * len(row) for row in frame] for frame in z]
    for f, s, p, said in Orders(z, y, **options).turns():
        slopes[f][s] = [
            mp.fsum(v * (p_k - 1 if k == symbol else p_k) for symbol, v in said) for k, p_k in enumerate(p)
        ]
    return slopes


def _transducer_scale(z, y, **options):
    slopes = _transducer_slope(z, y, **options)
    return Orders(z, y, **options).cost + mp.fsum(
        abs(slope) * (max(row) - x)
        for frame, of_frame in zip(z, slopes, strict=True)
        for row, of_row in zip(frame, of_frame, strict=True)
        for x, slope in zip(row, of_row, strict=True)
    )


def _transducer_slope_scale(z, y, **options):
    # As for CTC: a share of e^−x is as exact as x and the surprise of the likeliest order.
    found = Orders(z, y, **options)
    scales = [[[mpf(0)] * len(row) for row in frame] for frame in z]
    for f, s, p, said in found.turns():
        rests = {k: mp.fsum(p) - p_k for k, p_k in enumerate(p)}
        for symbol, v in said:
            for k, p_k in enumerate(p):
                part = rests[k] if k == symbol else p_k
                scales[f][s][k] += v * part * (3 - mp.log(v) - mp.log(part) + found.cost) if v * part else 0
    return scales


_OTHER = [[mpf(0)] * TAGS] * TAGS, [mpf(0)] * TAGS, [mpf(0)] * TAGS


class Chains:
    """Every chain of classes over the places there are: its score, and its share among all chains."""

    def __init__(self, z, y, transitions=_OTHER[0], start_scores=_OTHER[1], end_scores=_OTHER[2], where=None):
        self.places = [t for t in range(len(z)) if where is None or where[t]]
        self.z, self.steps, self.start, self.end = z, transitions, start_scores, end_scores
        self.labels = tuple(y[t] for t in self.places)
        chains = list(itertools.product(range(len(z[0])), repeat=len(self.places)))
        leads = [self.score(c) - self.score(self.labels) for c in chains]
        self.total = mp.fsum(map(mp.exp, leads))
        self.shares = {c: mp.exp(lead) / self.total for c, lead in zip(chains, leads, strict=True)}

    def score(self, chain):
        terms = [self.z[t][k] for t, k in zip(self.places, chain, strict=True)]
        terms += [self.steps[i][j] for i, j in itertools.pairwise(chain)]
        return mp.fsum([*terms, self.start[chain[0]], self.end[chain[-1]]] if chain else [])

    def surprise(self):
        return mp.log(self.total)

    def share(self, holds):
        """How likely it is that something holds of a chain."""
        return mp.fsum(p for c, p in self.shares.items() if holds(c))

    def excess(self, holds):
        """The same, less 1 if it holds of the labels: minus the share of the chains it does not hold of."""
        return -self.share(lambda c: not holds(c)) if holds(self.labels) else self.share(holds)

    def rounded(self):
        """Of what size the numbers are that sums up to a place round: leads over the label's score."""
        found = mpf(0)
        for n, (t, label) in enumerate(zip(self.places, self.labels, strict=True)):
            found += max(abs(x - self.z[t][label]) for x in self.z[t] if x >= self.z[t][label])
            ends = [self.start] * (n == 0) + [self.end] * (n == len(self.places) - 1)
            found += mp.fsum(max(abs(x - scores[label]) for x in scores) for scores in ends)
            if n:
                own = self.steps[self.labels[n - 1]][label]
                found += max(abs(x - own) for row in self.steps for x in row)
        return found


def _crf(z, y, **options):
    return Chains(z, y, **options).surprise()


def _crf_slope(z, y, **options):
    chains = Chains(z, y, **options)
    slopes = [[mpf(0)] * len(z[0]) for _ in z]
    for n, t in enumerate(chains.places):
        slopes[t] = [chains.excess(lambda c, n=n, k=k: c[n] == k) for k in range(len(z[0]))]
    return slopes


def _crf_steps(z, y, **options):
    chains, tags = Chains(z, y, **options), range(len(z[0]))
    pairs = range(1, len(chains.places))
    return [
        [
            mp.fsum(chains.excess(lambda c, n=n, i=i, j=j: c[n - 1 : n + 1] == (i, j)) for n in pairs)
            for j in tags
        ]
        for i in tags
    ]


def _crf_end(which):
    def gradient(z, y, **options):
        chains = Chains(z, y, **options)
        if not chains.places:
            return [mpf(0)] * len(z[0])
        return [chains.excess(lambda c, k=k: c[which] == k) for k in range(len(z[0]))]

    return gradient


def _crf_scale(z, y, **options):
    # What is rounded counts for as much as the loss hangs on it: chains other than the labels' do.
    chains = Chains(z, y, **options)
    others = chains.share(lambda c: c != chains.labels)
    return chains.surprise() + others * chains.rounded() + _crf_detour(z, y, **options)


def _crf_detour(z, y, **options):
    # Chains that are ahead up to some place and fall behind later leave a rounding of their lead.
    where = options.pop("where", None) or [True] * len(z)
    options.pop("end_scores", None)
    upto = [[w and t <= n for t, w in enumerate(where)] for n in range(len(z))]
    return max(Chains(z, y, where=part, **options).surprise() for part in upto)


def _crf_slope_scale(z, y, **options):
    # A share of e^−x is as exact as x, and as the leads that make it up.
    chains = Chains(z, y, **options)
    size = 1 + chains.rounded()
    scales = [[mpf(0)] * len(z[0]) for _ in z]
    for n, t in enumerate(chains.places):
        q = [chains.share(lambda c, n=n, k=k: c[n] == k) for k in range(len(z[0]))]
        each = [p * (size - mp.log(p)) if p else mpf(0) for p in q]
        scales[t] = [mp.fsum(each) - e if k == chains.labels[n] else e for k, e in enumerate(each)]
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


def _says_all_at_once(z, y, **_):
    of_states = z[:, :, :SAID] - np.take_along_axis(z[:, :, :SAID], y[:, None, :, None], axis=-1)
    return np.all(_leads(z, 30), axis=-1) & np.all(of_states <= 0, axis=(1, 2, 3))


TRANSDUCER_HARD = {
    "offset of 1e4": any_row(lambda z, y, **_: np.max(z, axis=(-1, -2, -3)) > 9e3),
    "sure of one order": any_row(_says_all_at_once),
    "a label twice running": any_row(lambda z, y, **_: y[:, 0] == y[:, 1]),
}
TURNS = {
    "a frame gone from the middle": any_row(
        lambda z, y, logit_where, **_: ~logit_where[:, 1] & logit_where[:, 2]
    ),
    "the first label gone": any_row(lambda z, y, label_where, **_: ~label_where[:, 0] & label_where[:, 1]),
    "the last label gone": any_row(lambda z, y, label_where, **_: label_where[:, 0] & ~label_where[:, 1]),
    "no label": any_row(lambda z, y, label_where, **_: ~np.any(label_where, axis=-1)),
    "another blank": lambda data, options: bool(options["blank"] != 0),
}
TRANSDUCER = {
    "value": _transducer,
    "gradient": _transducer_slope,
    "scale": _transducer_scale,
    "gradient_scale": _transducer_slope_scale,
    "item_ndim": 3,
}

CRF_HARD = {
    "offset of 1e4": any_row(lambda z, y, **_: np.max(z, axis=(-1, -2)) > 9e3),
    "sure of the labels": any_row(
        lambda z, y, **_: _leads(z, 30) & np.all(np.argmax(z, axis=-1) == y, axis=-1)
    ),
    "sure of other labels": any_row(
        lambda z, y, **_: _leads(z, 30) & np.all(np.argmax(z, axis=-1) != y, axis=-1)
    ),
}
CHAINED = {
    "a place gone from the middle": any_row(
        lambda z, y, where, **_: where[:, 0] & ~where[:, 1] & where[:, 2]
    ),
    "the first place gone": any_row(lambda z, y, where, **_: ~where[:, 0] & where[:, 1]),
    "no place": any_row(lambda z, y, where, **_: ~np.any(where, axis=-1)),
    "a step that nobody takes": lambda data, options: bool(np.any(options["transitions"] < -30)),
}
CRF = {
    "value": _crf,
    "gradient": _crf_slope,
    "scale": _crf_scale,
    "gradient_scale": _crf_slope_scale,
    "item_ndim": 2,
    "mask_ndim": 1,
    "violations": {"labels": (1, TAGS), "negative labels": (1, -1)},
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
    Case(
        "sequence.transducer",
        draws=transduced(),
        calm=transduced(awkward=False),
        hard=TRANSDUCER_HARD,
        violations={"labels": (1, SOUNDS), "negative labels": (1, -1), "the blank": (1, 0)},
        **TRANSDUCER,
    ),
    Case(
        "sequence.transducer/with options",
        draws=transduced(options=True),
        calm=transduced(options=True, awkward=False),
        with_options=True,
        hard=TRANSDUCER_HARD | TURNS,
        violations={"labels": (1, SOUNDS), "negative labels": (1, -1)},
        **TRANSDUCER,
    ),
    Case("sequence.crf", draws=tagged(), calm=tagged(awkward=False), hard=CRF_HARD, **CRF),
    Case(
        "sequence.crf/with options",
        draws=tagged(options=True),
        calm=tagged(options=True, awkward=False),
        with_options=True,
        option_gradients={
            "transitions": _crf_steps,
            "start_scores": _crf_end(0),
            "end_scores": _crf_end(-1),
        },
        counted=lambda z, y, where, **_: any(where),
        hard=CRF_HARD | CHAINED,
        **CRF,
    ),
)


def _rows(*items) -> tuple[np.ndarray, ...]:
    return tuple(np.broadcast_to(np.asarray(item), (ROWS, *np.shape(item))).copy() for item in items)


def _frames(*names, lead=8.0):
    """Logits that say each name in turn."""
    return lead * np.eye(CLASSES)[list(names)]


def _turns(*turns, lead=8.0):
    """Logits that make each turn, (frame, labels said, symbol)."""
    z = np.zeros((HEARD, SAID + 1, SOUNDS))
    for turn in turns:
        z[turn] = lead
    return z


EVIDENCE = {
    "sequence.ctc": Evidence(
        refuted_by={
            # Either pace is likely; halfway between the two the frames say nothing.
            "convex": (_rows(_frames(1, 2, 2), [1, 2]), _rows(_frames(1, 1, 2), [1, 2])),
            "bounded": _rows(_frames(1, 1, 1, lead=2e3), [1, 2]),
        }
    ),
    "sequence.transducer": Evidence(
        refuted_by={
            # All at once or all at the last frame: halfway between the two only the first turn is open.
            "convex": (
                _rows(_turns((0, 0, 1), (0, 1, 2), (0, 2, 0), (1, 2, 0), (2, 2, 0)), [1, 2]),
                _rows(_turns((0, 0, 0), (1, 0, 0), (2, 0, 1), (2, 1, 2), (2, 2, 0)), [1, 2]),
            ),
            "bounded": _rows(2e3 * np.eye(SOUNDS)[np.ones((HEARD, SAID + 1), int)], [2, 2]),
        }
    ),
    "sequence.crf": Evidence(
        refuted_by={"bounded": _rows(2e3 * np.eye(TAGS)[[1, 1, 1, 1]], [0, 2, 0, 2])},
    ),
}
