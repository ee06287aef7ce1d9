"""Text by model folder or hub name: any sentence-transformer, any BERT-class model, the text half of CLIP, SigLIP or CLAP."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sensorium.arrays import Floats, threads, unit
from sensorium.data.content import TEXT, Content
from sensorium.encode.hub import OfFolder, folder_digest
from sensorium.encode.session import one_line
from sensorium.encode.streams import in_batches
from sensorium.encode.text import words
from sensorium.errors import DataError, MissingExtra

VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*vocab*.json")


@dataclass(frozen=True)
class HubTextEncoder(OfFolder):
    """Text → (D,) of unit length by a sentence-transformer, a BERT-class model (mean over tokens), or CLIP's text half."""

    folder: str
    tokens: int = 256
    batch: int = 32
    modality: ClassVar[str] = TEXT

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"hub-text/{self.tokens}/2:{folder_digest(self._folder)}"

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
        model = self._model
        tower = hasattr(model, "get_text_features")
        # SigLIP was trained on texts padded to its full length, without a mask.
        padded = tower and model.config.model_type.startswith("siglip")
        longest = min(self.tokens, _positions(model.config), self._tokenizer.model_max_length)
        fed = self._tokenizer(
            texts, padding="max_length" if padded else True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(model.device)
        with torch.inference_mode():
            if tower:
                mask = {} if padded else {"attention_mask": fed["attention_mask"]}
                return unit(self._features(model.get_text_features(input_ids=fed["input_ids"], **mask)))
            hidden = model(**fed).last_hidden_state
            weights = fed["attention_mask"][..., None].to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
            return unit(mean.float().cpu().numpy())

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        # Without a vocabulary, transformers makes a tokenizer to which every word is unknown.
        if not any(any(self._folder.glob(name)) for name in VOCABULARIES):
            raise DataError(f"{self._folder}: no vocabulary in it; put the model's tokenizer.json there")
        return self._read(AutoTokenizer)

    @functools.cached_property
    def _sentences(self) -> Any:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtra("sentence-transformers", "hub") from None
        options = {"use_safetensors": True, "dtype": torch.float32}
        torch.set_num_threads(threads())
        try:
            made = SentenceTransformer(
                str(self._folder), local_files_only=True, trust_remote_code=False, model_kwargs=options
            )
        except Exception as error:
            raise DataError(f"{self._folder}: sentence-transformers cannot read it: {one_line(error)}") from None
        made.max_seq_length = min(self.tokens, made.max_seq_length or self.tokens)
        return made


def _positions(config: Any) -> int:
    inner = getattr(config, "text_config", config)
    return int(getattr(inner, "max_position_embeddings", 512))
