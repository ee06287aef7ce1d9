"""Diversity: an order that trades a little relevance for items that are less alike."""

from __future__ import annotations

from sensorium.arrays import Floats, Rows, top


def spread_out(scores: Floats, vectors: Floats, k: int, diversity: float) -> Rows:
    """The places of k items chosen one after the other: relevant, and unlike those already chosen.

    **Shapes** scores (C,), vectors (C, D) → (K,), K = min(k, C). Each step takes the greatest
    (1 − diversity)·relevance − diversity·(greatest cosine to a chosen item), where relevance is the score scaled to 0…1
    over the candidates; ties go to the better score, then to the lower place. An item without a vector is like nothing.
    **Cost** O(k·C·D). **Source** Carbonell and Goldstein 1998, maximal marginal relevance.

    >>> import numpy as np
    >>> twins = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    >>> spread_out(np.array([3, 2, 1], dtype=np.float32), twins, 2, 0.5).tolist()
    [0, 2]
    """
    k = min(k, len(scores))
    order = top(scores, len(scores))  # by score, so that the first of equal gains is the better one
    if diversity == 0 or k == 0:
        return order[:k]
    from sensorium.rank.rerank_kernel import chosen

    return order[chosen(scores, vectors, order, k, diversity)]
