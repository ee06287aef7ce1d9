"""Any encoder by model folder or hub name: ViT/CLIP/SigLIP-class pictures, CLAP/AST-class sound; text is in `hubtext.py`.

Weights are read from safetensors only and no code of a model is run (`trust_remote_code` stays off), so a folder from a
stranger can at worst give bad vectors.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sensorium.arrays import Floats, digest, threads
from sensorium.data.content import AUDIO, IMAGE, Content
from sensorium.encode.audio import sounds
from sensorium.encode.image import Pixels, pictures, prepared
from sensorium.encode.media import RATE, Limits
from sensorium.encode.pool import decoders
from sensorium.encode.session import one_line, weights_digest
from sensorium.encode.streams import encoded_contents, encoded_files
from sensorium.errors import DataError, MediaError, MissingExtra

FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


@functools.lru_cache(maxsize=64)
def model_folder(name: str) -> Path:
    """The folder of a model: `name` itself, or where the hub's files of that name are kept.

    **Raises** DataError where it is neither, or holds no safetensors.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        try:
            from huggingface_hub import snapshot_download
        except ImportError:
            raise MissingExtra("huggingface_hub", "hub") from None
        try:
            folder = Path(snapshot_download(name, allow_patterns=[*FILES, "*/*.safetensors", "*/*.json"]))
        except Exception as error:
            reason = f"{type(error).__name__}"
            raise DataError(f"hub:{name}: no such folder, and the hub does not give it ({reason})") from None
    _refuse_code(folder)
    return folder


def _refuse_code(folder: Path) -> None:
    """**Raises** DataError where weights are pickled, or a sentence-transformer asks for classes of somebody else."""
    parts = [folder]
    if (folder / "modules.json").exists():
        try:
            listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
            types, paths = [str(one["type"]) for one in listed], [str(one["path"]) for one in listed]
        except (ValueError, TypeError, KeyError):
            raise DataError(f"{folder}/modules.json is no list of a sentence-transformer's modules") from None
        foreign = [name for name in types if not name.startswith("sentence_transformers.")]
        if foreign:
            raise DataError(f"{folder}/modules.json: {foreign[0]} is no class of sentence-transformers; it is not run")
        parts += [folder / path for path in paths if path]
    for part in parts:
        pickled = any(next(part.glob(pattern), None) for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt"))
        if pickled and not any(part.glob("*.safetensors")):
            raise DataError(f"{part}: no *.safetensors in it; convert the weights, pickled ones are not read")
    if not any(folder.rglob("*.safetensors")):
        raise DataError(f"{folder}: no *.safetensors in it; is it the folder of a model?")


def folder_digest(folder: Path) -> str:
    """A digest of all of a model's files."""
    files = sorted({path for pattern in FILES for path in folder.rglob(pattern)})
    return digest(*(part for path in files for part in (str(path.relative_to(folder)), weights_digest(path))))[:16]


class OfFolder:
    """What encoders of a folder have in common: where the model lies, and its network, loaded when it is first used."""

    folder: str

    @functools.cached_property
    def _folder(self) -> Path:
        return model_folder(self.folder)

    @functools.cached_property
    def _model(self) -> Any:
        """The network in evaluation mode, on the device that is there. **Raises** DataError where weights are missing."""
        try:
            import torch
            from transformers import AutoModel
            from transformers.utils import logging
        except ImportError:
            raise MissingExtra("transformers", "hub") from None
        logging.disable_progress_bar()
        logging.set_verbosity_error()  # what of it matters is checked below
        torch.set_num_threads(threads())
        options = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
        model, found = self._read(AutoModel, **options)
        # What a checkpoint lacks, transformers makes up at random. Many lack the pooler alone, which is not used then.
        whole = hasattr(model, "get_text_features")
        lacking = sorted(name for name in found["missing_keys"] if whole or "pooler" not in name)
        if lacking:
            raise DataError(f"{self._folder}: its weights lack {lacking[0]}; are they those of its config.json?")
        model.pooler_is_known = not found["missing_keys"]
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def _read(self, kind: Any, **options: Any) -> Any:
        """A part of the model by a class of transformers. **Raises** DataError with what that says, in one line."""
        try:
            return kind.from_pretrained(str(self._folder), local_files_only=True, trust_remote_code=False, **options)
        except Exception as error:  # of a stranger's folder, anything may be wrong
            raise DataError(f"{self._folder}: {kind.__name__} cannot read it: {one_line(error)}") from None

    def _features(self, output: Any) -> Floats:
        """One vector a content of whatever a model returns: (B, D)."""
        if getattr(output, "pooler_output", None) is not None and self._model.pooler_is_known:
            output = output.pooler_output
        elif hasattr(output, "last_hidden_state"):
            output = output.last_hidden_state[:, 0]
        return output.flatten(1).float().cpu().numpy()


@dataclass(frozen=True)
class HubImageEncoder(OfFolder):
    """A picture → (D,) by a ViT-, CLIP- or SigLIP-class model (or any that transformers pools): squeezed to its square."""

    folder: str
    batch: int = 16
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = IMAGE
    workers: ClassVar[int] = 1  # the network uses all cores by itself

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"hub-image/2:{folder_digest(self._folder)}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros((self.square, self.square, 3), np.uint8)]).shape[1])

    @property
    def together(self) -> int:
        """Pictures in a batch: rounding may differ with the neighbours."""
        return self.batch

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        decoded = pictures(contents, self.square, decoders(self.limits))
        return encoded_files(decoded, self.features, self.batch, self.workers)

    def features(self, pixels: Sequence[Pixels]) -> Floats:
        """Decoded pictures → (B, D)."""
        import torch

        model = self._model
        mean, spread = self._scale
        fed = torch.from_numpy((prepared(pixels, 0.0, 255.0) - mean) / spread).to(model.device)
        with torch.inference_mode():
            if hasattr(model, "get_image_features"):
                return self._features(model.get_image_features(pixel_values=fed))
            made = model(pixel_values=fed)
            # A ViT's first token is used, since most of their files lack the pooler: the same for all of them.
            return self._features(made.last_hidden_state[:, 0] if model.config.model_type == "vit" else made)

    @functools.cached_property
    def square(self) -> int:
        """Side of the picture that the network takes, in pixels."""
        config = self._model.config
        side = getattr(getattr(config, "vision_config", config), "image_size", 224)
        return int(side if isinstance(side, int) else side[0])

    @functools.cached_property
    def _scale(self) -> tuple[Floats, Floats]:
        known = _preprocessing(self._folder)
        mean, spread = (np.asarray(known.get(key, [0.5] * 3), np.float32) for key in ("image_mean", "image_std"))
        if mean.shape != (3,) or spread.shape != (3,) or not (spread > 0).all():
            raise DataError(f"{self._folder}: image_mean and image_std should be three numbers each, std above 0")
        return mean.reshape(1, 3, 1, 1), spread.reshape(1, 3, 1, 1)


def _preprocessing(folder: Path) -> Mapping[str, Any]:
    """What a folder says of how its pictures are prepared; in a processor's file, under `image_processor`."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).exists():
            try:
                known = json.loads((folder / name).read_text(encoding="utf-8"))
                return dict(known.get("image_processor", known))
            except (ValueError, TypeError, AttributeError):
                raise DataError(f"{folder / name} is no JSON object") from None
    return {}


@dataclass(frozen=True)
class HubAudioEncoder(OfFolder):
    """A sound → (D,) by a CLAP- or AST-class model: the mean over consecutive pieces as long as the model listens."""

    folder: str
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = AUDIO
    workers: ClassVar[int] = 1

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"hub-audio/{self.limits.sound_seconds:g} s/2:{folder_digest(self._folder)}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros(self.rate, np.float32)]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        return encoded_files(sounds(contents, decoders(self.limits), self.rate), self.features, 1, self.workers)

    def features(self, samples: Sequence[Floats]) -> Floats:
        """Decoded sounds → (B, D)."""
        return np.stack([self._heard(sound).mean(0) for sound in samples])

    def _heard(self, sound: Floats) -> Floats:
        """(pieces, D)."""
        import torch

        # Cut here and fed one by one, since CLAP's own extractor cuts a long sound at a random place, and marks a random
        # one of several as long.
        length = self._piece
        pieces = [sound[at : at + length] for at in range(0, max(len(sound), 1), length)]
        if len(pieces) > 1 and len(pieces[-1]) < length // 2:
            pieces.pop()
        model = self._model
        network = getattr(model, "get_audio_features", model)
        rows = []
        for piece in pieces:
            fed = self._extractor(piece, sampling_rate=self.rate, return_tensors="pt").to(model.device)
            with torch.inference_mode():
                rows.append(self._features(network(**fed)))
        return np.concatenate(rows)

    @functools.cached_property
    def rate(self) -> int:
        """Samples a second that the network takes."""
        return int(getattr(self._extractor, "sampling_rate", RATE))

    @functools.cached_property
    def _piece(self) -> int:
        """Samples that the model listens to at once."""
        seconds = getattr(self._extractor, "max_length_s", None)
        frames = getattr(self._extractor, "max_length", None)
        return int(self.rate * (float(seconds) if seconds else frames / 100 if frames else 10.0))

    @functools.cached_property
    def _extractor(self) -> Any:
        from transformers import AutoFeatureExtractor

        return self._read(AutoFeatureExtractor)
