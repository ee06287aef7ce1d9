"""Compiled loops on several threads: each takes its own rows and writes nowhere else, so the result is one for any number."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sensorium.arrays import threads

FEW = 256  # rows that are not worth a thread


def spread(loop: Callable[..., None], count: int, *arguments: Any, each: int = FEW) -> None:
    """Calls `loop(begin, end, *arguments)` over ranges that cover `range(count)`; the loop must free the interpreter's lock."""
    parts = min(threads(), max(1, count // each))
    edges = [count * part // parts for part in range(parts + 1)]
    if parts == 1:
        loop(0, count, *arguments)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda part: loop(edges[part], edges[part + 1], *arguments), range(parts)))
