"""Words: which words a text has, weighted by rarity. What sentence encoders blur (brands, shades, model numbers) stands out."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, digest, leading
from sensorium.data.content import TEXT, WORDS, Content
from sensorium.encode.text import words

WORD = re.compile(r"[^\W_]+(?:[.'][^\W_]+)*")  # "0.5" and "l'oreal" are one word each


@dataclass(frozen=True)
class WordSettings:
    """`size` bounds the length of the vector; a word must stand in `least` texts, and at most `most` words are known."""

    size: int = 512
    least: int = 2
    most: int = 30_000


@dataclass(frozen=True, eq=False)
class WordEncoder:
    """The words of a catalogue and the directions in which its texts differ most. **Shapes** text → (S,).

    A text is a row of log(texts ÷ texts with the word), scaled to length one, on the leading singular vectors of all such
    rows (latent semantic analysis). A text without a known word is the centre: fusion takes it for absent. Text that writes
    no spaces between its words is cut at punctuation alone, so it gains little here.

    **Shapes** vocabulary V words; weights (V,); axes (V, S); centre (S,).
    **Source** S. Deerwester et al., "Indexing by latent semantic analysis" (1990).
    """

    vocabulary: tuple[str, ...]
    weights: Floats
    axes: Floats
    centre: Floats
    modality: ClassVar[str] = WORDS
    reads: ClassVar[str] = TEXT  # the modality of the catalogue that it encodes
    uncached: ClassVar[bool] = True  # cheaper to make than to look up

    @classmethod
    def fit(cls, contents: Sequence[Content | None], settings: WordSettings | None = None) -> WordEncoder:
        """Learn the vocabulary, its weights and the directions. **Cost** that of `leading`."""
        settings = settings or WordSettings()
        texts = [found for content in contents if content is not None and (found := _words(content))]
        counts = Counter(word for found in texts for word in found)
        frequent = sorted((w for w, c in counts.items() if c >= settings.least), key=lambda w: (-counts[w], w))
        vocabulary = tuple(sorted(frequent[: settings.most]))
        # A word that every text has says nothing, but texts of such words alone must have a direction.
        weights = np.array([np.log(len(texts) / counts[w]) + 0.01 for w in vocabulary], np.float32)
        if not vocabulary:
            return cls((), weights, np.zeros((0, 1), np.float32), np.zeros(1, np.float32))
        plain = cls(vocabulary, weights, np.zeros((len(vocabulary), 1), np.float32), np.zeros(1, np.float32))
        rows = plain._rows(texts)
        axes = leading(rows, settings.size)
        known = rows[np.flatnonzero(np.diff(rows.indptr))]  # those without a known word will stand on their centre
        return cls(vocabulary, weights, axes, np.asarray(known @ axes, np.float32).mean(0))

    @property
    def size(self) -> int:
        return int(self.axes.shape[1])

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"words/1:{digest(self.weights.tobytes(), self.axes.tobytes(), self.centre.tobytes(), *self.vocabulary)}"

    def encode(self, contents: Sequence[Content]) -> Floats:
        if not contents:
            return np.zeros((0, self.size), np.float32)
        rows = self._rows([_words(content) for content in contents])
        out = np.asarray(rows @ self.axes, np.float32)
        out[np.diff(rows.indptr) == 0] = self.centre
        return out

    def _rows(self, texts: Sequence[set[str]]) -> sparse.csr_array:
        """**Shapes** (B, V), rows of length one, or of zeros."""
        places = [sorted(self._places[word] for word in found if word in self._places) for found in texts]
        start = np.cumsum([0, *map(len, places)])
        column = np.array([place for found in places for place in found], np.int64)
        values = self.weights[column]
        row = np.repeat(np.arange(len(places)), np.diff(start))
        length = np.sqrt(np.bincount(row, values * values, minlength=len(places)))
        values = (values / np.maximum(length, 1e-12)[row]).astype(np.float32)
        return sparse.csr_array((values, column, start), shape=(len(places), len(self.vocabulary)))

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.vocabulary)}


def _words(content: Content) -> set[str]:
    return set(WORD.findall(words(content).casefold()))
