"""How alike two users (or items) rate, compiled; and the mean of a neighbourhood."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.models.ratings.ratings import Doubles

COSINE, MSD, PEARSON = 0, 1, 2


@njit(cache=True, nogil=True)
def likeness_rows(
    begin: int, end: int, start: Rows, other: Rows, value: Doubles, back: Rows, member: Rows, theirs: Doubles,
    measure: int, support: int, shrinkage: float, out: Floats,
) -> None:  # fmt: skip
    """The likeness of lists begin … end to all lists, into `out` (end − begin, X); (back, member, theirs) is the same table by the other side.

    `shrinkage` below zero: none. PEARSON centres on what the two have in common, unless shrinkage is asked, where the
    values are residuals already.
    """
    count = out.shape[1]
    both = np.zeros(count, np.int64)
    sums = np.zeros((count, 5))  # of a, b, ab, aa, bb
    touched = np.zeros(count, np.int64)
    for x in range(begin, end):
        many = 0
        for n in range(start[x], start[x + 1]):
            y, a = other[n], value[n]
            for m in range(back[y], back[y + 1]):
                z, b = member[m], theirs[m]
                if both[z] == 0:
                    touched[many] = z
                    many += 1
                both[z] += 1
                sums[z, 0] += a
                sums[z, 1] += b
                sums[z, 2] += a * b
                sums[z, 3] += a * a
                sums[z, 4] += b * b
        for t in range(many):
            z = touched[t]
            n, found = both[z], 0.0
            if n >= support:
                sa, sb, ab, aa, bb = sums[z, 0], sums[z, 1], sums[z, 2], sums[z, 3], sums[z, 4]
                if measure == MSD:
                    found = 1.0 / (max(aa - 2 * ab + bb, 0.0) / n + 1)
                elif measure == PEARSON and shrinkage < 0:
                    va, vb = n * aa - sa * sa, n * bb - sb * sb
                    if va > 1e-9 and vb > 1e-9:
                        found = (n * ab - sa * sb) / np.sqrt(va * vb)
                elif aa > 0 and bb > 0:
                    found = ab / np.sqrt(aa * bb)
                    if shrinkage >= 0:
                        found *= (n - 1) / (n - 1 + shrinkage) if n > 1 else 0.0
            out[x - begin, z] = found
            both[z] = 0
            sums[z, :] = 0


@njit(cache=True, nogil=True)
def near_means(
    begin: int, end: int, asked: Rows, among: Rows, likeness: Floats, start: Rows, member: Rows, value: Doubles, k: int,
    least: int, out: Doubles, found: NDArray[np.int64],
) -> None:  # fmt: skip
    """For each question n, the mean of `value` in list among[n], weighted by likeness[asked[n]], of the k most alike.

    Only positive likeness counts; fewer than `least` neighbours give 0 and `found` says how many there were.
    """
    alike, worth = np.empty(k), np.empty(k)
    for n in range(begin, end):
        out[n], found[n] = 0.0, 0
        if asked[n] < 0 or among[n] < 0:
            continue
        many = 0
        for m in range(start[among[n]], start[among[n] + 1]):
            s = likeness[asked[n], member[m]]
            if s <= 0 or (many == k and s <= alike[k - 1]):
                continue
            # Kept sorted, most alike first; of those equally alike the first stays.
            place = many if many < k else k - 1
            while place > 0 and alike[place - 1] < s:
                alike[place], worth[place] = alike[place - 1], worth[place - 1]
                place -= 1
            alike[place], worth[place] = s, value[m]
            many = min(many + 1, k)
        top, below = 0.0, 0.0
        for m in range(many):
            top += alike[m] * worth[m]
            below += alike[m]
        found[n] = many
        if many >= least and below > 0:
            out[n] = top / below
