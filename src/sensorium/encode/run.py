"""Encode a catalogue: the only place where absence is handled and the cache is asked."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sensorium.arrays import Floats, digest
from sensorium.data.catalog import Catalog
from sensorium.data.content import Attributes, Content, Media, Ready, Text
from sensorium.data.vectors import Vectors
from sensorium.encode.cache import Cache, Kept, take
from sensorium.encode.encoder import Encoder, Progress, silent
from sensorium.encode.pool import Passing
from sensorium.encode.streams import Streams
from sensorium.errors import DataError, MediaError, SensoriumError

CHUNK = 256  # contents a call; what a killed run may have to do again
FLUSH_SECONDS = 2.0


@dataclass(frozen=True)
class Problem:
    """A content that could not be encoded: its modality is absent for that item, everything else goes on."""

    item: str
    modality: str
    file: str
    reason: str

    def __str__(self) -> str:
        where = f" {self.file}" if self.file else ""
        return f"{self.item}: {self.modality}{where}: {self.reason}"


@dataclass(frozen=True)
class Encoded:
    """Vectors by modality, a row an item; what could not be encoded; how many contents each encoder was asked for.

    `computed` counts the contents that an encoder was run on, and is 0 where the cache had all. Encoders that only
    rearrange numbers (attributes, given vectors) are neither cached nor counted.
    """

    views: Mapping[str, Vectors]
    problems: tuple[Problem, ...] = ()
    computed: Mapping[str, int] = field(default_factory=dict)


def encode(catalog: Catalog, encoders: Mapping[str, Encoder], cache: Cache, *, progress: Progress = silent) -> Encoded:
    """The vectors of every modality that has an encoder; several files of one item are averaged.

    The cache is flushed every few seconds: a killed run loses about two seconds of work and the chunk at hand. Order and
    chunks are decided by the catalogue and by what the cache lacks. The multilingual text encoder differs by about 2e-7
    with the batch a text stands in, so bytes repeat from the same cache, but not surely after an interruption.
    """
    views: dict[str, Vectors] = {}
    problems: list[Problem] = []
    computed: dict[str, int] = {}
    for modality, encoder in encoders.items():
        column = catalog.content.get(modality, [None] * len(catalog))
        units = [(row, one) for row, content in enumerate(column) if content is not None for one in _single(content)]
        if getattr(encoder, "uncached", False) or (units and isinstance(units[0][1], Ready)):
            found, size = _direct(encoder, units, catalog, problems), encoder.size
        else:
            size = cache.size_of(encoder.fingerprint, functools.partial(getattr, encoder, "size"))
            found, computed[modality] = _cached(encoder, units, catalog, cache, size, problems, progress)
        views[modality] = _averaged(units, found, (len(catalog), size), encoder.fingerprint)
    cache.flush()
    return Encoded(views, tuple(problems), computed)


Units = Sequence[tuple[int, Content]]
Found = Sequence[Floats | None]


def _single(content: Content) -> Sequence[Content]:
    """One content a file."""
    if isinstance(content, Media):
        return [Media((path,)) for path in content.paths] if len(content.paths) != 1 else [content]
    return [content]


def _averaged(units: Units, found: Found, shape: tuple[int, int], fingerprint: str) -> Vectors:
    values = np.zeros(shape, np.float32)
    times = np.zeros(shape[0], np.int64)
    for (row, _), vector in zip(units, found):
        if vector is not None:
            values[row] += vector
            times[row] += 1
    several = times > 1
    values[several] /= times[several, None]
    return Vectors(values, times > 0, fingerprint)


def _direct(encoder: Encoder, units: Units, catalog: Catalog, problems: list[Problem]) -> Found:
    found: list[Floats | None] = []
    for start in range(0, len(units), 4096):
        for (row, content), vector in zip(
            units[start : start + 4096], _tried(encoder, [c for _, c in units[start : start + 4096]])
        ):
            if isinstance(vector, SensoriumError):
                problems.append(_problem(catalog, row, encoder, content, str(vector)))
            found.append(None if isinstance(vector, SensoriumError) else vector)
    return found


def _cached(
    encoder: Encoder,
    units: Units,
    catalog: Catalog,
    cache: Cache,
    size: int,
    problems: list[Problem],
    progress: Progress,
) -> tuple[Found, int]:
    kept = cache.vectors(encoder.fingerprint, size)
    stage = f"encode {encoder.modality}"
    keys: list[bytes] = []
    contents: dict[bytes, Content] = {}
    reasons: dict[bytes, str] = {}
    for row, content in units:
        try:
            key = content_digest(content, cache)
        except OSError as error:
            key = b""
            problems.append(_problem(catalog, row, encoder, content, error.strerror or "cannot be read"))
        keys.append(key)
        contents.setdefault(key, content)
    known, missing = take(kept, [key for key in keys if key])
    vectors = dict(known)
    fresh = []
    for key in missing:
        refused = kept.refusal(key)
        if refused is None:
            fresh.append(key)
        else:
            reasons[key] = refused
    fresh.sort(key=lambda key: _length(contents[key]))
    if fresh and encoder.size != size:  # asking also loads the model, before threads need it
        raise DataError(f"encode.{encoder.modality}: gives {encoder.size} numbers where {size} are kept; name it anew")
    progress(stage, len(vectors), len(vectors) + len(fresh))
    stored = _kept(encoder, fresh, [contents[key] for key in fresh], kept, cache, stage, progress, len(vectors))
    # Closed here, not when it is collected: an interrupt in its last flush must reach the caller.
    with contextlib.closing(stored):
        for key, made in zip(fresh, stored):
            if isinstance(made, SensoriumError):
                reasons[key] = str(made)
            else:
                vectors[key] = made
    for (row, content), key in zip(units, keys):
        if key in reasons:
            problems.append(_problem(catalog, row, encoder, content, reasons[key]))
    return [vectors.get(key) for key in keys], len(fresh)


def _kept(
    encoder: Encoder,
    keys: Sequence[bytes],
    contents: Sequence[Content],
    kept: Kept,
    cache: Cache,
    stage: str,
    progress: Progress,
    before: int,
) -> Generator[Floats | SensoriumError, None, None]:
    """The vectors of contents, stored as they come."""
    flushed, total = time.monotonic(), before + len(keys)
    try:
        for done, (key, made) in enumerate(zip(keys, _vectors(encoder, contents)), 1):
            if not isinstance(made, SensoriumError) and not np.isfinite(made).all():
                made = MediaError("its vector is not finite")
            if isinstance(made, SensoriumError):
                if isinstance(made, MediaError) and not isinstance(made, Passing):
                    kept.refuse(key, str(made))
            else:
                kept.put(key, made)
            yield made
            if done % CHUNK == 0 and time.monotonic() - flushed > FLUSH_SECONDS:
                cache.flush()
                flushed = time.monotonic()
            progress(stage, before + done, total)
    finally:
        cache.flush()


def _vectors(encoder: Encoder, contents: Sequence[Content]) -> Iterator[Floats | SensoriumError]:
    if isinstance(encoder, Streams):
        return encoder.stream(contents)
    starts = range(0, len(contents), CHUNK)
    return itertools.chain.from_iterable(_tried(encoder, contents[start : start + CHUNK]) for start in starts)


def _tried(encoder: Encoder, contents: Sequence[Content]) -> Sequence[Floats | SensoriumError]:
    """The vectors of some contents; where one of them is refused, each by itself."""
    try:
        return list(encoder.encode(contents))
    except (MediaError, DataError) as error:
        if len(contents) == 1:
            return [error]
        return [vector for content in contents for vector in _tried(encoder, [content])]


def content_digest(content: Content, cache: Cache) -> bytes:
    """What the cache knows a content by. **Raises** OSError where a file cannot be read."""
    if isinstance(content, Media):
        return cache.file_digest(content.paths[0])
    if isinstance(content, Text):
        return bytes.fromhex(digest("text", content.joined()))
    if isinstance(content, Attributes):
        return bytes.fromhex(digest("attributes", json.dumps(dict(content.values), sort_keys=True)))
    return bytes.fromhex(digest("vector", content.values.tobytes()))


def _length(content: Content) -> int:
    return len(content.joined()) if isinstance(content, Text) else 0


def _problem(catalog: Catalog, row: int, encoder: Encoder, content: Content, reason: str) -> Problem:
    file = str(Path(content.paths[0])) if isinstance(content, Media) and content.paths else ""
    return Problem(catalog.ids[row], encoder.modality, file, reason)
