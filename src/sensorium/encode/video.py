"""Video: evenly spaced frames through a picture encoder, and the sound track through a sound encoder, side by side."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from sensorium.arrays import Floats, unit
from sensorium.data.content import VIDEO, Content
from sensorium.encode.audio import YamnetEncoder
from sensorium.encode.image import EfficientNetEncoder, Pixels
from sensorium.encode.media import RATE, Limits
from sensorium.encode.pool import decoders
from sensorium.encode.streams import encoded_contents, encoded_files, paths
from sensorium.errors import MediaError


class Sees(Protocol):
    """A picture encoder that takes decoded pictures: (square, square, 3) each → (B, size)."""

    @property
    def square(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def features(self, pixels: Sequence[Pixels]) -> Floats: ...


class Hears(Protocol):
    """A sound encoder that takes decoded sounds, mono, `rate` samples a second → (B, size)."""

    @property
    def rate(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def features(self, samples: Sequence[Floats]) -> Floats: ...


@dataclass(frozen=True)
class VideoSettings:
    """`video = { frames = 4, image = "hub:FOLDER", audio = "none" }`: an encoder not named is the one of that modality.

    `frames` are spaced evenly over the length, each the key frame at or before its time.
    """

    frames: int = 8
    image: str | Mapping[str, Any] = ""
    audio: str | Mapping[str, Any] = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= 256:
            raise ValueError(f"frames is {self.frames}; give 1 to 256")


@dataclass(frozen=True)
class VideoEncoder:
    """**Shapes** a video → (sees.size + hears.size,): mean over the frames | the sound.

    Each part is of unit length, and zeros where a clip is silent. A part whose encoder is None is left out.
    """

    frames: int = 8
    limits: Limits = field(default_factory=Limits)
    sees: Sees | None = field(default_factory=EfficientNetEncoder)
    hears: Hears | None = field(default_factory=YamnetEncoder)
    modality: ClassVar[str] = VIDEO

    @property
    def size(self) -> int:
        return sum(part.size for part in (self.sees, self.hears) if part is not None)

    @functools.cached_property
    def fingerprint(self) -> str:
        parts = " ".join(f"({part.fingerprint if part else 'none'})" for part in (self.sees, self.hears))
        return f"video/{self.frames}/{self.limits.sound_seconds:g} s/2 {parts}"

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        wanted = {
            "kind": "video", "side": self.sees.square if self.sees else 64, "frames": self.frames if self.sees else 1,
            "rate": self.hears.rate if self.hears else RATE,
        }  # fmt: skip
        requests = [{**wanted, "path": str(paths(content)[0])} for content in contents]
        decoded = decoders(self.limits).decode(requests)
        pairs = (one if isinstance(one, MediaError) else (one[0], one[1]) for one in decoded)
        # A network that uses all cores by itself says so by `workers = 1`.
        alone = any(getattr(part, "workers", None) == 1 for part in (self.sees, self.hears))
        return encoded_files(pairs, self._vectors, 1, 1 if alone else None)

    def _vectors(self, clips: Sequence[tuple[Pixels, Floats]]) -> Floats:
        rows = []
        for pictures, sound in clips:
            parts = []
            if self.sees is not None:
                parts.append(unit(self.sees.features(list(pictures)).mean(0)))
            if self.hears is not None:
                silent = sound.size == 0 or not np.any(sound)
                heard = np.zeros(self.hears.size, np.float32) if silent else self.hears.features([sound])[0]
                parts.append(unit(heard))
            rows.append(np.concatenate(parts))
        return np.stack(rows)
