"""Tokens: the words of a text and its pairs of neighbours as numbers, for models that learn from people what a word is worth."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.content import TEXT, TOKENS, Content
from sensorium.encode.text import words
from sensorium.encode.words import WORD

NUMBERS = 1 << 24  # a float32 holds whole numbers exactly up to here


@dataclass(frozen=True)
class TokenEncoder:
    """The first `size` distinct words and pairs of words of a text, hashed. **Shapes** text → (size,), 0 where it is shorter.

    Nothing is learnt here, so a new text needs nothing but itself. These are names, not directions: fusion leaves them
    out, and what they mean is for a model to learn (models/taught.py). The first word is told twice, once as the first:
    there titles put the brand.
    """

    size: int = 64
    modality: ClassVar[str] = TOKENS
    reads: ClassVar[str] = TEXT
    uncached: ClassVar[bool] = True  # cheaper to make than to look up

    @property
    def fingerprint(self) -> str:
        return f"tokens/1:{self.size}"

    def encode(self, contents: Sequence[Content]) -> Floats:
        out = np.zeros((len(contents), self.size), np.float32)
        for row, content in enumerate(contents):
            found = tokens(words(content))[: self.size]
            out[row, : len(found)] = [number(token) for token in found]
        return out


def tokens(text: str) -> list[str]:
    """
    >>> tokens("OPI red polish")
    ['^opi', 'opi', 'red', 'opi red', 'polish', 'red polish']
    """
    found = WORD.findall(text.casefold())
    out = [f"^{found[0]}", found[0]] if found else []
    for before, word in itertools.pairwise(found):
        out += [word, f"{before} {word}"]
    return list(dict.fromkeys(out))


def number(token: str) -> int:
    """1 to 2²⁴ − 1; of 20,000 tokens about a dozen share theirs with another."""
    return zlib.crc32(token.encode()) % (NUMBERS - 1) + 1
