"""Pictures and sound by any ONNX file; text is in `text.py`, beside its tokenizer."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sensorium.arrays import Floats
from sensorium.data.content import AUDIO, IMAGE, Content
from sensorium.encode.audio import BANDS, PATCH, patches, sounds
from sensorium.encode.image import BATCH, Pixels, pictures, prepared
from sensorium.encode.media import RATE, Limits
from sensorium.encode.pool import decoders
from sensorium.encode.session import open_session, weights_digest
from sensorium.encode.streams import encoded_contents, encoded_files
from sensorium.errors import DataError, MediaError


@dataclass(frozen=True)
class OnnxImageEncoder:
    """A picture → (D,) by an ONNX file that takes (B, 3, S, S) or (B, S, S, 3) floats: (value − mean) / scale.

    `output` names the output to take (the first one by default); a feature map (B, D, H, W) is averaged, of tokens
    (B, T, D) the first is taken.
    """

    file: str
    side: int = 224  # where the file leaves it open
    mean: float = 127.5
    scale: float = 127.5
    output: str = ""
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = IMAGE

    @functools.cached_property
    def fingerprint(self) -> str:
        how = f"{self._side}/{self.mean:g}/{self.scale:g}/{self.output}"
        return f"onnx-image/{how}/1:{weights_digest(_existing(self.file))}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros((self._side, self._side, 3), np.uint8)]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        return encoded_files(pictures(contents, self._side, decoders(self.limits)), self.features, self._batch)

    def features(self, pixels: Sequence[Pixels]) -> Floats:
        """Decoded pictures → (B, D)."""
        fed = prepared(pixels, self.mean, self.scale)
        if self._last:
            fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1))
        return _flat(self._session.run([self.output] if self.output else None, {self._input.name: fed})[0])

    @functools.cached_property
    def _input(self) -> Any:
        found = self._session.get_inputs()[0]
        if len(found.shape) != 4 or found.type != "tensor(float)":
            raise DataError(f"{self.file}: takes {found.type} {found.shape}; pictures need four sides of float")
        return found

    @property
    def _last(self) -> bool:
        return self._input.shape[3] == 3  # channels last

    @functools.cached_property
    def _side(self) -> int:
        side = self._input.shape[1 if self._last else 2]
        return side if isinstance(side, int) else self.side

    @property
    def _batch(self) -> int:
        fixed = self._input.shape[0]
        return fixed if isinstance(fixed, int) else BATCH

    @functools.cached_property
    def _session(self) -> Any:
        return open_session(_existing(self.file))


@dataclass(frozen=True)
class OnnxAudioEncoder:
    """A sound → (D,) by an ONNX file that takes samples at 16 kHz ((T,) or (B, T)), or log mel patches of 96 × 64."""

    file: str
    output: str = ""
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = AUDIO

    @functools.cached_property
    def fingerprint(self) -> str:
        how = f"{self.limits.sound_seconds:g} s/{self.output}"
        return f"onnx-audio/{how}/1:{weights_digest(_existing(self.file))}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros(RATE, np.float32)]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        return encoded_files(sounds(contents, decoders(self.limits)), self.features, 1)

    def features(self, samples: Sequence[Floats]) -> Floats:
        """Decoded sounds → (B, D)."""
        fed = self._session.get_inputs()[0]
        if fed.type != "tensor(float)":
            raise DataError(f"{self.file}: takes {fed.type}; sound needs float")
        sides = len(fed.shape)
        rows = []
        for sound in samples:
            pieces = [sound if sides == 1 else sound[None]]
            if fed.shape[-2:] == [PATCH, BANDS]:
                pieces = [one[None, None] if sides == 4 else one[None] for one in patches(sound)]
            elif sides == 2 and isinstance(fed.shape[1], int):
                pieces = [_cut(sound[at:], fed.shape[1])[None] for at in range(0, len(sound), fed.shape[1])]
            asked = [self.output] if self.output else None
            found = [self._session.run(asked, {fed.name: piece})[0] for piece in pieces]
            rows.append(np.concatenate([_flat(np.atleast_2d(one)) for one in found]).mean(0))
        return np.stack(rows)

    @functools.cached_property
    def _session(self) -> Any:
        return open_session(_existing(self.file))


def _cut(samples: Floats, length: int) -> Floats:
    """The first `length` samples, with silence after them where there are fewer."""
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _flat(values: Floats) -> Floats:
    """(B, D) of vectors, tokens or feature maps."""
    if values.ndim == 3:
        return values[:, 0]
    return values.mean((2, 3)) if values.ndim == 4 else values


def _existing(file: str) -> Path:
    path = Path(file).expanduser()
    if not path.is_file():
        raise DataError(f"onnx:{file}: no such file")
    return path
