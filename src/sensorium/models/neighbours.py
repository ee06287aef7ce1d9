"""The content graph: which items look, read and sound alike, by each modality; and how a newcomer is placed by it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows, best, slices, unit

CHUNK = 1024  # rows of a similarity matrix that are held at once


def neighbours(
    values: Floats, edges: tuple[tuple[str, int, int], ...], among: Rows, asked: Rows, nearest: int
) -> sparse.csr_array:
    """Column j holds what the look-alikes of item j count, 1 in all, for each j of `asked`; else nothing. (I, I).

    Each modality (columns of `values`, named by `edges`) has its own `nearest` look-alikes, all of `among`, never the item
    itself; a modality in which an item is absent, or like nobody, takes no part, the others then count more.

    **Cost** |asked| · |among| · D. The graph is frozen: it is made of content alone, and no training changes it.
    """
    size = len(values)
    rows: list[Rows] = []
    columns: list[Rows] = []
    shares: list[Floats] = []
    for _, begin, end in edges:
        block = unit(values[:, begin:end])
        there = np.abs(block).max(1, initial=0) > 0
        pool, wanted = among[there[among]], asked[there[asked]]
        if not len(pool):
            continue
        for part in slices(len(wanted), CHUNK):
            mine = wanted[part]
            cosine = block[mine] @ block[pool].T
            cosine[mine[:, None] == pool[None, :]] = -np.inf
            chosen, near = best(cosine, nearest)
            kept = near > 0
            rows.append(pool[chosen][kept])
            columns.append(np.broadcast_to(mine[:, None], chosen.shape)[kept])
            shares.append(near[kept])
    if not rows:
        return sparse.csr_array((size, size), dtype=np.float32)
    graph = sparse.csr_array(
        (np.concatenate(shares), (np.concatenate(rows), np.concatenate(columns))), shape=(size, size), dtype=np.float32
    )
    total = np.asarray(graph.sum(0)).ravel()
    graph.data /= np.maximum(total, 1e-9)[graph.indices]
    return graph
