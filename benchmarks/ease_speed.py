"""How fast EASE's closed form is beside numpy.linalg.inv on the same planted Gram matrix, and whether they agree.

Run: python benchmarks/ease_speed.py [--items 10000]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from sensorium.models.ridge import ease_weights


def planted(items: int, seed: int = 0) -> np.ndarray:
    """The Gram matrix of planted people, 40 choices each, whose tastes are clusters of items."""
    from scipy import sparse

    rng = np.random.default_rng(seed)
    people = 3 * items
    centre = rng.integers(items, size=people)
    column = (centre[:, None] + rng.geometric(0.01, size=(people, 40))) % items
    row = np.repeat(np.arange(people), 40)
    matrix = sparse.csr_array((np.ones(column.size, np.float32), (row, column.ravel())), shape=(people, items))
    matrix.data[:] = 1
    return (matrix.T @ matrix).toarray().astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=10_000)
    items = parser.parse_args().items
    gram, l2 = planted(items), 200.0
    began = time.perf_counter()
    ours = ease_weights(gram.copy(order="F"), l2)
    ours_seconds = time.perf_counter() - began
    began = time.perf_counter()
    inverse = np.linalg.inv(gram + np.float32(l2) * np.eye(items, dtype=np.float32))
    theirs = inverse / -np.diag(inverse)
    np.fill_diagonal(theirs, 0)
    theirs_seconds = time.perf_counter() - began
    out = {
        "items": items, "seconds": round(ours_seconds, 2), "numpy_inv_seconds": round(theirs_seconds, 2),
        "faster": round(theirs_seconds / ours_seconds, 2), "largest_difference": float(np.abs(ours - theirs).max()),
    }  # fmt: skip
    print(json.dumps(out))
    path = Path(__file__).parent / "results" / "ease_speed.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
