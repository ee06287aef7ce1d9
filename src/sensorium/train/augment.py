"""Augmentation at training time: small pure functions that take what is to be disturbed and a random generator.

None of them changes its argument; with the same generator state each gives the same answer. A rate of 0 disturbs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.content import Text
from sensorium.data.events import Histories


@dataclass(frozen=True)
class Augment:
    """`[augment]`: how often each item's picture and text are encoded once more, disturbed, for alignment to learn from.

    A variant's picture is cut and mirrored, and each field of its text is left out with probability `fields`. Every variant
    costs as much encoding as the catalogue itself. `seed` of the recipe decides.
    """

    variants: int = 0
    fields: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.variants <= 16:
            raise ValueError(f"variants is {self.variants}; give a number from 0 to 16")
        if not 0 <= self.fields < 1:
            raise ValueError(f"fields is {self.fields}; give a share from 0, below 1")


def drop_events(histories: Histories, rate: float, rng: np.random.Generator) -> Histories:
    """Each event is left out with probability `rate`, but a history never loses its newest one."""
    if rate <= 0 or not len(histories.item):
        return histories
    return histories.only((rng.random(len(histories.item)) >= rate) | (histories.back == 0))


def windows(start: Rows, length: int, rng: np.random.Generator | None = None) -> tuple[Rows, Rows]:
    """Cuts histories into consecutive windows of at most `length` events: first and last place (W,), (W,) of each.

    With `rng` the first cut of each history falls at random, so that over the epochs every event meets every context;
    without, windows are counted back from the newest event. Every event lies in exactly one window.

    >>> [part.tolist() for part in windows(np.array([0, 5, 7]), 3)]
    [[0, 2, 5], [2, 5, 7]]
    """
    counts = np.diff(start)
    remainder = np.where(counts > length, counts % length, 0)
    if rng is not None:
        remainder = np.where(counts > length, np.floor(rng.random(len(counts)) * length), 0)
    first = np.where((remainder == 0) & (counts > 0), np.minimum(counts, length), remainder).astype(np.int64)
    pieces = np.where(counts > 0, 1 + -(-(counts - first) // length), 0)
    owner = np.repeat(np.arange(len(counts)), pieces)
    turn = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = np.where(turn == 0, 0, first[owner] + (turn - 1) * length)
    end = np.minimum(first[owner] + turn * length, counts[owner])
    return start[:-1][owner] + begin, start[:-1][owner] + end


def drop_modalities(present: NDArray[np.bool_], rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which modalities (B, M) stay: each present one goes with probability `rate`, but a row that had any keeps one.

    **Source** ModDrop, Neverova et al. 2016.
    """
    if rate <= 0:
        return present.copy()
    noise = rng.random(present.shape)
    kept = present & (noise >= rate)
    bare = ~kept.any(axis=1) & present.any(axis=1)
    survivor = np.argmax(np.where(present, noise, -1), axis=1)
    kept[bare, survivor[bare]] = True
    return kept


def drop_fields(text: Text, rate: float, rng: np.random.Generator) -> Text:
    """Each field of a text goes with probability `rate`; of a text that had any field, one stays.

    >>> len(drop_fields(Text((("title", "Alien"), ("plot", "In space."))), 1.0, np.random.default_rng(0)).fields)
    1
    """
    if rate <= 0 or not text.fields:
        return text
    noise = rng.random(len(text.fields))
    kept = noise >= rate
    kept[np.argmax(noise)] = True
    return Text(tuple(field for field, keep in zip(text.fields, kept, strict=True) if keep))


def crop_flip(images: NDArray, rng: np.random.Generator, *, smallest: float = 0.7, flip: bool = True) -> NDArray:
    """Pictures (B, H, W, …) cut to a random square share of their sides, stretched back, and mirrored half of the time.

    `smallest` is the least share of each side that stays (1 cuts nothing). Stretching takes the nearest pixel: the
    crop is for training an encoder's head, where speed counts more than smooth edges.
    """
    height, width = images.shape[1:3]
    out = np.empty_like(images)
    for place, image in enumerate(images):
        share = smallest + (1 - smallest) * rng.random()
        tall, wide = max(1, round(height * share)), max(1, round(width * share))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        rows = top + (np.arange(height) * tall) // height
        columns = left + (np.arange(width) * wide) // width
        if flip and rng.random() < 0.5:
            columns = columns[::-1]
        out[place] = image[np.ix_(rows, columns)]
    return out
