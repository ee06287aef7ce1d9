"""Video: evenly spaced frames through a picture encoder, and the sound track through a sound encoder, side by side."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sensorium.arrays import Floats, unit
from sensorium.data.content import VIDEO, Content
from sensorium.encode.audio import YamnetEncoder
from sensorium.encode.efficientnet import SIDE
from sensorium.encode.image import EfficientNetEncoder, Pixels
from sensorium.encode.media import Limits
from sensorium.encode.pool import decoders
from sensorium.encode.streams import encoded_contents, encoded_files, paths
from sensorium.errors import MediaError


@dataclass(frozen=True)
class VideoEncoder:
    """**Shapes** a video → (1280 + 1024,): mean over the frames | the sound; each part of unit length, zeros if silent.

    `frames` are spaced evenly over the length, each the key frame at or before its time.
    """

    frames: int = 8
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = VIDEO

    @property
    def size(self) -> int:
        return self._pictures.size + self._sounds.size

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"video/{self.frames}/1 ({self._pictures.fingerprint}) ({self._sounds.fingerprint})"

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        requests = [
            {"kind": "video", "path": str(paths(content)[0]), "side": SIDE, "frames": self.frames}
            for content in contents
        ]
        decoded = decoders(self.limits).decode(requests)
        pairs = (one if isinstance(one, MediaError) else (one[0], one[1]) for one in decoded)
        return encoded_files(pairs, self._vectors, 1)

    def _vectors(self, clips: Sequence[tuple[Pixels, Floats]]) -> Floats:
        rows = []
        for pictures, sound in clips:
            seen = unit(self._pictures.features(list(pictures)).mean(0))
            silent = sound.size == 0 or not np.any(sound)
            heard = np.zeros(self._sounds.size, np.float32) if silent else unit(self._sounds.features([sound])[0])
            rows.append(np.concatenate([seen, heard]))
        return np.stack(rows)

    @functools.cached_property
    def _pictures(self) -> EfficientNetEncoder:
        return EfficientNetEncoder(self.limits)

    @functools.cached_property
    def _sounds(self) -> YamnetEncoder:
        return YamnetEncoder(self.limits)
