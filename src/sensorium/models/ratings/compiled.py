"""The inner loops of gradient descent, compiled on first use and kept on disk. All walk the ratings user by user."""

from __future__ import annotations

import numpy as np
from numba import njit

from sensorium.arrays import Floats, Rows
from sensorium.models.ratings.ratings import Doubles

FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered, which is what lets them use wide registers


@njit(cache=True, nogil=True)
def baseline_sgd(
    start: Rows,
    other: Rows,
    value: Doubles,
    user: Doubles,
    item: Doubles,
    mean: float,
    epochs: int,
    rate: float,
    l2: float,
) -> None:
    """Offsets in place."""
    for _ in range(epochs):
        for u in range(len(start) - 1):
            for n in range(start[u], start[u + 1]):
                i = other[n]
                miss = value[n] - (mean + user[u] + item[i])
                user[u] += rate * (miss - l2 * user[u])
                item[i] += rate * (miss - l2 * item[i])


@njit(cache=True, nogil=True, fastmath=FAST)
def svd_epochs(
    start: Rows, other: Rows, value: Floats, mean: np.float32, user_offset: Floats, item_offset: Floats,
    user: Floats, item: Floats, epochs: int, rates: Floats, l2: Floats, biased: bool, hold: bool,
) -> None:  # fmt: skip
    """Matrix factorisation; `rates` and `l2` (4,) are of the user's and item's offset, user and item. `hold`: items stay."""
    size = user.shape[1]
    for _ in range(epochs):
        for u in range(len(start) - 1):
            p = user[u]
            mine = user_offset[u]
            for n in range(start[u], start[u + 1]):
                i = other[n]
                q = item[i]
                dot = np.float32(0)
                for f in range(size):
                    dot += p[f] * q[f]
                miss = value[n] - dot
                if biased:
                    its = item_offset[i]
                    miss -= mean + mine + its
                    mine += rates[0] * (miss - l2[0] * mine)
                    if not hold:
                        item_offset[i] = its + rates[1] * (miss - l2[1] * its)
                up, down = rates[2] * miss, np.float32(1) - rates[2] * l2[2]
                if hold:
                    for f in range(size):
                        p[f] = down * p[f] + up * q[f]
                else:
                    up_q, down_q = rates[3] * miss, np.float32(1) - rates[3] * l2[3]
                    for f in range(size):
                        old = p[f]
                        p[f] = down * old + up * q[f]
                        q[f] = down_q * q[f] + up_q * old
            user_offset[u] = mine


@njit(cache=True, nogil=True, fastmath=FAST)
def svdpp_epochs(
    start: Rows, other: Rows, value: Floats, mean: np.float32, user_offset: Floats, item_offset: Floats,
    user: Floats, item: Floats, implicit: Floats, epochs: int, rates: Floats, l2: Floats, hold: bool,
) -> None:  # fmt: skip
    """SVD++, exactly, at the cost of SVD.

    Every step changes all implicit vectors of a user's items alike: y ← (1 − ηλ) y + η·e·q/√n. So a user's visit is one
    affine map y ← a·y + b for all of them, and their sum can be carried along: a and b are applied once, at the end.
    `rates`, `l2` (5,): user's offset, item's, user, item, implicit.
    """
    size = user.shape[1]
    total, shift = np.empty(size, np.float32), np.empty(size, np.float32)
    one = np.float32(1)
    for _ in range(epochs):
        for u in range(len(start) - 1):
            begin, end = start[u], start[u + 1]
            if begin == end:
                continue
            root = np.float32(1) / np.sqrt(np.float32(end - begin))
            total[:] = 0
            shift[:] = 0
            scale = one
            for n in range(begin, end):
                y = implicit[other[n]]
                for f in range(size):
                    total[f] += y[f]
            for f in range(size):
                total[f] *= root  # Σ y / √n
            p = user[u]
            mine = user_offset[u]
            for n in range(begin, end):
                i = other[n]
                q = item[i]
                dot = np.float32(0)
                for f in range(size):
                    dot += q[f] * (p[f] + total[f])
                its = item_offset[i]
                miss = value[n] - (mean + mine + its + dot)
                mine += rates[0] * (miss - l2[0] * mine)
                up, down = rates[2] * miss, one - rates[2] * l2[2]
                if hold:
                    for f in range(size):
                        p[f] = down * p[f] + up * q[f]
                    continue
                item_offset[i] = its + rates[1] * (miss - l2[1] * its)
                up_q, down_q = rates[3] * miss, one - rates[3] * l2[3]
                up_y, down_y = rates[4] * miss, one - rates[4] * l2[4]
                scale *= down_y
                for f in range(size):
                    old_p, old_q, old_t = p[f], q[f], total[f]
                    p[f] = down * old_p + up * old_q
                    q[f] = down_q * old_q + up_q * (old_p + old_t)
                    total[f] = down_y * old_t + up_y * old_q
                    shift[f] = down_y * shift[f] + up_y * root * old_q
            user_offset[u] = mine
            if not hold:
                for n in range(begin, end):
                    y = implicit[other[n]]
                    for f in range(size):
                        y[f] = scale * y[f] + shift[f]


@njit(cache=True, nogil=True, fastmath=FAST)
def sums_of(begin: int, end: int, start: Rows, other: Rows, implicit: Floats, out: Floats) -> None:
    """Σ y / √n for the lists begin … end."""
    for u in range(begin, end):
        out[u, :] = 0
        for n in range(start[u], start[u + 1]):
            for f in range(implicit.shape[1]):
                out[u, f] += implicit[other[n], f]
        if start[u + 1] > start[u]:
            root = np.float32(1) / np.sqrt(np.float32(start[u + 1] - start[u]))
            for f in range(implicit.shape[1]):
                out[u, f] *= root


@njit(cache=True, nogil=True, fastmath=FAST)
def dots(begin: int, end: int, user: Floats, item: Floats, u: Rows, i: Rows, out: Doubles) -> None:
    """The dot product of each pair of rows; 0 where either is −1."""
    for n in range(begin, end):
        total = np.float32(0)
        if u[n] >= 0 and i[n] >= 0:
            for f in range(user.shape[1]):
                total += user[u[n], f] * item[i[n], f]
        out[n] = total


@njit(cache=True, nogil=True, fastmath=FAST)
def nmf_epochs(
    start: Rows, other: Rows, value: Floats, mean: np.float32, user_offset: Floats, item_offset: Floats,
    user: Floats, item: Floats, epochs: int, rates: Floats, l2: Floats, biased: bool, hold: bool,
) -> None:  # fmt: skip
    """Multiplicative updates of non-negative factors; `l2` (4,): offsets, user, item. `hold`: the items stay."""
    users, items, size = len(start) - 1, item.shape[0], item.shape[1]
    up_u, down_u = np.zeros((users, size), np.float32), np.zeros((users, size), np.float32)
    up_i, down_i = np.zeros((items, size), np.float32), np.zeros((items, size), np.float32)
    count = np.zeros(items, np.float32)
    for n in range(start[0], start[users]):
        count[other[n]] += 1
    for _ in range(epochs):
        up_u[:] = 0
        down_u[:] = 0
        up_i[:] = 0
        down_i[:] = 0
        for u in range(users):
            for n in range(start[u], start[u + 1]):
                i = other[n]
                guess = np.float32(0)
                for f in range(size):
                    guess += user[u, f] * item[i, f]
                if biased:
                    guess += mean + user_offset[u] + item_offset[i]
                    miss = value[n] - guess
                    user_offset[u] += rates[0] * (miss - l2[0] * user_offset[u])
                    if not hold:
                        item_offset[i] += rates[1] * (miss - l2[1] * item_offset[i])
                for f in range(size):
                    up_u[u, f] += item[i, f] * value[n]
                    down_u[u, f] += item[i, f] * guess
                    up_i[i, f] += user[u, f] * value[n]
                    down_i[i, f] += user[u, f] * guess
        for u in range(users):
            much = np.float32(start[u + 1] - start[u]) * l2[2]
            for f in range(size):
                below = down_u[u, f] + much * user[u, f]
                if below > 0:
                    user[u, f] *= up_u[u, f] / below
        if not hold:
            for i in range(items):
                much = count[i] * l2[3]
                for f in range(size):
                    below = down_i[i, f] + much * item[i, f]
                    if below > 0:
                        item[i, f] *= up_i[i, f] / below
