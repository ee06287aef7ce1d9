"""What an item (or a person) says of itself: text in fields, media files, attributes, ready vectors. Absence is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sensorium.arrays import Floats

TEXT, IMAGE, AUDIO, VIDEO, ATTRIBUTES = "text", "image", "audio", "video", "attributes"
WORDS = "words"  # which words a text has: a second view of what is told as text
LOOK = "look"  # how a picture looks: a second view of what is shown as picture
TOKENS = "tokens"  # the words of a text as numbers, which fusion leaves out: for models that learn what words are worth
VECTOR = "vector:"  # a modality that comes as vectors is named "vector:" + its column


@dataclass(frozen=True)
class Text:
    """Text by field, in the order it should be read.

    >>> Text((("title", "Alien"), ("plot", "In space."))).joined()
    'Alien. In space.'
    """

    fields: tuple[tuple[str, str], ...]

    def joined(self) -> str:
        """All fields as one string; a field that ends in no stop gets one."""
        parts = [value.strip() for _, value in self.fields if value.strip()]
        stops = ".!?…。！？:;"
        return " ".join(p if p[-1] in stops or last else p + "." for p, last in _with_last(parts))


@dataclass(frozen=True)
class Media:
    """One or several files of one modality; several are encoded one by one and averaged.

    `variant` above 0 is a picture cut and mirrored by chance, the number naming the chance: for training alone.
    """

    paths: tuple[Path, ...]
    variant: int = 0


Attribute = float | str | tuple[str, ...]  # number (a date is seconds since 1970), category, list


@dataclass(frozen=True)
class Attributes:
    """Named facts. A number may be a date in seconds since 1970; a list holds categories."""

    values: Mapping[str, Attribute]


@dataclass(frozen=True, eq=False)
class Ready:
    """A vector that somebody else computed."""

    values: Floats  # (D,)


Content = Text | Media | Attributes | Ready


def _with_last(parts: list[str]) -> list[tuple[str, bool]]:
    return [(part, place == len(parts) - 1) for place, part in enumerate(parts)]
