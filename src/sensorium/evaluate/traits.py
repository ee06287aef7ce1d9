"""The one categorical fact of items that calibration is judged by: the genres of films, the kinds of garments."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy import sparse

from sensorium.data.catalog import Catalog
from sensorium.data.content import ATTRIBUTES, Attributes

MOST = 200  # more different values than this is a name, not a kind


def traits_of(catalog: Catalog) -> tuple[str, sparse.csr_array] | None:
    """The attribute that says most about kinds, and each item's shares of its values (I, T); None where there is none.

    Lists come before single categories (a list is a description, a category may be a brand), then the attribute that
    most items have; it must hold 2 to 200 different values and half of the items.
    """
    column = catalog.content.get(ATTRIBUTES, ())
    values: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    lists: Counter[str] = Counter()
    for row, content in enumerate(column):
        if not isinstance(content, Attributes):
            continue
        for name, value in content.values.items():
            if isinstance(value, str) or (isinstance(value, tuple) and value):
                words = (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
                values.setdefault(name, []).append((row, words))
                lists[name] += not isinstance(value, str)
    best: tuple[bool, int, str] | None = None
    for name in sorted(values):
        different = {word for _, words in values[name] for word in words}
        if 2 <= len(different) <= MOST and 2 * len(values[name]) >= len(catalog):
            best = max(best or (False, 0, name), (lists[name] > 0, len(values[name]), name), key=lambda b: b[:2])
    if best is None:
        return None
    places = {word: p for p, word in enumerate(sorted({w for _, words in values[best[2]] for w in words}))}
    rows = [r for r, words in values[best[2]] for _ in words]
    columns = [places[word] for _, words in values[best[2]] for word in words]
    share = [1 / len(words) for _, words in values[best[2]] for _ in words]
    return best[2], sparse.csr_array((np.array(share), (rows, columns)), shape=(len(catalog), len(places)))
