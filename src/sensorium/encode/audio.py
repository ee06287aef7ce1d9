"""Sound by YAMNet: 1,024 features a patch of 0.96 s, averaged; and the 521 AudioSet classes by name.

**Source** Hershey et al. 2017 (arXiv:1609.09430), Gemmeke et al. 2017 (AudioSet); preprocessing as YAMNet publishes it:
magnitude spectrum of 25 ms windows every 10 ms, 64 mel bands from 125 to 7,500 Hz, log(mel + 0.001), patches of 96 frames.
"""

from __future__ import annotations

import csv
import functools
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats
from sensorium.data.content import AUDIO, Content
from sensorium.encode import wire
from sensorium.encode.media import RATE, Limits
from sensorium.encode.pool import Decoders, decoders
from sensorium.encode.session import open_session, package_folder, weights_digest
from sensorium.encode.streams import encoded_contents, encoded_files, paths
from sensorium.errors import DataError, MediaError

FEATURES, CLASSES, BANDS, PATCH = 1024, 521, 64, 96
WINDOW, HOP, FFT = RATE * 25 // 1000, RATE // 100, 512
POOLED = "/model/GlobalAveragePool_output_0"


def sounds(contents: Sequence[Content], pool: Decoders, rate: int = RATE) -> Iterator[Floats | MediaError]:
    """The samples of each content's first file, in order."""
    requests = [{"kind": "sound", "path": str(paths(content)[0]), "rate": rate} for content in contents]
    for found in pool.decode(requests):
        yield found if isinstance(found, MediaError) else found[0]


@functools.lru_cache(maxsize=1)
def mel_matrix() -> Floats:
    """(257, 64): triangles on the mel scale (HTK's formula), as wide as their neighbours' centres are apart."""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1127.0 * np.log1p(hertz / 700.0)

    low, high = mel(np.array([125.0, 7500.0]))
    edges = np.linspace(low, high, BANDS + 2)
    bins = mel(np.linspace(0.0, RATE / 2, FFT // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part
    return weights.astype(np.float32)


def log_mel(samples: Floats) -> Floats:
    """(frames, 64): log mel spectrum of samples at 16 kHz; a sound shorter than a patch is padded with silence."""
    least = WINDOW + HOP * (PATCH - 1)
    if len(samples) < least:
        samples = np.pad(samples, (0, least - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
    from scipy.fft import rfft  # keeps float32, unlike numpy's

    magnitude = np.abs(rfft(frames * window, FFT, axis=1))
    return np.log(magnitude @ mel_matrix() + np.float32(0.001))


def patches(samples: Floats) -> Floats:
    """(patches, 96, 64): consecutive patches of 0.96 s; what is left over at the end counts where it is half a patch."""
    frames = log_mel(samples)
    whole, rest = divmod(len(frames), PATCH)
    out = frames[: whole * PATCH].reshape(whole, PATCH, BANDS)
    return np.concatenate([out, frames[None, -PATCH:]]) if rest >= PATCH // 2 else out


@dataclass(frozen=True)
class YamnetEncoder:
    """**Shapes** a sound → (1024,): the mean over its patches. **Cost** about 10 core-milliseconds for ten seconds."""

    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = AUDIO
    size: ClassVar[int] = FEATURES
    rate: ClassVar[int] = RATE

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"yamnet/{self.limits.sound_seconds:g} s/1:{weights_digest(self._folder / 'YamNet_w8a8.onnx.zip')}"

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """English names of the 521 AudioSet classes, in the order of the network's outputs."""
        with (self._folder / "yamnet_class_map.csv").open(encoding="utf-8", newline="") as lines:
            return tuple(row["display_name"] for row in csv.DictReader(lines))

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        return encoded_files(sounds(contents, decoders(self.limits)), self.features, 1)

    def features(self, samples: Sequence[Floats]) -> Floats:
        """Decoded sounds → (B, 1024)."""
        return np.stack([self._run(one)[0].mean(0) for one in samples])

    def probabilities(self, contents: Sequence[Content]) -> Floats:
        """**Shapes** (B, 521): each class's mean probability over the patches, scaled so that rows sum to 1."""
        rows = []
        for found in sounds(contents, decoders(self.limits)):
            if isinstance(found, MediaError):
                raise found
            seen = (1.0 / (1.0 + np.exp(-self._run(found)[1]))).mean(0)
            rows.append(seen / max(float(seen.sum()), 1e-9))
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, CLASSES), np.float32)

    def _run(self, samples: Floats) -> tuple[Floats, Floats]:
        """(patches, 1024) features and (patches, 521) logits of one sound."""
        session, name, pace, zero, pace_out, zero_out = self._network
        quantised = np.clip(np.rint(patches(samples) / pace) + zero, 0, 255).astype(np.uint8)
        features = np.empty((len(quantised), FEATURES), np.float32)
        logits = np.empty((len(quantised), CLASSES), np.float32)
        for row, patch in enumerate(quantised):  # the network takes one patch at a time
            scores, pooled = session.run(None, {name: patch[None, None]})
            features[row] = pooled.reshape(-1)
            logits[row] = (scores.reshape(-1).astype(np.float32) - zero_out) * pace_out
        return features, logits

    @functools.cached_property
    def _folder(self) -> Path:
        return package_folder("sead", "sead", "media") / "data"

    @functools.cached_property
    def _network(self) -> tuple[Any, str, float, float, float, float]:
        """The session, its input's name, and scale and zero of input and output (the network is quantised to 8 bits)."""
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(self._folder / "YamNet_w8a8.onnx.zip") as packed:
            for member in packed.namelist():
                if member.endswith((".onnx", ".data")):
                    (Path(folder) / Path(member).name).write_bytes(packed.read(member))
            file = next(Path(folder).glob("*.onnx"))
            model = file.read_bytes()
            file.write_bytes(wire.with_output(model, POOLED))
            session = open_session(file)
        known = wire.constants(model)
        names = ("audio_scale", "audio_zero_point", "class_scores_scale", "class_scores_zero_point")
        if not all(name in known for name in names):
            raise DataError("sead's YAMNet file is not the one that is known; install sead 0.2.1")
        pace, zero, pace_out, zero_out = (float(known[name]) for name in names)
        return session, session.get_inputs()[0].name, pace, zero, pace_out, zero_out
