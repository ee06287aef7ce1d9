"""Two modalities of the same items drawn together: in closed form, then by contrast (InfoNCE) where that finds more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sensorium.arrays import Floats, Rows, unit

Maps = dict[str, Floats]  # by modality (K_m, S)
Blocks = Mapping[str, tuple[Floats, np.ndarray]]  # by modality: whitened unit rows (I, K_m), present (I,)


def closed_form(blocks: Blocks, rows: Rows, size: int) -> Maps:
    """Directions in which all modalities of an item agree, strongest first, each scaled by the root of its agreement.

    Generalised canonical correlation: the blocks are white already, so the leading eigenvectors of the matrix of their
    cross-covariances (zero on the diagonal) are the answer; each pair of modalities is measured over the items that
    have both, and trusted n/(n + 100), n their number. With two modalities it is the singular value decomposition of
    one cross-covariance.

    **Shapes** → by modality (K_m, S), S = at most `size`, fewer where fewer directions agree.
    **Source** J. Kettenring, "Canonical analysis of several sets of variables" (1971).
    """
    names = sorted(blocks)
    ends = np.cumsum([0, *(blocks[m][0].shape[1] for m in names)])
    joint = np.zeros((ends[-1], ends[-1]))
    for a, left in enumerate(names):
        for b, right in enumerate(names[:a]):
            both = rows[blocks[left][1][rows] & blocks[right][1][rows]]
            if len(both) < 2:
                continue
            x, y = blocks[left][0][both], blocks[right][0][both]
            scale = np.sqrt(x.shape[1] * y.shape[1]) / (len(both) + 100)  # unit rows of white vectors have variance 1/K
            cross = (x.T @ y).astype(float) * scale
            joint[ends[a] : ends[a + 1], ends[b] : ends[b + 1]] = cross
            joint[ends[b] : ends[b + 1], ends[a] : ends[a + 1]] = cross.T
    strength, directions = np.linalg.eigh(joint)
    order = np.argsort(-strength)[:size]
    order = order[strength[order] > 1e-6]
    strength, directions = strength[order], directions[:, order]
    if not len(order):
        return {m: np.zeros((blocks[m][0].shape[1], 0), np.float32) for m in names}
    signs = np.sign(directions[np.argmax(np.abs(directions), axis=0), np.arange(len(order))])
    directions = directions * signs * np.sqrt(strength)
    return {m: directions[ends[i] : ends[i + 1]].astype(np.float32) for i, m in enumerate(names)}


def contrasted(
    blocks: Blocks, rows: Rows, start: Maps, *, epochs: int, learning_rate: float, temperature: float, batch: int,
    rng: np.random.Generator, variants: Sequence[Blocks] = (),
) -> Maps:  # fmt: skip
    """The maps after some epochs of InfoNCE from `start`: of a batch, each modality must find its own item in each other.

    The maps are linear, so the gradient is written out below and numpy does it; Adam, steps in proportion to the size
    of the entries. Of an item that has `variants`, each step sees one or the item itself, drawn for each modality.
    **Cost** O(I · B · S) an epoch, B the batch.
    **Source** A. van den Oord et al., "Representation learning with contrastive predictive coding" (2018); A. Radford
    et al., "Learning transferable visual models from natural language supervision" (2021) for both directions.
    """
    maps = {m: value.copy() for m, value in start.items()}
    first = {m: np.zeros_like(v) for m, v in maps.items()}
    second = {m: np.zeros_like(v) for m, v in maps.items()}
    step_size = {m: learning_rate * float(np.sqrt(np.mean(v**2))) for m, v in maps.items()}
    names, step = sorted(maps), 0
    for _ in range(epochs):
        order = rng.permutation(rows)
        for begin in range(0, len(order), batch):
            part = order[begin : begin + batch]
            slopes: Maps = {}
            for a, left in enumerate(names):
                for right in names[:a]:
                    both = part[blocks[left][1][part] & blocks[right][1][part]]
                    if len(both) < 16:  # too few to contrast with
                        continue
                    x, y = (_drawn(m, both, blocks, variants, rng) for m in (left, right))
                    for m, slope in zip((left, right), _slopes(maps[left], maps[right], x, y, temperature)):
                        slopes[m] = slopes[m] + slope if m in slopes else slope
            step += 1
            for m, slope in slopes.items():
                first[m] = 0.9 * first[m] + 0.1 * slope
                second[m] = 0.999 * second[m] + 0.001 * slope * slope
                rate = step_size[m] * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                maps[m] -= np.float32(rate) * first[m] / (np.sqrt(second[m]) + np.float32(1e-12))
    return maps


def _drawn(modality: str, rows: Rows, blocks: Blocks, variants: Sequence[Blocks], rng: np.random.Generator) -> Floats:
    """The vectors of some items, each its own or one of its variants'."""
    values = blocks[modality][0][rows]
    if variants:
        which = rng.integers(len(variants) + 1, size=len(rows))
        for place, variant in enumerate(variants, 1):
            if modality in variant:
                chosen = (which == place) & variant[modality][1][rows]
                values[chosen] = variant[modality][0][rows[chosen]]
    return values


def _slopes(a: Floats, b: Floats, x: Floats, y: Floats, temperature: float) -> tuple[Floats, Floats]:
    """The gradient of symmetric InfoNCE over cosines of x·a and y·b, for a and for b."""
    p, q = x @ a, y @ b
    p_length = np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-12)
    q_length = np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-12)
    p, q = p / p_length, q / q_length
    scores = p @ q.T / np.float32(temperature)
    by_row = np.exp(scores - scores.max(1, keepdims=True))
    by_column = np.exp(scores - scores.max(0, keepdims=True))
    error = (by_row / by_row.sum(1, keepdims=True) + by_column / by_column.sum(0, keepdims=True)) / 2
    error[np.diag_indices(len(error))] -= 1
    error /= np.float32(temperature * len(error))
    to_p, to_q = error @ q, error.T @ p
    to_p = (to_p - p * (to_p * p).sum(1, keepdims=True)) / p_length
    to_q = (to_q - q * (to_q * q).sum(1, keepdims=True)) / q_length
    return x.T @ to_p, y.T @ to_q


def agreement(blocks: Blocks, rows: Rows, maps: Maps) -> Floats:
    """Reciprocal ranks of an item's own row among `rows`, for every pair of modalities, both ways, one after the other."""
    ranks: list[Floats] = []
    names = sorted(maps)
    for a, left in enumerate(names):
        for right in names[:a]:
            both = rows[blocks[left][1][rows] & blocks[right][1][rows]]
            if len(both) < 2:
                continue
            scores = unit(blocks[left][0][both] @ maps[left]) @ unit(blocks[right][0][both] @ maps[right]).T
            own = np.diag(scores)
            for table in (scores, scores.T):
                above = (table > own[:, None]).sum(1) + ((table == own[:, None]).sum(1) - 1) / 2
                ranks.append((1 / (1 + above)).astype(np.float32))
    return np.concatenate(ranks) if ranks else np.zeros(0, np.float32)


def families(blocks: Blocks, rows: Rows, near: float = 0.8) -> Sequence[Rows]:
    """The rows in groups that nearly share a vector in some modality (variants of one product): never split one of them.

    A held-out variant whose twin was learnt from is no test. Groups are the connected parts of the graph that joins
    items whose whitened cosine in one modality exceeds `near`. **Cost** O(I² K).
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    joined = sparse.csr_array((len(rows), len(rows)), dtype=bool)
    for modality in sorted(blocks):
        values = blocks[modality][0][rows]
        pairs = []
        for begin in range(0, len(rows), 1024):
            left, right = np.nonzero(values[begin : begin + 1024] @ values.T > near)
            pairs.append((left + begin, right))
        left, right = (np.concatenate(side) for side in zip(*pairs))
        joined = joined + sparse.csr_array((np.ones(len(left), bool), (left, right)), shape=joined.shape)
    count, label = connected_components(joined, directed=False)
    order = np.argsort(label, kind="stable")
    ends = np.cumsum(np.bincount(label, minlength=count))
    return [rows[part] for part in np.split(order, ends[:-1])]
