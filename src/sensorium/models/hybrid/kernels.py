"""The inner loops of hybrid factorisation, compiled. Imported where training starts, never before: it imports numba.

A side (people or items) is a row of its own for each entity, some rows shared with others (features), and a dense part
that stands still within a block. The first number of every row is the bias; zeros behind the last make the width a
multiple of 8, so that no loop has a remainder. Arrays are handed on one by one: a tuple of them in an inner loop would
count references at each call, which takes as long as the arithmetic. What a side does not have is None, so that numba
compiles the kernel without it: entities with nothing but a row of their own are learnt many times faster.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

ADAGRAD, ADADELTA, ADAM = 0, 1, 2
ONE, ZERO, MOST_LOSS = np.float32(1), np.float32(0), np.float32(10)
FAST = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}


class Side(NamedTuple):
    """Any but `state` may be None. own None: each entity's own row is its number, with weight 1.

    **Shapes** own (N,) row of `state` or −1, weight (N,); indptr, indices, data: the shared features of each entity;
    state (F, planes, W): of own rows the value, the squares, and, but for AdaGrad, the means and Adam's two powers;
    shared (S, planes, W): the same of shared rows; base (N, W): the dense part; slope (N, W): its gradient.
    """

    own: Any
    weight: Any
    indptr: Any
    indices: Any
    data: Any
    state: Any
    shared: Any
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


@njit(**FAST)
def drawn(state: Any) -> Any:
    """The next state of a xorshift generator of 64 bits."""
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@njit(**FAST)
def below(state: Any, count: int) -> Any:
    """A whole number below `count`, from the upper 32 bits of a state."""
    high = (state * np.uint64(2685821657736338717)) >> np.uint64(32)
    return np.int64((high * np.uint64(count)) >> np.uint64(32))


@njit(**FAST)
def had(bits: Any, indptr: Any, indices: Any, user: int, item: int) -> bool:
    """Whether the person had the item."""
    if bits.shape[0] > 0:
        return (bits[user, item >> 3] >> (item & 7)) & 1 == 1
    low, high = indptr[user], indptr[user + 1]
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < indptr[user + 1] and indices[low] == item


@njit(**FAST)
def represent(
    own: Any, weight: Any, indptr: Any, indices: Any, data: Any, state: Any, shared: Any, base: Any, row: int, out: Any
) -> None:  # fmt: skip
    """The vector of an entity: its own row, its features, its dense part."""
    size = out.shape[0]
    if own is None:
        for j in range(size):
            out[j] = state[row, 0, j]
    elif own[row] >= 0:
        mine, heavy = own[row], weight[row]
        for j in range(size):
            out[j] = heavy * state[mine, 0, j]
    else:
        for j in range(size):
            out[j] = ZERO
    if shared is not None:
        for place in range(indptr[row], indptr[row + 1]):
            feature, heavy = indices[place], data[place]
            for j in range(size):
                out[j] += heavy * shared[feature, 0, j]
    if base is not None:
        for j in range(size):
            out[j] += base[row, j]


@njit(**FAST)
def dot(one: Any, other: Any) -> Any:
    """The inner product of two rows."""
    total = ZERO
    for j in range(one.shape[0]):
        total += one[j] * other[j]
    return total


@njit(**FAST)
def likes(
    own: Any, weight: Any, indptr: Any, indices: Any, data: Any, state: Any, shared: Any, base: Any, row: int,
    person: Any, out: Any,
) -> Any:  # fmt: skip
    """The score of an item for a person whose first number is 1; without features nothing is copied."""
    if own is None:
        return dot(state[row, 0], person)
    represent(own, weight, indptr, indices, data, state, shared, base, row, out)
    return dot(out, person)


@njit(**FAST)
def moved(state: Any, row: int, scale: Any, vector: Any, step: Any) -> Any:
    """One row moved against scale · vector. Returns the sum of its step lengths where they are asked for."""
    size = vector.shape[0]
    lengths = ZERO
    if step.how == ADAGRAD:
        rate = step.rate
        if step.decays:
            for j in range(size):
                lengths += rate / np.sqrt(state[row, 1, j])
        for j in range(size):
            slope = scale * vector[j]
            state[row, 0, j] -= rate * slope / np.sqrt(state[row, 1, j])
            state[row, 1, j] += slope * slope
    elif step.how == ADADELTA:
        for j in range(size):
            slope = scale * vector[j]
            state[row, 1, j] = step.rho * state[row, 1, j] + (ONE - step.rho) * slope * slope
            length = np.sqrt(state[row, 2, j] + step.epsilon) / np.sqrt(state[row, 1, j] + step.epsilon)
            change = length * slope
            state[row, 2, j] = step.rho * state[row, 2, j] + (ONE - step.rho) * change * change
            state[row, 0, j] -= change
            lengths += length
    else:  # the bias of its means is mended by the row's own count of steps, as rows are touched at different rates
        state[row, 3, 0] *= step.beta1
        state[row, 3, 1] *= step.beta2
        mend1, mend2 = ONE / (ONE - state[row, 3, 0]), ONE / (ONE - state[row, 3, 1])
        for j in range(size):
            slope = scale * vector[j]
            state[row, 2, j] = step.beta1 * state[row, 2, j] + (ONE - step.beta1) * slope
            state[row, 1, j] = step.beta2 * state[row, 1, j] + (ONE - step.beta2) * slope * slope
            length = step.rate / (np.sqrt(state[row, 1, j] * mend2) + step.epsilon)
            state[row, 0, j] -= length * state[row, 2, j] * mend1
        lengths = step.rate * np.float32(size)
    return lengths


@njit(**FAST)
def learn(
    own: Any, weight: Any, indptr: Any, indices: Any, data: Any, state: Any, shared: Any, slope: Any, row: int,
    scale: Any, vector: Any, step: Any,
) -> Any:  # fmt: skip
    """The gradient scale · vector of an entity's vector, handed to all it is made of. Returns the mean step length."""
    lengths, parts = ZERO, ZERO
    if own is None:
        lengths += moved(state, row, scale, vector, step)
        parts += ONE
    elif own[row] >= 0:
        lengths += moved(state, own[row], scale * weight[row], vector, step)
        parts += ONE
    if shared is not None:
        for place in range(indptr[row], indptr[row + 1]):
            lengths += moved(shared, indices[place], scale * data[place], vector, step)
            parts += ONE
    if slope is not None:
        for j in range(vector.shape[0]):
            slope[row, j] += scale * vector[j]
    return lengths / max(parts * np.float32(vector.shape[0]), ONE)


@njit(**FAST)
def logistic(users: Any, items: Any, targets: Any, weights: Any, people: Any, things: Any, step: Any) -> Any:
    """One pass of the logistic loss. Returns the sums of mean step lengths (person, item)."""
    own, weight, indptr, indices, data, state, shared, base, slope = people
    own_, weight_, indptr_, indices_, data_, state_, shared_, base_, slope_ = things
    size = state_.shape[2]
    person, item, change = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        represent(own, weight, indptr, indices, data, state, shared, base, users[n], person)
        represent(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, items[n], item)
        bias = person[0]
        person[0] = ONE
        score = dot(person, item) + bias
        loss = weights[n] * (ONE / (ONE + np.exp(-score)) - (ONE if targets[n] > 0 else ZERO))
        for j in range(size):
            change[j] = item[j]
        change[0] = ONE
        lengths_item += learn(
            own_, weight_, indptr_, indices_, data_, state_, shared_, slope_, items[n], loss, person, step
        )
        lengths_user += learn(own, weight, indptr, indices, data, state, shared, slope, users[n], loss, change, step)
    return lengths_user, lengths_item


@njit(**FAST)
def bpr(
    users: Any, items: Any, weights: Any, pool: Any, seen: Any, people: Any, things: Any, step: Any, seed: int
) -> Any:  # fmt: skip
    """One pass of BPR; `pool` holds what is drawn against, an item as often as it should be drawn."""
    own, weight, indptr, indices, data, state, shared, base, slope = people
    own_, weight_, indptr_, indices_, data_, state_, shared_, base_, slope_ = things
    bits, begin, had_items = seen
    size, chance = state_.shape[2], np.uint64(seed)
    person, one, other = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        user, good = users[n], items[n]
        bad = good
        for _ in range(100):
            chance = drawn(chance)
            bad = pool[below(chance, pool.shape[0])]
            if not had(bits, begin, had_items, user, bad):
                break
        if bad == good:
            continue
        represent(own, weight, indptr, indices, data, state, shared, base, user, person)
        represent(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, good, one)
        represent(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, bad, other)
        person[0] = ONE
        for j in range(size):
            other[j] -= one[j]
        loss = weights[n] / (ONE + np.exp(-dot(person, other)))
        other[0] = ZERO  # a person's bias moves no order
        lengths_item += learn(
            own_, weight_, indptr_, indices_, data_, state_, shared_, slope_, good, -loss, person, step
        ) + learn(own_, weight_, indptr_, indices_, data_, state_, shared_, slope_, bad, loss, person, step)
        lengths_user += learn(own, weight, indptr, indices, data, state, shared, slope, user, loss, other, step)
    return lengths_user, lengths_item


@njit(**FAST)
def warp(
    users: Any, items: Any, start: Any, order: Any, weights: Any, k: int, draws: int, pool: Any, gains: Any, seen: Any,
    people: Any, things: Any, step: Any, seed: int,
) -> Any:  # fmt: skip
    """One pass of WARP; gains[t] is the loss of an item whose violator was found at draw t.

    With `draws` > 0 it is the k-OS form: items[start[p] : start[p + 1]] are those of person users[p], `order` lists the
    persons of this pass; of `draws` items drawn the k-th best scored is pulled up.
    """
    own, weight, indptr, indices, data, state, shared, base, slope = people
    own_, weight_, indptr_, indices_, data_, state_, shared_, base_, slope_ = things
    bits, begin, had_items = seen
    size, chance = state_.shape[2], np.uint64(seed)
    person, one, other = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    scores, chosen = np.empty(max(draws, 1), np.float32), np.empty(max(draws, 1), np.int64)
    lengths_user, lengths_item = 0.0, 0.0
    for turn in range(order.shape[0] if draws > 0 else users.shape[0]):
        n = np.int64(order[turn]) if draws > 0 else turn
        user = users[n]
        represent(own, weight, indptr, indices, data, state, shared, base, user, person)
        person[0] = ONE
        heavy = ONE
        if draws > 0:
            count = start[n + 1] - start[n]
            few = min(draws, count)
            for j in range(few):
                chance = drawn(chance)
                item = items[start[n] + below(chance, count)]
                score = likes(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, item, person, one)
                place = j  # kept sorted, best first
                while place > 0 and scores[place - 1] < score:
                    scores[place], chosen[place] = scores[place - 1], chosen[place - 1]
                    place -= 1
                scores[place], chosen[place] = score, item
            good = chosen[min(k, few) - 1]
        else:
            good, heavy = np.int64(items[n]), weights[n]
        represent(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, good, one)
        edge = dot(person, one) - ONE
        bad, tried = np.int64(-1), 0
        for t in range(1, gains.shape[0]):
            chance = drawn(chance)
            item = pool[below(chance, pool.shape[0])]
            score = likes(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, item, person, other)
            if score > edge and not had(bits, begin, had_items, user, item):
                bad, tried = np.int64(item), t
                break
        if bad < 0:
            continue
        represent(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, bad, other)
        for j in range(size):
            other[j] -= one[j]
        other[0] = ZERO  # a person's bias moves no order
        loss = min(heavy * gains[tried], MOST_LOSS)
        lengths_item += learn(
            own_, weight_, indptr_, indices_, data_, state_, shared_, slope_, good, -loss, person, step
        ) + learn(own_, weight_, indptr_, indices_, data_, state_, shared_, slope_, bad, loss, person, step)
        lengths_user += learn(own, weight, indptr, indices, data, state, shared, slope, user, loss, other, step)
    return lengths_user, lengths_item


@njit(**FAST)
def softmax(
    users: Any, items: Any, weights: Any, pool: Any, shift: Any, most: int, people: Any, things: Any, step: Any, seed: int
) -> Any:  # fmt: skip
    """One pass of softmax over the item and `most` drawn ones; shift[i] = −log of how often item i is expected among them."""
    own, weight, indptr, indices, data, state, shared, base, slope = people
    own_, weight_, indptr_, indices_, data_, state_, shared_, base_, slope_ = things
    size, chance = state_.shape[2], np.uint64(seed)
    person, change, row = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    rows, chosen, logits = (
        np.empty((most + 1, size), np.float32),
        np.empty(most + 1, np.int64),
        np.empty(most + 1, np.float32),
    )
    lengths_user, lengths_item = 0.0, 0.0
    for n in range(users.shape[0]):
        user, count = users[n], 1
        represent(own, weight, indptr, indices, data, state, shared, base, user, person)
        person[0] = ONE
        chosen[0] = items[n]
        for _ in range(most):
            chance = drawn(chance)
            bad = pool[below(chance, pool.shape[0])]
            if bad != items[n]:
                chosen[count] = bad
                count += 1
        top = np.float32(-1e30)
        for c in range(count):
            represent(own_, weight_, indptr_, indices_, data_, state_, shared_, base_, chosen[c], row)
            for j in range(size):
                rows[c, j] = row[j]
            logits[c] = dot(row, person)
            if c > 0:
                logits[c] += shift[chosen[c]]
            top = max(top, logits[c])
        whole = ZERO
        for c in range(count):
            logits[c] = np.exp(logits[c] - top)
            whole += logits[c]
        for j in range(size):
            change[j] = ZERO
        length: Any = 0.0
        for c in range(count):
            pull = weights[n] * (logits[c] / whole - (ONE if c == 0 else ZERO))
            for j in range(size):
                change[j] += pull * rows[c, j]
            length += learn(
                own_, weight_, indptr_, indices_, data_, state_, shared_, slope_, chosen[c], pull, person, step
            )
        change[0] = ZERO
        lengths_item += length / count
        lengths_user += learn(own, weight, indptr, indices, data, state, shared, slope, user, ONE, change, step)
    return lengths_user, lengths_item
