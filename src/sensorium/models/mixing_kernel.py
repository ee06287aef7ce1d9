"""The compiled loop under the learning of a blend's weights. Imports numba at its top: import it only where work starts."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def places(mixed: np.ndarray, count: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The place of each target (T,) among its person's weighted candidates (P, C), 0 is the top; ties count half."""
    out = np.empty(len(row))
    for t in range(len(row)):
        line, weight = mixed[row[t]], count[row[t]]
        mark = line[column[t]]
        above, level = np.float32(0), np.float32(0)
        for c in range(len(line)):
            above += weight[c] if line[c] > mark else np.float32(0)
            level += weight[c] if line[c] == mark else np.float32(0)
        out[t] = above + (level - 1) / 2
    return out
