"""Encode a catalogue: the only place where absence is handled and the cache is asked."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sensorium.arrays import Floats, digest, slices
from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, LOOK, VIDEO, Attributes, Content, Media, Ready, Text
from sensorium.data.vectors import Vectors
from sensorium.encode.cache import Cache, Keeps, KeptTogether, side_by_side, take
from sensorium.encode.encoder import Encoder, Only, Progress, silent
from sensorium.encode.look import Both, LookEncoder
from sensorium.encode.pool import Passing
from sensorium.encode.reasons import without_paths
from sensorium.encode.streams import Streams
from sensorium.errors import DataError, MediaError, SensoriumError

CHUNK = 64  # contents a call; what a killed run may have to do again, beside what was made since the last flush
FLUSH_SECONDS = 0.5
MEDIA = (IMAGE, AUDIO, VIDEO)


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

    The cache is flushed twice a second: a killed run loses half a second of work and the chunk at hand. Order and
    batches are decided by the catalogue, so a run that was cut off and started again gives the same bytes as one that was
    not. A catalogue that grew may differ from one encoded anew by rounding (about 2e-7 for text).
    """
    views: dict[str, Vectors] = {}
    problems: list[Problem] = []
    computed: dict[str, int] = {}
    if isinstance(encoders, Only):
        problems += _unread(catalog, encoders)
    for encoder, parts in _passes(encoders):
        column = catalog.content.get(read_by(encoder), [None] * len(catalog))
        units = [(row, one) for row, content in enumerate(column) if content is not None for one in _single(content)]
        if getattr(encoder, "uncached", False) or (units and isinstance(units[0][1], Ready)):
            found, sizes = _direct(encoder, units, catalog, problems), [encoder.size]
        else:
            sizes = [cache.size_of(one.fingerprint, functools.partial(getattr, one, "size")) for one in parts.values()]
            keeps = [cache.vectors(one.fingerprint, size) for one, size in zip(parts.values(), sizes)]
            kept = keeps[0] if len(keeps) == 1 else KeptTogether(keeps, sizes)
            found, count = _cached(encoder, units, catalog, cache, kept, sum(sizes), problems, progress)
            computed |= dict.fromkeys(parts, count)
        for (modality, one), columns in zip(parts.items(), side_by_side(sizes)):
            views[modality] = _averaged(units, found, columns, len(catalog), one.fingerprint)
    cache.flush()
    return Encoded(views, tuple(_once(problems, encoders)), computed)


def _unread(catalog: Catalog, encoders: Mapping[str, Encoder]) -> Iterator[Problem]:
    """Files of modalities that no encoder reads."""
    read = {read_by(encoder) for encoder in encoders.values()}
    for modality in MEDIA:
        for row, content in enumerate(catalog.content.get(modality, ()) if modality not in read else ()):
            if content is not None and not isinstance(content, Ready):
                yield Problem(catalog.ids[row], modality, "", f"not used, the run made nothing of {modality}")


def _once(problems: Sequence[Problem], encoders: Mapping[str, Encoder]) -> Iterator[Problem]:
    """The problems, what is told of a file once: a second view of it fails for the same reason as the first."""
    again = {m for m, encoder in encoders.items() if read_by(encoder) != m}
    told = {(problem.item, problem.file, problem.reason) for problem in problems if problem.modality not in again}
    for problem in problems:
        if problem.modality not in again or (problem.item, problem.file, problem.reason) not in told:
            yield problem


def _passes(encoders: Mapping[str, Encoder]) -> Iterator[tuple[Encoder, Mapping[str, Encoder]]]:
    """What is run, and the encoders whose vectors it gives side by side: a second view comes with the first where it can."""
    look = encoders.get(LOOK)
    both = Both(look) if isinstance(look, LookEncoder) and encoders.get(IMAGE) == look.sees else None
    for modality, encoder in encoders.items():
        if both is None or modality not in (IMAGE, LOOK):
            yield encoder, {modality: encoder}
        elif modality == IMAGE:
            yield both, {IMAGE: encoder, LOOK: both.look}


def read_by(encoder: Encoder) -> str:
    """The modality of the catalogue that an encoder reads: its own, unless it is a second view of another's."""
    return getattr(encoder, "reads", encoder.modality)


Units = Sequence[tuple[int, Content]]
Found = Sequence[Floats | None]


def _single(content: Content) -> Sequence[Content]:
    """One content a file."""
    if isinstance(content, Media):
        return [replace(content, paths=(path,)) for path in content.paths] if len(content.paths) != 1 else [content]
    return [content]


def _averaged(units: Units, found: Found, columns: slice, rows: int, fingerprint: str) -> Vectors:
    """The vectors by row, of each its `columns`."""
    values = np.zeros((rows, columns.stop - columns.start), np.float32)
    times = np.zeros(rows, np.int64)
    for (row, _), vector in zip(units, found):
        if vector is not None:
            values[row] += vector[columns]
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
                problems.append(_problem(catalog, row, encoder, content, _reason(vector)))
            found.append(None if isinstance(vector, SensoriumError) else vector)
    return found


def _cached(
    encoder: Encoder,
    units: Units,
    catalog: Catalog,
    cache: Cache,
    kept: Keeps,
    size: int,
    problems: list[Problem],
    progress: Progress,
) -> tuple[Found, int]:
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
    for key in missing:
        refused = kept.refusal(key)
        if refused is not None:
            reasons[key] = refused
    order = [key for key in contents if key]
    fresh: list[bytes] = []
    if len(vectors) + len(reasons) < len(order):
        order.sort(key=lambda key: _length(contents[key]))
        together = getattr(encoder, "together", 1 if isinstance(encoder, Streams) else CHUNK)
        fresh = _todo(order, vectors.keys() | reasons.keys(), together)
    if fresh and encoder.size != size:  # asking also loads the model, before threads need it
        raise DataError(f"encode.{encoder.modality}: gives {encoder.size} numbers where {size} are kept; name it anew")
    before = len(order) - len(fresh)
    progress(stage, before, len(order))
    todo = {key: contents[key] for key in fresh}
    stored = _kept(encoder, todo, kept, vectors.keys(), cache, lambda done: progress(stage, before + done, len(order)))
    # Closed here, not when it is collected: an interrupt in its last flush must reach the caller.
    with contextlib.closing(stored):
        for key, made in stored:
            if isinstance(made, SensoriumError):
                reasons[key] = _reason(made)
            else:
                vectors.setdefault(key, made)
                reasons.pop(key, None)
    for (row, content), key in zip(units, keys):
        if key in reasons:
            problems.append(_problem(catalog, row, encoder, content, reasons[key]))
    return [vectors.get(key) for key in keys], len(fresh)


def _todo(order: Sequence[bytes], done: Set[bytes], together: int) -> list[bytes]:
    """The keys to encode, so that each stands among the neighbours that it would have with nothing done.

    A vector may differ by rounding with the batch that it is made in. Where the last ones of a group are missing, a run
    was cut off there: the group is made whole again. What is missing here and there is new; it comes at the end.
    """
    groups = [order[at] for at in slices(len(order), together)]
    cut: list[bytes] = []
    scattered: list[bytes] = []
    for group in groups:
        missing = [key for key in group if key not in done]
        if missing and missing == group[-len(missing) :]:
            cut += group
        else:
            scattered += missing
    return cut + scattered


def _kept(
    encoder: Encoder,
    contents: Mapping[bytes, Content],
    kept: Keeps,
    known: Set[bytes],
    cache: Cache,
    progress: Callable[[int], None],
) -> Generator[tuple[bytes, Floats | SensoriumError], None, None]:
    """The vectors of contents by key, stored as they come, save what is known already."""
    flushed = time.monotonic()
    try:
        for done, (key, made) in enumerate(zip(contents, _vectors(encoder, list(contents.values()))), 1):
            if not isinstance(made, SensoriumError) and not np.isfinite(made).all():
                made = MediaError("its vector is not finite")
            if isinstance(made, SensoriumError):
                if isinstance(made, MediaError) and not isinstance(made, Passing):
                    kept.refuse(key, str(made))
            elif key not in known:
                made = kept.put(key, made)
            yield key, made
            if time.monotonic() - flushed > FLUSH_SECONDS:
                cache.flush()
                flushed = time.monotonic()
            progress(done)
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
        file = cache.file_digest(content.paths[0])
        return bytes.fromhex(digest("variant", str(content.variant), file)) if content.variant else file
    if isinstance(content, Text):
        return bytes.fromhex(digest("text", content.joined()))
    if isinstance(content, Attributes):
        return bytes.fromhex(digest("attributes", json.dumps(dict(content.values), sort_keys=True)))
    return bytes.fromhex(digest("vector", content.values.tobytes()))


def _length(content: Content) -> int:
    return len(content.joined()) if isinstance(content, Text) else 0


def _reason(error: SensoriumError) -> str:
    """Why a content has no vector. What is wrong with a file is told without where it lies, which the problem says itself."""
    return without_paths(str(error)) if isinstance(error, MediaError) else str(error)


def _problem(catalog: Catalog, row: int, encoder: Encoder, content: Content, reason: str) -> Problem:
    file = str(Path(content.paths[0])) if isinstance(content, Media) and content.paths else ""
    return Problem(catalog.ids[row], encoder.modality, file, reason)
