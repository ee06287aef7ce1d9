"""Compiled inner loop of local ridge regression; imported where the work starts, since compiling takes a second or two."""

from __future__ import annotations

import numba
import numpy as np

from sensorium.arrays import Floats, Rows


@numba.njit(cache=True, nogil=True, parallel=True)
def solve_each(
    gram_start: Rows, gram_item: Rows, gram_value: Floats, weight: Floats,
    near_start: Rows, near_item: Rows, near_value: Floats,
    vectors: Floats, order: Rows, out: Floats, lanes: int,
) -> None:  # fmt: skip
    """For each target t: w = (G_SS + penalty_S)⁻¹ c_S over its neighbours S = near_item[near_start[t]:near_start[t + 1]].

    `weight` (K,) is the whole diagonal, penalty included; `vectors` (K, D) add V Vᵀ to G and to c (D may be 0); `order`
    (T,) is that in which targets are worked on; `out` is as long as `near_item`. A lane works on every `lanes`-th target in a workspace of its own and writes only there, so
    the bytes do not depend on how many threads there are.
    """
    for lane in numba.prange(lanes):
        place = np.full(len(weight), -1, np.int32)
        for turn in range(lane, len(order), lanes):
            target = order[turn]
            begin, end = near_start[target], near_start[target + 1]
            count = end - begin
            if count == 0:
                continue
            left = np.zeros((count, count), np.float32)
            for s in range(count):
                place[near_item[begin + s]] = s
            for s in range(count):
                row = near_item[begin + s]
                for p in range(gram_start[row], gram_start[row + 1]):
                    other = place[gram_item[p]]
                    if other >= 0:
                        left[s, other] = gram_value[p]
                left[s, s] = weight[row]
            for s in range(count):
                place[near_item[begin + s]] = -1
            told = near_value[begin:end].copy()
            if vectors.shape[1]:
                block = np.empty((count, vectors.shape[1]), np.float32)
                for s in range(count):
                    block[s] = vectors[near_item[begin + s]]
                left += block @ block.T
                told += block @ vectors[target]
            lower = np.linalg.cholesky(left)
            solved = np.empty(count, np.float64)
            for s in range(count):
                total = np.float64(told[s])
                for p in range(s):
                    total -= lower[s, p] * solved[p]
                solved[s] = total / lower[s, s]
            for s in range(count - 1, -1, -1):  # by columns of the transpose, which are rows of `lower`
                solved[s] /= lower[s, s]
                for p in range(s):
                    solved[p] -= lower[s, p] * solved[s]
            for s in range(count):
                out[begin + s] = solved[s]


@numba.njit(cache=True, nogil=True, parallel=True)
def choose_each(
    start: Rows, item: Rows, value: Floats, diagonal: Floats, near: int, itself: bool,
    begin: Rows, row_out: Rows, value_out: Floats,
) -> None:  # fmt: skip
    """Of each sparse line the `near` entries with the largest value² ÷ diagonal, in the order of their items.

    Ties keep the lower item. What is written of line t starts at begin[t]; places that stay free keep what they hold.
    """
    for t in numba.prange(len(start) - 1):
        first, last = start[t], start[t + 1]
        alike = np.full(last - first, np.float32(-1))
        count = 0
        for p in range(first, last):
            if value[p] != 0 and diagonal[item[p]] > 0 and (itself or item[p] != t):
                alike[p - first] = value[p] * value[p] / diagonal[item[p]]
                count += 1
        edge, room = np.float32(-0.5), count
        if count > near:
            edge = np.partition(alike, len(alike) - near)[len(alike) - near]
            room = near
            for one in alike:
                if one > edge:
                    room -= 1
        place = begin[t]
        for p in range(first, last):
            one = alike[p - first]
            if one < 0 or one < edge:
                continue
            if count > near and one == edge:
                if room == 0:
                    continue
                room -= 1
            row_out[place] = item[p]
            value_out[place] = value[p]
            place += 1


@numba.njit(cache=True, nogil=True, parallel=True)
def spread(start: Rows, item: Rows, value: Floats, row_start: Rows, column: Rows, weight: Floats, out: Floats) -> None:
    """out += sparse histories (B, K) · sparse weights (K, T): each history adds up into its own dense row."""
    for b in numba.prange(len(start) - 1):
        line = out[b]
        for p in range(start[b], start[b + 1]):
            scale = value[p]
            for q in range(row_start[item[p]], row_start[item[p] + 1]):
                line[column[q]] += scale * weight[q]
