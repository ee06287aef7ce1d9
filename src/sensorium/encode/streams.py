"""How encoders of files work through many of them: decoding, encoding and storing overlap, and order is kept."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from sensorium.arrays import Floats, threads
from sensorium.data.content import Content, Media
from sensorium.errors import MediaError

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Streams(Protocol):
    """An encoder that hands out vectors as they are made, and an error in the place of a content it cannot decode.

    `run.py` gives each content one file; the answers come in the order of the contents.
    """

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]: ...


def in_batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` things, the last one shorter.

    >>> list(in_batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    batch: list[T] = []
    for thing in things:
        batch.append(thing)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def in_parallel(work: Callable[[T], R], things: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """`work` of each thing, in order, by as many threads as there are cores; a few things ahead of the reader.

    For work that releases the interpreter lock, as onnxruntime does.

    >>> list(in_parallel(lambda n: n * n, range(4)))
    [0, 1, 4, 9]
    """
    count = workers or threads()
    waiting: collections.deque[Future[R]] = collections.deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for thing in things:
                waiting.append(pool.submit(work, thing))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()


def encoded_files(
    decoded: Iterable[T | MediaError], network: Callable[[Sequence[T]], Floats], batch: int, workers: int | None = None
) -> Iterator[Floats | MediaError]:
    """Vectors of decoded files, batch by batch; errors pass through in their place."""

    def work(group: list[T | MediaError]) -> list[Floats | MediaError]:
        good = [one for one in group if not isinstance(one, MediaError)]
        made = iter(network(good) if good else ())
        return [one if isinstance(one, MediaError) else next(made) for one in group]

    for group in in_parallel(work, in_batches(decoded, batch), workers):
        yield from group


def encoded_contents(encoder: Streams, contents: Sequence[Content], size: int) -> Floats:
    """(B, size): each content's files encoded one by one and averaged. **Raises** the first MediaError."""
    files = [Media((path,)) for content in contents for path in paths(content)]
    vectors = []
    for found in encoder.stream(files):
        if isinstance(found, MediaError):
            raise found
        vectors.append(found)
    out = np.zeros((len(contents), size), np.float32)
    at = 0
    for row, content in enumerate(contents):
        count = len(paths(content))
        if count:
            out[row] = np.mean(vectors[at : at + count], axis=0)
        at += count
    return out


def paths(content: Content) -> tuple:
    """The files of a media content."""
    if not isinstance(content, Media):
        raise MediaError(f"a file was expected, not {type(content).__name__.lower()}")
    return content.paths
