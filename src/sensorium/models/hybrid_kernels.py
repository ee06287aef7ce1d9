"""The inner loops of hybrid factorisation, compiled. Imported where training starts, never before: it imports numba.

A side (people or items) is a row of its own for each entity, some rows shared with others (features), and a dense part
that stands still within a block. Vectors are W = size + 1 long: the last column is the bias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

ADAGRAD, ADADELTA, ADAM = 0, 1, 2
ONE, ZERO, MOST_LOSS = np.float32(1), np.float32(0), np.float32(10)
SHORT = dict(cache=True, nogil=True, fastmath=True, error_model="numpy")
LONG = SHORT | {"boundscheck": False}


class Side(NamedTuple):
    """**Shapes** own (N,) row of `value` or −1, weight (N,); indptr, indices, data: the shared features of each entity;
    value, second, first (F, W), power (F, 2): what is learnt of own rows; shared_…: the same of shared ones;
    base (N, W) or (0, W): the dense part; slope (N, W): the gradient of the dense part, summed over a block.
    """

    own: Any
    weight: Any
    indptr: Any
    indices: Any
    data: Any
    value: Any
    second: Any
    first: Any
    power: Any
    shared_value: Any
    shared_second: Any
    shared_first: Any
    shared_power: Any
    base: Any
    slope: Any


class Step(NamedTuple):
    """How a gradient moves a row. `decays` asks for the mean step lengths, which a penalty multiplies."""

    how: int
    rate: Any
    rho: Any
    epsilon: Any
    beta1: Any
    beta2: Any
    decays: bool


class Seen(NamedTuple):
    """Who had what: a bit a pair (U, ⌈I/8⌉), or, where that would be too large, sorted rows."""

    bits: Any
    indptr: Any
    indices: Any


@njit(**SHORT)
def drawn(state: Any) -> Any:
    """The next state of a xorshift generator of 64 bits."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@njit(**SHORT)
def below(state: Any, count: int) -> int:
    """A whole number below `count`, from the upper 32 bits of a state."""
    high = (state * np.uint64(2685821657736338717)) >> np.uint64(32)
    return np.int64((high * np.uint64(count)) >> np.uint64(32))


@njit(**LONG)
def had(seen: Any, user: int, item: int) -> bool:
    """Whether the person had the item."""
    if seen.bits.shape[0] > 0:
        return (seen.bits[user, item >> 3] >> (item & 7)) & 1 == 1
    low, high = seen.indptr[user], seen.indptr[user + 1]
    while low < high:
        middle = (low + high) >> 1
        if seen.indices[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < seen.indptr[user + 1] and seen.indices[low] == item


@njit(**LONG)
def represent(side: Any, row: int, out: Any) -> None:
    """The vector of an entity: its own row, its features, its dense part."""
    size = out.shape[0]
    own = side.own[row]
    if own >= 0:
        weight = side.weight[row]
        for j in range(size):
            out[j] = weight * side.value[own, j]
    else:
        for j in range(size):
            out[j] = ZERO
    for place in range(side.indptr[row], side.indptr[row + 1]):
        feature, weight = side.indices[place], side.data[place]
        for j in range(size):
            out[j] += weight * side.shared_value[feature, j]
    if side.base.shape[0] > 0:
        for j in range(size):
            out[j] += side.base[row, j]


@njit(**LONG)
def dot(one: Any, other: Any) -> Any:
    """The inner product of two rows."""
    total = ZERO
    for j in range(one.shape[0]):
        total += one[j] * other[j]
    return total


@njit(**LONG)
def likes(side: Any, row: int, person: Any, scratch: Any) -> Any:
    """The score of an item for a person whose last entry is 1; without features nothing is copied."""
    if side.indices.shape[0] == 0 and side.base.shape[0] == 0 and side.own[row] >= 0:
        return side.weight[row] * dot(side.value[side.own[row]], person)
    represent(side, row, scratch)
    return dot(scratch, person)


@njit(**LONG)
def moved(value: Any, second: Any, first: Any, power: Any, row: int, scale: Any, vector: Any, step: Any) -> Any:
    """One row moved against scale · vector. Returns the sum of its step lengths where they are asked for."""
    size = vector.shape[0]
    lengths = ZERO
    if step.how == ADAGRAD:
        if step.decays:
            for j in range(size):
                lengths += step.rate / np.sqrt(second[row, j])
        for j in range(size):
            slope = scale * vector[j]
            value[row, j] -= step.rate * slope / np.sqrt(second[row, j])
            second[row, j] += slope * slope
    elif step.how == ADADELTA:
        for j in range(size):
            slope = scale * vector[j]
            second[row, j] = step.rho * second[row, j] + (ONE - step.rho) * slope * slope
            length = np.sqrt(first[row, j] + step.epsilon) / np.sqrt(second[row, j] + step.epsilon)
            change = length * slope
            first[row, j] = step.rho * first[row, j] + (ONE - step.rho) * change * change
            value[row, j] -= change
            if step.decays:
                lengths += length
    else:  # the bias of its means is mended by the row's own count of steps, as rows are touched at different rates
        power[row, 0] *= step.beta1
        power[row, 1] *= step.beta2
        mend1, mend2 = ONE / (ONE - power[row, 0]), ONE / (ONE - power[row, 1])
        for j in range(size):
            slope = scale * vector[j]
            first[row, j] = step.beta1 * first[row, j] + (ONE - step.beta1) * slope
            second[row, j] = step.beta2 * second[row, j] + (ONE - step.beta2) * slope * slope
            value[row, j] -= step.rate * first[row, j] * mend1 / (np.sqrt(second[row, j] * mend2) + step.epsilon)
        if step.decays:
            lengths = step.rate * np.float32(size)
    return lengths


@njit(**LONG)
def learn(side: Any, row: int, scale: Any, vector: Any, step: Any) -> Any:
    """The gradient scale · vector of an entity's vector, handed to all it is made of. Returns the mean step length."""
    lengths, parts = ZERO, 0
    own = side.own[row]
    if own >= 0:
        weight = side.weight[row]
        lengths += moved(side.value, side.second, side.first, side.power, own, scale * weight, vector, step)
        parts += 1
    for place in range(side.indptr[row], side.indptr[row + 1]):
        lengths += moved(
            side.shared_value, side.shared_second, side.shared_first, side.shared_power,
            side.indices[place], scale * side.data[place], vector, step,
        )  # fmt: skip
        parts += 1
    if side.slope.shape[0] > 0:
        for j in range(vector.shape[0]):
            side.slope[row, j] += scale * vector[j]
    return lengths / np.float32(max(parts, 1) * vector.shape[0])


@njit(**LONG)
def pull(people: Any, things: Any, user: int, good: int, bad: int, loss: Any, scratch: Any, step: Any) -> Any:
    """`good` towards the person, `bad` away. scratch: the person with 1 last, good's and bad's vectors, one to write."""
    person, one, other, change = scratch[0], scratch[1], scratch[2], scratch[3]
    size = person.shape[0]
    for j in range(size - 1):
        change[j] = other[j] - one[j]
    change[size - 1] = ZERO  # a person's bias moves no order
    item = learn(things, good, -loss, person, step) + learn(things, bad, loss, person, step)
    return learn(people, user, loss, change, step), item


@njit(**LONG)
def logistic(
    users: Any, items: Any, targets: Any, weights: Any, people: Any, things: Any, step: Any
) -> Any:  # fmt: skip
    """One pass of the logistic loss. Returns the sums of mean step lengths (person, item)."""
    scratch = np.empty((3, things.value.shape[1]), np.float32)
    person, item, change = scratch[0], scratch[1], scratch[2]
    size = person.shape[0]
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        represent(people, users[n], person)
        represent(things, items[n], item)
        bias = person[size - 1]
        person[size - 1] = ONE
        score = dot(person, item) + bias
        good = ONE if targets[n] > 0 else ZERO
        loss = weights[n] * (ONE / (ONE + np.exp(-score)) - good)
        for j in range(size - 1):
            change[j] = item[j]
        change[size - 1] = ONE
        lengths_item += learn(things, items[n], loss, person, step)
        lengths_user += learn(people, users[n], loss, change, step)
    return lengths_user, lengths_item


@njit(**LONG)
def bpr(
    users: Any, items: Any, weights: Any, pool: Any, seen: Any, people: Any, things: Any, step: Any, seed: int
) -> Any:  # fmt: skip
    """One pass of BPR; `pool` holds what is drawn against, an item as often as it should be drawn."""
    scratch = np.empty((4, things.value.shape[1]), np.float32)
    size, state = scratch.shape[1], np.uint64(seed)
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        user, good = users[n], items[n]
        bad = good
        for _ in range(100):
            state = drawn(state)
            bad = pool[below(state, pool.shape[0])]
            if not had(seen, user, bad):
                break
        if bad == good:
            continue
        represent(people, user, scratch[0])
        scratch[0, size - 1] = ONE
        represent(things, good, scratch[1])
        represent(things, bad, scratch[2])
        lead = dot(scratch[0], scratch[1]) - dot(scratch[0], scratch[2])
        loss = weights[n] / (ONE + np.exp(lead))
        one, other = pull(people, things, user, good, bad, loss, scratch, step)
        lengths_user += one
        lengths_item += other
    return lengths_user, lengths_item


@njit(**LONG)
def violator(
    user: int, score: Any, pool: Any, most: int, seen: Any, things: Any, person: Any, out: Any, state: Any
) -> Any:  # fmt: skip
    """An item not had that scores above score − 1, after how many draws, and the generator's state; (−1, …) for none."""
    for tried in range(1, most + 1):
        state = drawn(state)
        bad = pool[below(state, pool.shape[0])]
        if likes(things, bad, person, out) > score - ONE and not had(seen, user, bad):
            return bad, tried, state
    return -1, most, state


@njit(**LONG)
def warp(
    users: Any, items: Any, weights: Any, pool: Any, gains: Any, seen: Any, people: Any, things: Any, step: Any, seed: int
) -> Any:  # fmt: skip
    """One pass of WARP; gains[t] is the loss of an item whose violator was found at draw t."""
    scratch = np.empty((4, things.value.shape[1]), np.float32)
    size, state = scratch.shape[1], np.uint64(seed)
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        user, good = users[n], items[n]
        represent(people, user, scratch[0])
        scratch[0, size - 1] = ONE
        represent(things, good, scratch[1])
        score = dot(scratch[0], scratch[1])
        bad, tried, state = violator(
            user, score, pool, gains.shape[0] - 1, seen, things, scratch[0], scratch[2], state
        )  # fmt: skip
        if bad < 0:
            continue
        represent(things, bad, scratch[2])
        loss = min(weights[n] * gains[tried], MOST_LOSS)
        one, other = pull(people, things, user, good, bad, loss, scratch, step)
        lengths_user += one
        lengths_item += other
    return lengths_user, lengths_item


@njit(**LONG)
def warp_kos(
    users: Any, items: Any, start: Any, order: Any, k: int, n: int, pool: Any, gains: Any, seen: Any,
    people: Any, things: Any, step: Any, seed: int,
) -> Any:  # fmt: skip
    """One pass of k-OS WARP: of `n` draws from a person's items, the k-th best scored is pulled up.

    `order` lists the persons of this pass; items[start[p] : start[p + 1]] are those of person users[p].
    """
    scratch = np.empty((4, things.value.shape[1]), np.float32)
    scores, chosen = np.empty(n, np.float32), np.empty(n, np.int64)
    size, state = scratch.shape[1], np.uint64(seed)
    lengths_user, lengths_item = 0.0, 0.0
    for p in order:
        user, count = users[p], start[p + 1] - start[p]
        if count == 0:
            continue
        represent(people, user, scratch[0])
        scratch[0, size - 1] = ONE
        draws = min(n, count)
        for j in range(draws):
            state = drawn(state)
            item = items[start[p] + below(state, count)]
            score = likes(things, item, scratch[0], scratch[1])
            place = j  # kept sorted, best first
            while place > 0 and scores[place - 1] < score:
                scores[place], chosen[place] = scores[place - 1], chosen[place - 1]
                place -= 1
            scores[place], chosen[place] = score, item
        kth = min(k, draws) - 1
        bad, tried, state = violator(
            user, scores[kth], pool, gains.shape[0] - 1, seen, things, scratch[0], scratch[2], state
        )  # fmt: skip
        if bad < 0:
            continue
        represent(things, chosen[kth], scratch[1])
        represent(things, bad, scratch[2])
        one, other = pull(people, things, user, chosen[kth], bad, min(gains[tried], MOST_LOSS), scratch, step)
        lengths_user += one
        lengths_item += other
    return lengths_user, lengths_item


@njit(**LONG)
def softmax(
    users: Any, items: Any, weights: Any, pool: Any, shift: Any, most: int, people: Any, things: Any, step: Any, seed: int
) -> Any:  # fmt: skip
    """One pass of softmax over the item and `most` drawn ones; shift[i] = −log of how often item i is expected among them."""
    width = things.value.shape[1]
    person, change, rows = (
        np.empty(width, np.float32),
        np.empty(width, np.float32),
        np.empty((most + 1, width), np.float32),
    )
    chosen, logits, state = np.empty(most + 1, np.int64), np.empty(most + 1, np.float32), np.uint64(seed)
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        user, count = users[n], 1
        represent(people, user, person)
        person[width - 1] = ONE
        chosen[0] = items[n]
        for _ in range(most):
            state = drawn(state)
            bad = pool[below(state, pool.shape[0])]
            if bad != items[n]:
                chosen[count] = bad
                count += 1
        top = np.float32(-1e30)
        for c in range(count):
            represent(things, chosen[c], rows[c])
            logits[c] = dot(rows[c], person)
            if c > 0:
                logits[c] += shift[chosen[c]]
            top = max(top, logits[c])
        whole = ZERO
        for c in range(count):
            logits[c] = np.exp(logits[c] - top)
            whole += logits[c]
        change[:] = ZERO
        length = ZERO
        for c in range(count):
            slope = weights[n] * (logits[c] / whole - (ONE if c == 0 else ZERO))
            for j in range(width - 1):
                change[j] += slope * rows[c, j]
            length += learn(things, chosen[c], slope, person, step)
        lengths_item += length / np.float32(count)
        lengths_user += learn(people, user, ONE, change, step)
    return lengths_user, lengths_item
