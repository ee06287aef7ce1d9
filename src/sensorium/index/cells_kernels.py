"""The compiled part of a search through cells; imported where the work starts, since numba takes a moment.

All of it runs without the interpreter's lock, and in few calls: each call of numpy costs some microseconds more in a server,
where nothing is in the caches, than in a loop that does nothing else.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

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
    near: Floats, spread: Floats, around: Floats, inside: Floats, asked: Floats, sharpness: float, weights: Floats
) -> tuple[Floats, Floats]:
    """What a nearness is worth in each cell: the mean of its scores there; and the sum of their squares.

    **Shapes** asked (N, D): the history's vectors times the sharpness; near (N, G): their products with the cells' centres,
    which are overwritten; spread (G,), around (D, D), inside (G,): how many items count; weights (N,) → (G,), (G,).
    """
    pairs = np.dot(np.dot(asked, around), asked.T)
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
def near_rows(table: Floats, at: Rows, asked: Floats, sharpness: float, weights: Floats) -> Floats:
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
def scale(mean: float, square: float, scores: Floats) -> NDArray[np.float64]:
    """A mean and 1 ÷ the deviation, 0 where there is none; `square`: the mean of the squares."""
    deviation, height = np.sqrt(max(square - mean * mean, 0.0)), 1e-30
    for score in scores:
        height = max(height, abs(score))
    return np.array([mean, 1 / deviation if deviation > 1e-6 * height else 0.0])


@numba.njit(cache=True, nogil=True)
def along_cells(
    centres: Floats, total: Floats, square: Floats, table: Floats, own: Rows, first: Rows, persons: Floats
) -> tuple[Floats, NDArray[np.float64]]:
    """The products of all cells with one vector of each asker, and the scales: over all items but their own.

    **Shapes** centres (D, G), total (D,), square (D, D), table (I, D), own (N,): those of asker b are `first[b] : first[b + 1]`;
    persons (B, D) → (B, G), (B, 2): mean and 1 ÷ deviation.
    """
    of_cells, scales = np.dot(persons, centres), np.empty((len(persons), 2))
    turned = np.dot(persons, square)
    for b in range(len(persons)):
        mine = own[first[b] : first[b + 1]]
        sums, squares = float(np.dot(total, persons[b])), float(np.dot(turned[b], persons[b]))
        for one in along(table, mine, persons[b]):
            sums -= one
            squares -= float(one) * one
        count = max(float(len(table) - len(mine)), 1.0)
        scales[b] = scale(sums / count, squares / count, of_cells[b])
    return of_cells, scales


@numba.njit(cache=True, nogil=True)
def along_items(table: Floats, at: Rows, found: Rows, persons: Floats) -> Floats:
    """The products of the rows `at[found[b] : found[b + 1]]` with the vector of asker b."""
    out = np.empty(len(at), np.float32)
    for b in range(len(persons)):
        out[found[b] : found[b + 1]] = along(table, at[found[b] : found[b + 1]], persons[b])
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
def gathered(worth: Floats, start: Rows, rows: Rows, keep: Bits, allowed: Rows, most: Rows) -> tuple[Rows, Rows, Rows]:
    """For each asker the allowed rows of the worthiest cells, cell by whole cell until there are `most` (never more than twice as
    many), their places in `rows`, and where those of each begin. Where no more than twice as many are allowed: all.

    **Shapes** worth (B, G); keep (B, bytes): a bit each, by place; allowed (B,): how many those are; most (B,) → two of the
    rows found, (B + 1,).
    """
    first = np.zeros(len(worth) + 1, np.int64)
    room = 0
    for b in range(len(worth)):
        room += min(allowed[b], 2 * most[b])
    out, places = np.empty(room, np.int64), np.empty(room, np.int64)
    count = 0
    for b in range(len(worth)):
        if allowed[b] <= 2 * most[b]:
            for place in listed(keep[b], allowed[b]):
                out[count], places[count] = rows[place], place
                count += 1
        else:
            end = count + most[b]
            heap = heaped(worth[b])
            for taken in range(len(heap)):
                if count >= end:
                    break
                cell = lifted(heap, len(heap) - taken, worth[b])
                p = start[cell]
                while p < start[cell + 1]:
                    byte = keep[b, p >> 3] >> (p & 7)
                    if not byte:  # nothing up to the next byte
                        p = (p | 7) + 1
                        continue
                    if byte & 1 and count < end + most[b]:
                        out[count], places[count] = rows[p], p
                        count += 1
                    p += 1
        first[b + 1] = count
    return out[:count], places[:count], first


@numba.njit(cache=True, nogil=True)
def heaviest(
    weight: Floats, start: Rows, rows: Rows, own: Rows, count: int, most: int
) -> tuple[Rows, Rows, Rows, Floats]:
    """The `count` heaviest cells, as long as they hold `most` items together; the rows and the places of all their items,
    and 0 for each that is among `own` (ascending), else 1."""
    count = min(count, len(weight))
    chosen, out, places = np.empty(count, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    others = np.empty(most, np.float32)
    held = 0
    for cell in range(len(weight)):  # of equals the lower
        if held == count and weight[cell] <= weight[chosen[count - 1]]:
            continue
        held = min(held + 1, count)
        at = held - 1
        while at > 0 and weight[chosen[at - 1]] < weight[cell]:
            chosen[at] = chosen[at - 1]
            at -= 1
        chosen[at] = cell
    taken, items = 0, 0
    while taken < count:
        cell = chosen[taken]
        if items + start[cell + 1] - start[cell] > most:
            break
        taken += 1
        for p in range(start[cell], start[cell + 1]):
            at = np.searchsorted(own, rows[p])
            out[items], places[items] = rows[p], p
            others[items] = 0 if at < len(own) and own[at] == rows[p] else 1
            items += 1
    return chosen[:taken], out[:items], places[:items], others[:items]


@numba.njit(cache=True, nogil=True, fastmath=True)
def near_scaled(
    centres: Floats, spread: Floats, around: Floats, inside: Floats, asked: Floats, weights: Floats, begin: Rows,
    sharpness: float, start: Rows, rows: Rows, own: Rows, first: Rows, table: Floats, close: bool, most: tuple[int, int],
) -> tuple[Floats, NDArray[np.float64]]:  # fmt: skip
    """What the nearness of each asker is worth in each cell, and its scale over all items but their own.

    Most of the deviation lies in a few cells next to the history, where no Gaussian will do: their items are looked at, in
    as many cells and as many items as `most` says. The product with all cells is one for all askers, as it takes
    half as long so.

    **Shapes** centres (D, G), so that it runs along memory; spread, around as `near_cells`; inside (B, G); asked (N, D), weights
    (N,): those of asker b are `begin[b] : begin[b + 1]`; own (M,) likewise by `first`; table (I, D): in the order of `rows`
    if it is `close` → (B, G), (B, 2).
    """
    products = np.dot(asked, centres)
    of_cells, scales = np.empty(inside.shape, np.float32), np.empty((len(inside), 2))
    for b in range(len(inside)):
        here = slice(begin[b], begin[b + 1])
        of_cells[b], squares = near_cells(
            products[here], spread, around, inside[b], asked[here], sharpness, weights[here]
        )
        mine = own[first[b] : first[b + 1]]
        looked, some, places, others = heaviest(squares, start, rows, mine, most[0], most[1])
        turned = np.ascontiguousarray(asked[here].T)  # a product along memory takes half the time
        seen = near_rows(table, places if close else some, turned, sharpness, weights[here])
        count, sums, square = 0.0, 0.0, 0.0
        for c in range(len(spread)):
            count += inside[b, c]
            sums += of_cells[b, c] * inside[b, c]
            square += squares[c]
        for c in looked:
            sums -= of_cells[b, c] * inside[b, c]
            square -= squares[c]
        for i in range(len(seen)):
            sums += seen[i] * others[i]
            square += seen[i] * seen[i] * others[i]
        count = max(count, 1.0)
        scales[b] = scale(sums / count, square / count, of_cells[b])
    return of_cells, scales


@numba.njit(cache=True, nogil=True, fastmath=True)
def near_items(
    table: Floats, at: Rows, found: Rows, asked: Floats, weights: Floats, begin: Rows, sharpness: float
) -> Floats:
    """The nearness of the rows `at[found[b] : found[b + 1]]` to the history of asker b, `asked[begin[b] : begin[b + 1]]`."""
    out = np.empty(len(at), np.float32)
    for b in range(len(begin) - 1):
        here = slice(begin[b], begin[b + 1])
        turned = np.ascontiguousarray(asked[here].T)
        out[found[b] : found[b + 1]] = near_rows(table, at[found[b] : found[b + 1]], turned, sharpness, weights[here])
    return out
