"""Diversity: an order that trades a little relevance for items that are less alike."""

from __future__ import annotations

import numpy as np

from sensorium.arrays import Floats, Rows, best, unit


def spread_out(scores: Floats, vectors: Floats, k: int, diversity: float) -> Rows:
    """The places of k items chosen one after the other: relevant, and unlike those already chosen.

    **Shapes** scores (C,), vectors (C, D) → (K,), K = min(k, C). Each step takes the greatest
    (1 − diversity)·relevance − diversity·(greatest cosine to a chosen item), where relevance is the score scaled to 0…1
    over the candidates; ties go to the better score, then to the lower place. An item without a vector is like nothing.
    **Cost** O(k·C·D). **Source** Carbonell and Goldstein 1998, maximal marginal relevance.

    >>> twins = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    >>> spread_out(np.array([3, 2, 1], dtype=np.float32), twins, 2, 0.5).tolist()
    [0, 2]
    """
    k = min(k, len(scores))
    order = best(scores[None, :], len(scores))[0][0]  # by score, so that the first of equal gains is the better one
    if diversity == 0 or k == 0:
        return order[:k]
    line = scores[order].astype(np.float64)
    width = line[0] - line[-1]
    relevance = (1 - diversity) * ((line - line[-1]) / width if width > 0 else np.ones(len(line)))
    directions = unit(vectors[order])
    alike = np.full(len(order), -np.inf)
    taken = np.zeros(len(order), bool)
    chosen = []
    for step in range(k):
        gain = relevance - diversity * alike if step else relevance.copy()
        gain[taken] = -np.inf
        place = int(np.argmax(gain)) if step else 0  # the first is the most relevant, whatever the diversity
        chosen.append(place)
        taken[place] = True
        # Rounded, because a product of equal vectors may differ in its last bit with the shape of the batch.
        np.maximum(alike, np.round(directions @ directions[place], 6), out=alike)
    return order[np.array(chosen)]
