"""Attributes: numbers on one scale, dates as year, season and age, categories and lists as weighted places."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sensorium.arrays import Floats, digest
from sensorium.data.content import ATTRIBUTES, Attribute, Attributes, Content
from sensorium.errors import DataError

DAY = 86_400.0
YEAR = 365.2425 * DAY
DATE_WORDS = ("date", "time", "released", "published", "created", "updated", "born", "birth")
DATE_PARTS = 4  # years, how recent, and the season as a point on a circle
LARGEST = 1e30  # a number beyond it counts as that: their squares, and 32 bits, hold no more
BETWEEN = "\x1f"  # between a field and its value in the vocabulary


@dataclass(frozen=True)
class AttributeSettings:
    """`size` bounds the length of the vector; a value must occur `least` times to get a place of its own."""

    size: int = 1024
    least: int = 2


@dataclass(frozen=True, eq=False)
class AttributeEncoder:
    """What was learnt of a catalogue's attributes. **Shapes** attributes → (size,).

    The vector holds, one after another: the numbers (standardised; heavy-tailed non-negative ones as log(1 + x)), four
    parts a date, and a place for each frequent value of each category or list. A field's places are weighted by inverse
    document frequency and scaled to unit length, so a field of many values counts as much as a field of one. What is
    absent or was never seen is zero, which is the mean.
    """

    numbers: tuple[str, ...]
    logarithmic: tuple[bool, ...]
    dates: tuple[str, ...]
    newest: tuple[float, ...]  # of each date field, seconds since 1970
    means: Floats  # of the numbers, then of each date's years and recency
    scales: Floats
    vocabulary: tuple[str, ...]  # field + BETWEEN + value
    weights: Floats  # inverse document frequency of each word
    modality: ClassVar[str] = ATTRIBUTES
    uncached: ClassVar[bool] = True  # cheaper to make than to look up

    @classmethod
    def fit(cls, contents: Sequence[Content | None], settings: AttributeSettings | None = None) -> AttributeEncoder:
        """Learn the fields, scales and vocabulary of a catalogue."""
        settings = settings or AttributeSettings()
        rows = [_values(content) for content in contents if content is not None]
        seen: dict[str, list[float]] = {}
        counts: Counter[str] = Counter()
        for row in rows:
            for name, value in row.items():
                if isinstance(value, str | tuple):
                    counts.update({name + BETWEEN + word for word in _words(value)})
                elif (number := _number(value)) is not None:
                    seen.setdefault(name, []).append(number)
        names = sorted(seen)[: settings.size // DATE_PARTS]
        dates = tuple(name for name in names if _is_date(name, np.asarray(seen[name])))
        numbers = tuple(name for name in names if name not in dates)
        logarithmic = tuple(_is_heavy(np.asarray(seen[name])) for name in numbers)
        newest = tuple(max(seen[name]) for name in dates)
        columns = [np.log1p(seen[n]) if log else np.asarray(seen[n]) for n, log in zip(numbers, logarithmic)]
        for name, last in zip(dates, newest):
            years, recency, _, _ = _date_parts(np.asarray(seen[name]), last)
            columns += [years, recency]
        means = np.array([column.mean() for column in columns], np.float32)
        spreads = np.array([column.std() for column in columns], np.float32)
        room = settings.size - len(numbers) - DATE_PARTS * len(dates)
        frequent = sorted((w for w, c in counts.items() if c >= settings.least), key=lambda w: (-counts[w], w))
        vocabulary = tuple(sorted(frequent[: max(room, 0)]))
        weights = np.array([np.log((1 + len(rows)) / (1 + counts[w])) + 1 for w in vocabulary], np.float32)
        scales = np.where(spreads > 0, spreads, 1).astype(np.float32)
        return cls(numbers, logarithmic, dates, newest, means, scales, vocabulary, weights)

    @property
    def size(self) -> int:
        return max(1, len(self.numbers) + DATE_PARTS * len(self.dates) + len(self.vocabulary))

    @functools.cached_property
    def fingerprint(self) -> str:
        arrays = [array.tobytes() for array in (self.means, self.scales, self.weights)]
        words = [*self.numbers, *map(str, self.logarithmic), *self.dates, *map(repr, self.newest), *self.vocabulary]
        return f"attributes/1:{digest(*arrays, *words)}"

    @np.errstate(over="ignore")  # what lies that far out is cut off at the end
    def encode(self, contents: Sequence[Content]) -> Floats:
        out = np.zeros((len(contents), self.size), np.float32)
        first = len(self.numbers) + DATE_PARTS * len(self.dates)
        for row, content in enumerate(contents):
            values = _values(content)
            for place, (name, log) in enumerate(zip(self.numbers, self.logarithmic)):
                number = _number(values.get(name))
                if number is not None:
                    number = np.log1p(max(number, 0.0)) if log else number
                    out[row, place] = (number - self.means[place]) / self.scales[place]
            for place, (name, last) in enumerate(zip(self.dates, self.newest)):
                number = _number(values.get(name))
                if number is not None:
                    at, known = len(self.numbers) + DATE_PARTS * place, len(self.numbers) + 2 * place
                    parts = np.array([part[0] for part in _date_parts(np.array([number]), last)])
                    parts[:2] = (parts[:2] - self.means[known : known + 2]) / self.scales[known : known + 2]
                    out[row, at : at + DATE_PARTS] = parts
            for name, value in values.items():
                if isinstance(value, str | tuple):
                    places = sorted(
                        {p for word in _words(value) if (p := self._places.get(name + BETWEEN + word)) is not None}
                    )
                    if places:
                        weights = self.weights[places]
                        out[row, [first + place for place in places]] = weights / np.linalg.norm(weights)
        return np.clip(out, -8, 8)

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.vocabulary)}


def _values(content: Content) -> Mapping[str, Attribute]:
    if not isinstance(content, Attributes):
        raise DataError(f"attributes were expected, not {type(content).__name__.lower()}")
    return content.values


def _number(value: Attribute | None) -> float | None:
    if value is None or isinstance(value, str | tuple):
        return None
    return min(max(float(value), -LARGEST), LARGEST) if np.isfinite(value) else None


def _words(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _is_date(name: str, values: Floats) -> bool:
    """Seconds since 1970: whole days all of them, or large numbers under a name that says so."""
    days = values[values != 0]
    if len(days) and np.all(days % DAY == 0) and np.abs(days).max() >= 30 * DAY:
        return True
    return any(word in name.lower() for word in DATE_WORDS) and bool(np.median(np.abs(values)) > 1e8)


def _is_heavy(values: Floats) -> bool:
    """Non-negative with a long tail: the mean far above the median, on a scale where that matters."""
    return bool(values.min() >= 0 and values.max() > 20 and values.mean() > 1.5 * max(float(np.median(values)), 1e-9))


def _date_parts(values: Floats, newest: float) -> tuple[Floats, Floats, Floats, Floats]:
    years = values / YEAR
    age = np.log1p(np.maximum(newest - values, 0.0) / DAY)
    turn = 2 * np.pi * (years % 1.0)
    return years, -age, np.sin(turn), np.cos(turn)
