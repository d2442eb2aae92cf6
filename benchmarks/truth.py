"""What is right, in float64: the losses of rows and their derivatives."""

from typing import Any

import numpy as np

from benchmarks.harness import Function


def squared(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r = p.astype(np.float64) - t
    return r * r, 2 * r


def absolute(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r = p.astype(np.float64) - t
    return np.abs(r), np.sign(r)


def huber(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r = p.astype(np.float64) - t
    return np.where(np.abs(r) <= 1, 0.5 * r * r, np.abs(r) - 0.5), np.clip(r, -1, 1)


def binary(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = z.astype(np.float64)
    return np.logaddexp(0, z) - y * z, 1 / (1 + np.exp(-z)) - y


def focal(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    side = 1 - 2 * y.astype(np.float64)
    entropy = np.logaddexp(0, side * z)
    wrong = 1 / (1 + np.exp(-side * z))
    return wrong**2 * entropy, side * wrong**2 * (wrong + 2 * (1 - wrong) * entropy)


def log_cosh(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r = p.astype(np.float64) - t
    return np.logaddexp(r, -r) - np.log(2), np.tanh(r)


def categorical(z: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(ids))
    shifted = z.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    at_label = shifted[rows, ids]
    shares = np.exp(shifted, out=shifted)
    total = shares.sum(axis=-1, keepdims=True)
    shares /= total
    shares[rows, ids] -= 1
    return np.log(total[:, 0]) - at_label, shares


def _ctc_sweep(logs: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Graves's forward variables, in logarithms, over blanks and labels in turn."""
    rows, frames, states = logs.shape
    skips = np.zeros((rows, states), bool)
    skips[:, 3::2] = ids[:, 1:] != ids[:, :-1]
    found = np.full(logs.shape, -np.inf)
    found[:, 0, :2] = logs[:, 0, :2]
    for t in range(1, frames):
        before = found[:, t - 1]
        one, two = (np.pad(before, ((0, 0), (n, 0)), constant_values=-np.inf)[:, :states] for n in (1, 2))
        reached = np.logaddexp(np.logaddexp(before, one), np.where(skips, two, -np.inf))
        found[:, t] = reached + logs[:, t]
    return found


def ctc(z: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = z.astype(np.float64)
    log_shares = z - np.logaddexp.reduce(z, axis=-1, keepdims=True)
    symbols = np.zeros((len(ids), 2 * ids.shape[1] + 1), np.int64)
    symbols[:, 1::2] = ids
    logs = np.take_along_axis(log_shares, symbols[:, None, :], axis=-1)
    ahead = _ctc_sweep(logs, ids)
    behind = _ctc_sweep(logs[:, ::-1, ::-1], ids[:, ::-1])[:, ::-1, ::-1]
    total = np.logaddexp(ahead[:, -1, -1], ahead[:, -1, -2])
    given = np.exp(ahead + behind - logs - total[:, None, None])
    named = np.eye(z.shape[-1])[symbols]
    return -total, np.exp(log_shares) - given @ named


def mean_of(rows: Function) -> Function:
    """The mean over the rows, kept ones or by their weights if these come third, and its gradient."""

    def truth(p: np.ndarray, t: np.ndarray, kept: np.ndarray | None = None) -> tuple[Any, np.ndarray]:
        losses, slopes = rows(p, t)
        shares = np.full(len(losses), 1 / len(losses)) if kept is None else kept / kept.sum()
        return losses @ shares, slopes * shares.reshape(-1, *(1,) * (slopes.ndim - 1))

    return truth


def values_of(rows: Function) -> Function:
    return lambda p, t: rows(p, t)[0]
