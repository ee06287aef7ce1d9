"""The compiled part of a search through cells; imported where the work starts, since numba takes a moment.

All of it runs without the interpreter's lock, and in few calls: each call of numpy costs some microseconds more in a server,
where nothing is in the caches, than in a loop that does nothing else.
"""

from __future__ import annotations

import numba
import numpy as np

from sensorium.arrays import Bits, Floats, Rows

F = np.float32
SOME = 64  # rows that are scored at once


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
def near_items(table: Floats, at: Rows, asked: Floats, sharpness: float, weights: Floats) -> Floats:
    """Σ weight · exp(asked · v − sharpness) for some rows v of a table, some at a time: what is copied stays in the caches.

    **Shapes** table (I, D), at (C,), asked (D, N), weights (N,) → (C,).
    """
    out = np.zeros(len(at), np.float32)
    values = np.empty((SOME, table.shape[1]), np.float32)
    for begin in range(0, len(at), SOME):
        count = min(SOME, len(at) - begin)
        for i in range(count):
            row = table[at[begin + i]]
            for d in range(len(row)):
                values[i, d] = row[d]
        near = np.dot(values[:count], asked)
        flat = near.reshape(-1)
        for i in range(len(flat)):
            flat[i] -= F(sharpness)
        powers(flat)
        for c in range(count):
            for n in range(len(weights)):
                out[begin + c] += weights[n] * near[c, n]
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def along(table: Floats, at: Rows, person: Floats) -> Floats:
    """The product of some rows of a table with one vector (C,)."""
    out = np.zeros(len(at), np.float32)
    for i in range(len(at)):
        row = table[at[i]]
        for d in range(len(person)):
            out[i] += row[d] * person[d]
    return out


@numba.njit(cache=True, nogil=True)
def scale(mean: float, square: float, scores: Floats) -> tuple[float, float]:
    """A mean and 1 ÷ the deviation, 0 where there is none; `square`: the mean of the squares."""
    deviation, height = np.sqrt(max(square - mean * mean, 0.0)), 1e-30
    for score in scores:
        height = max(height, abs(score))
    return mean, 1 / deviation if deviation > 1e-6 * height else 0.0


@numba.njit(cache=True, nogil=True)
def along_cells(
    centres: Floats, total: Floats, square: Floats, table: Floats, own: Rows, count: float, person: Floats
) -> tuple[Floats, tuple[float, float]]:
    """The product of all cells with one vector, and the scale of all items but `own`, of which there are `count`.

    **Shapes** centres (D, G), total (D,), square (D, D), table (I, D), own (N,), person (D,) → (G,).
    """
    of_cells = np.dot(person, centres)
    sums, squares = float(np.dot(total, person)), float(np.dot(np.dot(person, square), person))
    for mine in along(table, own, person):
        sums -= mine
        squares -= float(mine) * mine
    return of_cells, scale(sums / count, squares / count, of_cells)


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
def listed(bits: Bits, count: int) -> Rows:
    """The places of the `count` bits that are set."""
    out = np.empty(count, np.int64)
    found = 0
    for byte in range(len(bits)):
        if bits[byte]:
            for bit in range(8):
                if bits[byte] >> bit & 1:
                    out[found] = 8 * byte + bit
                    found += 1
    return out


@numba.njit(cache=True, nogil=True)
def gathered(worth: Floats, start: Rows, rows: Rows, keep: Bits, most: int) -> tuple[Rows, Rows]:
    """The allowed rows of the worthiest cells, cell by whole cell until there are `most` (never more than twice as many),
    and their places in `rows`. `keep`: a bit each, by place."""
    room = min(len(rows), 2 * most)
    out, places = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    heap = heaped(worth)
    for taken in range(len(heap)):
        if count >= most:
            break
        cell = lifted(heap, len(heap) - taken, worth)
        for p in range(start[cell], start[cell + 1]):
            if keep[p >> 3] >> (p & 7) & 1 and count < room:
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


@numba.njit(cache=True, nogil=True, fastmath=True)
def near_scaled(
    centres: Floats, spread: Floats, around: Floats, inside: Floats, asked: Floats, turned: Floats, sharpness: float,
    weights: Floats, start: Rows, rows: Rows, own: Rows, table: Floats, close: bool, most: tuple[int, int],
) -> tuple[Floats, tuple[float, float]]:  # fmt: skip
    """What a nearness is worth in each cell, and its scale over all items but `own`.

    Most of the deviation lies in a few cells next to the history, where no Gaussian will do: their items are looked at, in
    as many cells and as many items as `most` says. **Shapes** as `near_cells`, turned (D, N), table (I, D): in the order of
    `rows` if it is `close`.
    """
    of_cells, squares = near_cells(centres, spread, around, inside, asked, sharpness, weights)
    looked, some, places, others = heaviest(squares, start, rows, own, most[0], most[1])
    seen = near_items(table, places if close else some, turned, sharpness, weights)
    count, sums, square = 0.0, 0.0, 0.0
    for c in range(len(of_cells)):
        count += inside[c]
        sums += of_cells[c] * inside[c]
        square += squares[c]
    for c in looked:
        sums -= of_cells[c] * inside[c]
        square -= squares[c]
    for i in range(len(seen)):
        sums += seen[i] * others[i]
        square += seen[i] * seen[i] * others[i]
    count = max(count, 1.0)
    return of_cells, scale(sums / count, square / count, of_cells)
