"""The compiled part of a search through cells; imported where the work starts, since numba takes a moment.

All of it runs without the interpreter's lock, and in few calls: each call of numpy costs some microseconds more in a server,
where nothing is in the caches, than in a loop that does nothing else.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows

F = np.float32


@numba.njit(cache=True, nogil=True, fastmath=True)
def powers(x: Floats) -> None:
    """exp in place (N,), to a few units of the last place, from −87 to 87: a loop that compilers turn into vectors.

    exp x = 2^k · exp f with |f| ≤ ln 2 ÷ 2, the second by a polynomial. **Source** S. Moshier, Cephes, expf.
    """
    scale = np.empty(len(x), np.float32)
    bits = scale.view(np.int32)
    for i in range(len(x)):
        v = min(max(x[i], F(-87)), F(87))
        k = np.floor(v * F(1.44269504) + F(0.5))
        f = v - k * F(0.693359375) + k * F(2.12194440e-4)
        p = F(1.9875691500e-4)
        p = p * f + F(1.3981999507e-3)
        p = p * f + F(8.3334519073e-3)
        p = p * f + F(4.1665795894e-2)
        p = p * f + F(1.6666665459e-1)
        p = p * f + F(5.0000001201e-1)
        x[i] = p * f * f + f + F(1)
        bits[i] = (np.int32(k) + np.int32(127)) << np.int32(23)
    for i in range(len(x)):
        x[i] *= scale[i]


@numba.njit(cache=True, nogil=True, fastmath=True)
def near_cells(
    centres: Floats, spread: Floats, around: Floats, inside: Floats, asked: Floats, sharpness: float, weights: Floats
) -> tuple[Floats, Floats]:
    """What a nearness is worth in each cell: the mean of its scores there; and the sum of their squares.

    **Shapes** centres (D, G), so that the product runs along memory; spread (G,), around (D, D), inside (G,): how many items
    count; asked (N, D): the history's vectors times the sharpness; weights (N,) → (G,), (G,).
    """
    pairs = np.dot(np.dot(asked, around), asked.T)
    near = np.dot(asked, centres)
    for n in range(len(asked)):
        half = F(0.5) * pairs[n, n]
        for c in range(len(spread)):
            near[n, c] += half * spread[c] - F(sharpness)
    powers(near.reshape(-1))
    for n in range(len(asked)):
        for m in range(len(asked)):
            pairs[n, m] = min(pairs[n, m], F(20))
    powers(pairs.reshape(-1))
    for n in range(len(asked)):
        for m in range(len(asked)):
            pairs[n, m] *= weights[n] * weights[m]
    paired = np.dot(pairs, near)
    means, squares = np.zeros(len(spread), np.float32), np.zeros(len(spread), np.float32)
    for n in range(len(asked)):
        for c in range(len(spread)):
            means[c] += weights[n] * near[n, c]
            squares[c] += paired[n, c] * near[n, c]
    for c in range(len(spread)):
        squares[c] *= inside[c]
    return means, squares


@numba.njit(cache=True, nogil=True, fastmath=True)
def near_items(values: Floats, asked: Floats, sharpness: float, weights: Floats) -> Floats:
    """Σ weight · exp(asked · v − sharpness) for some vectors. **Shapes** values (C, D), asked (D, N), weights (N,) → (C,)."""
    near = np.dot(values, asked)
    flat = near.reshape(-1)
    for i in range(len(flat)):
        flat[i] -= F(sharpness)
    powers(flat)
    out = np.zeros(len(values), np.float32)
    for c in range(len(values)):
        for n in range(len(weights)):
            out[c] += weights[n] * near[c, n]
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def along(values: Floats, at: Rows, person: Floats) -> Floats:
    """The product of some rows of a table with one vector (C,)."""
    out = np.zeros(len(at), np.float32)
    for i in range(len(at)):
        row = values[at[i]]
        for d in range(len(person)):
            out[i] += row[d] * person[d]
    return out


@numba.njit(cache=True, nogil=True)
def sunk(heap: Rows, size: int, worth: Floats, at: int) -> None:
    """Puts what stands at one place of a heap where it belongs: the worthiest on top, of equals the lower."""
    one = heap[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            worth[heap[right]] > worth[heap[child]]
            or (worth[heap[right]] == worth[heap[child]] and heap[right] < heap[child])
        ):
            child = right
        other = heap[child]
        if worth[other] < worth[one] or (worth[other] == worth[one] and other > one):
            break
        heap[at] = other
        at = child
    heap[at] = one


@numba.njit(cache=True, nogil=True)
def heaped(worth: Floats) -> Rows:
    """All as a heap. Few of them are ever taken, so that to sort them would be a waste."""
    heap = np.arange(len(worth))
    for at in range(len(heap) // 2 - 1, -1, -1):
        sunk(heap, len(heap), worth, at)
    return heap


@numba.njit(cache=True, nogil=True)
def lifted(heap: Rows, size: int, worth: Floats) -> int:
    """Takes the worthiest off a heap of some size, which is then one less."""
    first = heap[0]
    heap[0] = heap[size - 1]
    sunk(heap, size - 1, worth, 0)
    return first


@numba.njit(cache=True, nogil=True)
def gathered(worth: Floats, start: Rows, rows: Rows, keep: NDArray[np.bool_], most: int) -> tuple[Rows, Rows]:
    """The allowed rows of the worthiest cells, cell by whole cell until there are `most` (never more than twice as many),
    and their places in `rows`. `keep` (I,) is by place."""
    room = min(len(rows), 2 * most)
    out, places = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    heap = heaped(worth)
    for taken in range(len(heap)):
        if count >= most:
            break
        cell = lifted(heap, len(heap) - taken, worth)
        for p in range(start[cell], start[cell + 1]):
            if keep[p] and count < room:
                out[count], places[count] = rows[p], p
                count += 1
    return out[:count], places[:count]


@numba.njit(cache=True, nogil=True)
def heaviest(
    weight: Floats, start: Rows, rows: Rows, own: Rows, count: int, most: int
) -> tuple[Rows, Rows, Rows, Floats]:
    """The `count` heaviest cells, as long as they hold `most` items together; the rows and the places of all their items,
    and 0 for each that is among `own` (ascending), else 1."""
    chosen, out, places = np.empty(count, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    others = np.empty(most, np.float32)
    heap = heaped(weight)
    taken, items = 0, 0
    while taken < min(count, len(heap)):
        cell = lifted(heap, len(heap) - taken, weight)
        if items + start[cell + 1] - start[cell] > most:
            break
        chosen[taken] = cell
        taken += 1
        for p in range(start[cell], start[cell + 1]):
            at = np.searchsorted(own, rows[p])
            out[items], places[items] = rows[p], p
            others[items] = 0 if at < len(own) and own[at] == rows[p] else 1
            items += 1
    return chosen[:taken], out[:items], places[:items], others[:items]
