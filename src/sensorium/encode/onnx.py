"""Pictures and sound by any ONNX file; text is in `text.py`, beside its tokenizer."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sensorium.arrays import Floats, slices
from sensorium.data.content import AUDIO, IMAGE, Content
from sensorium.encode.audio import BANDS, PATCH, patches, sounds
from sensorium.encode.image import BATCH, Pixels, pictures, prepared
from sensorium.encode.media import RATE, Limits
from sensorium.encode.pool import decoders
from sensorium.encode.session import existing, open_session, run, weights_digest
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
        how = f"{self.side}/{self.mean:g}/{self.scale:g}/{self.output}"
        return f"onnx-image/{how}/2:{weights_digest(existing(self.file))}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros((self.square, self.square, 3), np.uint8)]).shape[1])

    @property
    def together(self) -> int:
        """Pictures in a batch: rounding may differ with the neighbours."""
        return self._batch

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        return encoded_files(pictures(contents, self.square, decoders(self.limits)), self.features, self._batch)

    def features(self, pixels: Sequence[Pixels]) -> Floats:
        """Decoded pictures → (B, D). **Raises** DataError where the file does not take them, or gives something else."""
        fed = prepared(pixels, self.mean, self.scale)
        if self._last:
            fed = np.ascontiguousarray(fed.transpose(0, 2, 3, 1))
        lacking = -len(fed) % self._batch if self._fixed else 0
        if lacking:
            fed = np.concatenate([fed, np.zeros((lacking, *fed.shape[1:]), np.float32)])
        cuts = [fed[at] for at in slices(len(fed), self._batch)] if self._fixed else [fed]
        made = [run(self._session, self.output, {self._input.name: cut}, self.file) for cut in cuts]
        return np.concatenate([_flat(values, len(cut), self.file) for values, cut in zip(made, cuts)])[: len(pixels)]

    @functools.cached_property
    def _input(self) -> Any:
        found = self._session.get_inputs()[0]
        if len(found.shape) != 4 or found.type != "tensor(float)":
            raise DataError(f"{self.file}: takes {found.type} {found.shape}; pictures need four sides of float")
        if found.shape[3] != 3 and isinstance(found.shape[1], int) and found.shape[1] != 3:
            raise DataError(f"{self.file}: takes {found.shape}; the second or the last side should be 3, for RGB")
        return found

    @property
    def _last(self) -> bool:
        return self._input.shape[3] == 3 and self._input.shape[1] != 3

    @functools.cached_property
    def square(self) -> int:
        """Side of the picture that the network takes, in pixels."""
        side = self._input.shape[1 if self._last else 2]
        return side if isinstance(side, int) else self.side

    @property
    def _fixed(self) -> bool:
        return isinstance(self._input.shape[0], int)

    @property
    def _batch(self) -> int:
        return self._input.shape[0] if self._fixed else BATCH

    @functools.cached_property
    def _session(self) -> Any:
        return open_session(existing(self.file))


@dataclass(frozen=True)
class OnnxAudioEncoder:
    """A sound → (D,) by an ONNX file that takes samples at 16 kHz ((T,) or (B, T)), or log mel patches of 96 × 64.

    A file that takes a fixed length gets consecutive pieces of it, the last one padded with silence, and is averaged.
    """

    file: str
    output: str = ""
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = AUDIO
    rate: ClassVar[int] = RATE

    @functools.cached_property
    def fingerprint(self) -> str:
        how = f"{self.limits.sound_seconds:g} s/{self.output}"
        return f"onnx-audio/{how}/1:{weights_digest(existing(self.file))}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros(RATE, np.float32)]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        return encoded_files(sounds(contents, decoders(self.limits)), self.features, 1)

    def features(self, samples: Sequence[Floats]) -> Floats:
        """Decoded sounds → (B, D). **Raises** DataError where the file does not take them, or gives something else."""
        rows = []
        for sound in samples:
            made = [run(self._session, self.output, {self._input.name: piece}, self.file) for piece in self._cut(sound)]
            rows.append(np.concatenate([_flat(np.atleast_2d(one), 0, self.file) for one in made]).mean(0))
        return np.stack(rows)

    def _cut(self, sound: Floats) -> list[Floats]:
        """What the network is fed of a sound: all of it, or pieces of the length that it takes."""
        shape = self._input.shape
        if shape[-2:] == [PATCH, BANDS]:
            return [one.reshape((1,) * (len(shape) - 2) + one.shape) for one in patches(sound)]
        if not isinstance(shape[-1], int):
            return [sound.reshape((1,) * (len(shape) - 1) + sound.shape)]
        length = shape[-1]
        parts = [sound[at : at + length] for at in range(0, max(1, len(sound)), length)]
        padded = [np.pad(part, (0, length - len(part))) for part in parts]
        return [part.reshape((1,) * (len(shape) - 1) + part.shape) for part in padded]

    @functools.cached_property
    def _input(self) -> Any:
        found = self._session.get_inputs()[0]
        pieces = found.shape[-2:] == [PATCH, BANDS] and len(found.shape) <= 4
        if found.type != "tensor(float)" or not (pieces or 1 <= len(found.shape) <= 2):
            raise DataError(
                f"{self.file}: takes {found.type} {found.shape}; sound needs floats, of (T,), (B, T) or …, {PATCH}, {BANDS}"
            )
        return found

    @functools.cached_property
    def _session(self) -> Any:
        return open_session(existing(self.file))


def _flat(values: Floats, count: int, file: str) -> Floats:
    """(B, D) of vectors, tokens or feature maps; `count` says how many they should be, 0 any number."""
    if values.ndim == 3:
        values = values[:, 0]
    elif values.ndim == 4:
        values = values.mean((2, 3))
    if values.ndim != 2 or values.size == 0 or (count and len(values) != count):
        raise DataError(
            f"{file}: gives {values.shape}, no vector for each input; name another of its outputs (output = …)"
        )
    return np.asarray(values, np.float32)
