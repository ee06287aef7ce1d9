"""How fast iALS is beside `implicit`'s on the same planted matrix: seconds an epoch, one and two threads.

Run: python benchmarks/ials_speed.py [--users 20000] [--size 64]
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import sparse

from sensorium.models.ials import half_step


def planted(users: int, seed: int = 0) -> sparse.csr_array:
    """People by half as many items, 30 choices each, popularity with a long tail; confidence 10."""
    rng = np.random.default_rng(seed)
    items = users // 2
    column = (items * rng.random((users, 30)) ** 2.5).astype(np.int64)
    row = np.repeat(np.arange(users), 30)
    matrix = sparse.csr_array((np.ones(column.size, np.float32), (row, column.ravel())), shape=(users, items))
    matrix.data[:] = 10
    return matrix


def ours(matrix: sparse.csr_array, size: int, epochs: int) -> tuple[float, float]:
    """Seconds an epoch, and the loss after the last."""
    turned = sparse.csr_array(matrix.T.tocsr())
    rng = np.random.default_rng(0)
    people, items = (rng.normal(size=(n, size)).astype(np.float32) * 0.01 for n in matrix.shape)
    penalties = [np.full(n, 0.1, np.float32) for n in matrix.shape]
    half_step(matrix[:1], items, penalties[0][:1], people[:1] * 0, people[:1])  # compiling is not what is measured
    began = time.perf_counter()
    for _ in range(epochs):
        half_step(matrix, items, penalties[0], np.zeros_like(people), people)
        half_step(turned, people, penalties[1], np.zeros_like(items), items)
    return (time.perf_counter() - began) / epochs, loss(matrix, people, items)


def theirs(matrix: sparse.csr_array, size: int, epochs: int, threads: int) -> tuple[float, float]:
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AlternatingLeastSquares(
            factors=size, regularization=0.1, alpha=1.0, iterations=epochs, random_state=0, num_threads=threads
        )
        began = time.perf_counter()
        model.fit(sparse.csr_matrix(matrix), show_progress=False)
        seconds = (time.perf_counter() - began) / epochs
    return seconds, loss(matrix, model.user_factors, model.item_factors)


def loss(matrix: sparse.csr_array, people: np.ndarray, items: np.ndarray) -> float:
    """Σ c(1 − xy)² over choices + Σ (xy)² over the rest, a choice."""
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    told = np.einsum("ij,ij->i", people[row], items[matrix.indices]).astype(np.float64)
    rest = float(np.sum((people.T @ people).astype(np.float64) * (items.T @ items)))
    return float((np.sum(matrix.data * (1 - told) ** 2 - told**2) + rest) / matrix.nnz)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    matrix = planted(asked.users)
    out: dict[str, object] = {"users": asked.users, "size": asked.size, "entries": matrix.nnz}
    for threads in (1, 2):
        os.environ["SENSORIUM_THREADS"] = str(threads)
        mine, my_loss = ours(matrix, asked.size, 6)
        other, their_loss = theirs(matrix, asked.size, 6, threads)
        out[f"{threads} threads"] = {
            "seconds_an_epoch": round(mine, 3), "implicit_seconds_an_epoch": round(other, 3),
            "loss": round(my_loss, 4), "implicit_loss": round(their_loss, 4),
        }  # fmt: skip
    print(json.dumps(out))
    path = Path(__file__).parent / "results" / "ials_speed.json"
    path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
