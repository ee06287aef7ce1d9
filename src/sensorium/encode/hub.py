"""Any encoder by model folder or hub name: BERT-class text, ViT/CLIP/SigLIP-class pictures, CLAP/AST-class sound.

Weights are read from safetensors only and no code of a model is run (`trust_remote_code` stays off), so a folder from a
stranger can at worst give bad vectors.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sensorium.arrays import Floats, digest, threads, unit
from sensorium.data.content import AUDIO, IMAGE, TEXT, Content
from sensorium.encode.audio import sounds
from sensorium.encode.image import Pixels, pictures, prepared
from sensorium.encode.media import RATE, Limits
from sensorium.encode.pool import decoders
from sensorium.encode.session import weights_digest
from sensorium.encode.streams import encoded_contents, encoded_files, in_batches
from sensorium.encode.text import words
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
    if not any(folder.rglob("*.safetensors")):
        raise DataError(f"{folder}: no *.safetensors in it; convert the weights, pickled ones are not read")
    return folder


def folder_digest(folder: Path) -> str:
    """A digest of all of a model's files."""
    files = sorted({path for pattern in FILES for path in folder.rglob(pattern)})
    return digest(*(part for path in files for part in (str(path.relative_to(folder)), weights_digest(path))))[:16]


def _loaded(folder: Path) -> tuple[Any, str]:
    """The model in evaluation mode on the device that is there, and the device's name."""
    try:
        import torch
        from transformers import AutoModel
    except ImportError:
        raise MissingExtra("transformers", "hub") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads())
    try:
        model = AutoModel.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{folder}: transformers cannot load it: {str(error).splitlines()[0][:160]}") from None
    return model.to(device).eval(), device


def _features(output: Any) -> Any:
    """One vector a content of whatever a model returns: (B, D)."""
    if hasattr(output, "pooler_output") and output.pooler_output is not None:
        output = output.pooler_output
    elif hasattr(output, "last_hidden_state"):
        output = output.last_hidden_state[:, 0]
    return output.flatten(1)


@dataclass(frozen=True)
class HubTextEncoder:
    """Text → (D,) of unit length by a sentence-transformer, a BERT-class model (mean over tokens), or CLIP's text half."""

    folder: str
    tokens: int = 256
    batch: int = 32
    modality: ClassVar[str] = TEXT

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"hub-text/{self.tokens}/1:{folder_digest(self._folder)}"

    @functools.cached_property
    def size(self) -> int:
        return int(self._vectors(["a"]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        texts = [words(content) for content in contents]
        out = np.zeros((len(texts), self.size), np.float32)
        # Batches by length: padding is work for nothing.
        for rows in in_batches(sorted(range(len(texts)), key=lambda row: len(texts[row])), self.batch):
            out[rows] = self._vectors([texts[row] for row in rows])
        return out

    def _vectors(self, texts: list[str]) -> Floats:
        import torch

        if (self._folder / "modules.json").exists():
            made = self._sentences.encode(texts, batch_size=self.batch, show_progress_bar=False)
            return unit(np.asarray(made, np.float32))
        model, device = self._model
        tower = hasattr(model, "get_text_features")
        # CLIP's text half was trained on texts padded to its full length where it has no mask (SigLIP).
        longest = min(self.tokens, _positions(model.config))
        padding: Any = "max_length" if tower and "siglip" in model.config.model_type else True
        fed = self._tokenizer(texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        fed = {name: values.to(device) for name, values in fed.items()}
        with torch.inference_mode():
            if tower:
                fed = {name: values for name, values in fed.items() if name in ("input_ids", "attention_mask")}
                return unit(_features(model.get_text_features(**fed)).float().cpu().numpy())
            hidden = model(**fed).last_hidden_state
            mask = fed["attention_mask"][..., None].to(hidden.dtype)
            return unit(((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).float().cpu().numpy())

    @functools.cached_property
    def _folder(self) -> Path:
        return model_folder(self.folder)

    @functools.cached_property
    def _model(self) -> tuple[Any, str]:
        return _loaded(self._folder)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self._folder), local_files_only=True, trust_remote_code=False)

    @functools.cached_property
    def _sentences(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtra("sentence-transformers", "hub") from None
        made = SentenceTransformer(
            str(self._folder),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        made.max_seq_length = min(self.tokens, made.max_seq_length or self.tokens)
        return made


def _positions(config: Any) -> int:
    inner = getattr(config, "text_config", config)
    return int(getattr(inner, "max_position_embeddings", 512))


@dataclass(frozen=True)
class HubImageEncoder:
    """A picture → (D,) by a ViT-, CLIP- or SigLIP-class model (or any that transformers pools): squeezed to its square."""

    folder: str
    batch: int = 16
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = IMAGE

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"hub-image/1:{folder_digest(self._folder)}"

    @functools.cached_property
    def size(self) -> int:
        side = self._side
        return int(self.features([np.zeros((side, side, 3), np.uint8)]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        decoded = pictures(contents, self._side, decoders(self.limits))
        return encoded_files(decoded, self.features, self.batch, workers=1)

    def features(self, pixels: Sequence[Pixels]) -> Floats:
        """Decoded pictures → (B, D)."""
        import torch

        model, device = self._model
        mean, spread = self._scale
        fed = torch.from_numpy((prepared(pixels, 0.0, 255.0) - mean) / spread).to(device)
        with torch.inference_mode():
            if hasattr(model, "get_image_features"):
                out = _features(model.get_image_features(pixel_values=fed))
            elif model.config.model_type == "vit":
                out = model(pixel_values=fed).last_hidden_state[:, 0]  # its pooler is often not in the checkpoint
            else:
                out = _features(model(pixel_values=fed))
        return out.float().cpu().numpy()

    @functools.cached_property
    def _scale(self) -> tuple[Floats, Floats]:
        file = self._folder / "preprocessor_config.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        known = known.get("image_processor", known)
        mean = np.asarray(known.get("image_mean", [0.5] * 3), np.float32)
        spread = np.asarray(known.get("image_std", [0.5] * 3), np.float32)
        return mean.reshape(1, 3, 1, 1), spread.reshape(1, 3, 1, 1)

    @functools.cached_property
    def _side(self) -> int:
        config = self._model[0].config
        side = getattr(getattr(config, "vision_config", config), "image_size", 224)
        return int(side if isinstance(side, int) else side[0])

    @functools.cached_property
    def _folder(self) -> Path:
        return model_folder(self.folder)

    @functools.cached_property
    def _model(self) -> tuple[Any, str]:
        return _loaded(self._folder)


@dataclass(frozen=True)
class HubAudioEncoder:
    """A sound → (D,) by a CLAP- or AST-class model: the mean over consecutive pieces as long as the model listens."""

    folder: str
    limits: Limits = field(default_factory=Limits)
    modality: ClassVar[str] = AUDIO

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"hub-audio/{self.limits.sound_seconds:g} s/1:{folder_digest(self._folder)}"

    @functools.cached_property
    def size(self) -> int:
        return int(self.features([np.zeros(self._rate, np.float32)]).shape[1])

    def encode(self, contents: Sequence[Content]) -> Floats:
        return encoded_contents(self, contents, self.size)

    def stream(self, contents: Sequence[Content]) -> Iterator[Floats | MediaError]:
        """The vector of each content, in order."""
        decoded = sounds(contents, decoders(self.limits), self._rate)
        return encoded_files(decoded, self.features, 1, workers=1)

    def features(self, samples: Sequence[Floats]) -> Floats:
        """Decoded sounds → (B, D)."""
        import torch

        model, device = self._model
        rows = []
        for sound in samples:
            # Cut here, since CLAP's own extractor cuts a long sound at a random place.
            length = self._piece
            pieces = [sound[at : at + length] for at in range(0, max(len(sound), 1), length)]
            if len(pieces) > 1 and len(pieces[-1]) < length // 2:
                pieces.pop()
            fed = self._extractor(pieces, sampling_rate=self._rate, return_tensors="pt")
            fed = {name: values.to(device) for name, values in fed.items()}
            with torch.inference_mode():
                heard = model.get_audio_features(**fed) if hasattr(model, "get_audio_features") else model(**fed)
                rows.append(_features(heard).float().mean(0).cpu().numpy())
        return np.stack(rows)

    @functools.cached_property
    def _rate(self) -> int:
        return int(getattr(self._extractor, "sampling_rate", RATE))

    @functools.cached_property
    def _piece(self) -> int:
        """Samples that the model listens to at once."""
        seconds = getattr(self._extractor, "max_length_s", None)
        frames = getattr(self._extractor, "max_length", None)
        return int(self._rate * (float(seconds) if seconds else frames / 100 if frames else 10.0))

    @functools.cached_property
    def _extractor(self) -> Any:
        from transformers import AutoFeatureExtractor

        return AutoFeatureExtractor.from_pretrained(str(self._folder), local_files_only=True, trust_remote_code=False)

    @functools.cached_property
    def _folder(self) -> Path:
        return model_folder(self.folder)

    @functools.cached_property
    def _model(self) -> tuple[Any, str]:
        return _loaded(self._folder)
