"""Items by words or by a picture, whatever their modality: words find pictures, sound and clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.arrays import best, unit
from sensorium.data.catalog import Catalog
from sensorium.data.content import LOOK, TEXT, TOKENS, WORDS, Content, Media, Text
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.encoder import silent
from sensorium.encode.open import open_encoders
from sensorium.encode.patience import Patience
from sensorium.encode.run import encode
from sensorium.errors import DataError, RemoteError, SensoriumError
from sensorium.live import Live
from sensorium.rank.query import check_count


@dataclass(frozen=True)
class Found:
    """One result of a search; `by` names the modality whose vector lay nearest to the query."""

    item: str
    title: str
    score: float
    by: str


def search(
    live: Live, words: str | None, image: Path | None, k: int, cache: Path, *, patience: Patience | None = None
) -> list[Found]:
    """The items nearest to some words, or to a picture; an encoder that `patience` lost is told at once.

    **Raises** DataError where both or neither are given, or the picture cannot be read; RecipeError for `k`; RemoteError
    where the encoder is missing.
    """
    check_count(k, "search")
    modality, content = _asked(words, image)
    if live.aligner is None:
        return _alike(live, modality, content, k, cache, patience)
    asked = live.aligner.project(modality, _encoded(live, modality, content, cache, patience)).values[0]
    scores = np.full((len(live.views), len(live.catalog)), -np.inf, np.float32)
    names = [modality for modality in live.views if modality not in (WORDS, LOOK, TOKENS)]  # texts and pictures again
    for place, name in enumerate(names):
        near, present = _projected(live, name)
        # A modality's cosines are compared with its own usual ones: words lie nearer to words than to any picture.
        cosines = near[present] @ asked
        if len(cosines):
            scores[place, present] = (cosines - cosines.mean()) / (cosines.std() + 1e-6)
    scores[:, sorted(live.hidden)] = -np.inf
    rows, values = best(scores.max(axis=0)[None, :], k)
    return [
        Found(live.catalog.ids[row], live.catalog.title(row), float(value), names[int(scores[:, row].argmax())])
        for row, value in zip(rows[0], values[0], strict=True)
        if np.isfinite(value)
    ]


def _asked(words: str | None, image: Path | None) -> tuple[str, Content]:
    told = words is not None and bool(words.strip())
    if told and image is not None:
        raise DataError("search: words and a picture are given; search for one of them at a time")
    if words is not None and told:
        return TEXT, Text((("query", words),))
    if image is not None:
        return "image", Media((Path(image),))
    raise DataError("search: give some words, or a picture")


def _encoded(live: Live, modality: str, content: Content, cache: Path, patience: Patience | None) -> Any:
    page = Catalog(Ids(["query"]), {modality: [content]})
    encoders = open_encoders(page, live.made_from.encode)  # second views are not searched in
    if patience is not None:
        encoders = patience.guarded(encoders, live.views)
    done = encode(page, encoders, Cache(cache), progress=silent)
    if done.problems:
        problem = done.problems[0]
        if patience is not None and problem.modality in patience.lacking:
            raise RemoteError(f"search: {problem.reason}; come back later")
        raise DataError(f"search: {problem.file + ': ' if problem.file else ''}{problem.reason}")
    return done.views[modality]


def _alike(live: Live, modality: str, content: Content, k: int, cache: Path, patience: Patience | None) -> list[Found]:
    """Without an aligned space only the query's own modality can be searched."""
    if modality not in live.views:
        raise DataError(f"search: this run has no {modality} to search in; it has {', '.join(live.views)}")
    view = live.views[modality]
    scores = unit(view.values) @ unit(_encoded(live, modality, content, cache, patience).values)[0]
    scores[~view.present] = -np.inf
    scores[sorted(live.hidden)] = -np.inf
    rows, values = best(scores[None, :], k)
    pairs = zip(rows[0], values[0], strict=True)
    return [Found(live.catalog.ids[r], live.catalog.title(r), float(v), modality) for r, v in pairs if np.isfinite(v)]


def _projected(live: Live, modality: str) -> tuple[Any, Any]:
    store: dict[str, Any] = live.__dict__.setdefault("_spaces", {})
    if modality not in store:
        assert live.aligner is not None
        view = live.views[modality]
        try:
            store[modality] = (live.aligner.project(modality, view).values, view.present)
        except SensoriumError:  # a modality the aligner never saw in two items at once
            store[modality] = (np.zeros((len(view), 1), np.float32), np.zeros(len(view), bool))
    return store[modality]
