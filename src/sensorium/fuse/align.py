"""Alignment: modality with modality, so that words find pictures and sound; and content with the crowd, so that a cold
item lands where people would have put it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sensorium.arrays import Floats, Rows, digest, unit
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError, ShapeError
from sensorium.fuse.concat import Concat, ConcatModel, fingerprint
from sensorium.fuse.crowd import CrowdMap, crowd_map
from sensorium.fuse.fusion import Views
from sensorium.fuse.pairs import Blocks, Maps, agreement, closed_form, contrasted, families


class NotAligned(ShapeError, KeyError):
    """A modality that no item shares with another one has no place in the common space."""

    __str__ = Exception.__str__  # a KeyError would print its line in quotes


@dataclass(frozen=True)
class Align:
    """Settings of the alignment.

    `size` is the width of the space that all modalities share, `crowd_sizes` the widths tried for the crowd's (empty:
    content is not aligned with the crowd). `epochs` are the lengths of contrastive refinement that are tried on held-out
    pairs; 0, the closed form, is always among them. `content` is the whitened concatenation underneath.
    `pairs` bounds the items that the modalities are aligned on.
    """

    size: int = 256
    epochs: tuple[int, ...] = (5, 15)
    learning_rate: float = 0.02
    temperature: float = 0.1
    batch: int = 512
    pairs: int = 4000
    crowd_sizes: tuple[int, ...] = (16, 64, 128)
    crowd_ridges: tuple[float, ...] = (1.0, 3.0, 30.0)
    crowd_shares: tuple[float, ...] = (0.2, 0.4, 0.6)
    content: Concat = field(default_factory=Concat)

    def __post_init__(self) -> None:
        if self.size < 1 or self.batch < 16 or self.pairs < 16:
            raise RecipeError("fusion: size should be at least 1, batch and pairs at least 16")
        if not self.learning_rate > 0 or not self.temperature > 0:
            raise RecipeError("fusion: learning_rate and temperature should be above 0")

    def fit(
        self, views: Views, events: Events, *, rng: np.random.Generator, variants: Sequence[Views] = ()
    ) -> AlignModel:
        """`variants` are views of the same items disturbed, for the contrastive part to learn from as well.

        **Cost** about 15 s for 2,500 items of two modalities on two cores; the crowd's part grows with the events."""
        content = self.content.fit(views, events, rng=rng)
        blocks = {m: (part.values, part.present) for m, part in _whitened(content, views).items()}
        others = [
            {m: (part.values, part.present) for m, part in _whitened(content, variant).items()} for variant in variants
        ]
        maps, chosen = self._shared(blocks, rng, others)
        crowd = None
        if self.crowd_sizes and content.parts:
            crowd = crowd_map(
                content.fuse(views), events, sizes=self.crowd_sizes, ridges=self.crowd_ridges,
                shares=self.crowd_shares, rng=rng,
            )  # fmt: skip
        source = fingerprint(content.parts, sorted(content.weights.items()))
        source = digest(
            source, *(maps[m].tobytes() for m in sorted(maps)), b"" if crowd is None else crowd.map.tobytes()
        )
        return AlignModel(content, maps, crowd, chosen, "align:" + source)

    def _shared(self, blocks: Blocks, rng: np.random.Generator, variants: Sequence[Blocks]) -> tuple[Maps, int]:
        """The maps into the shared space and the epochs that won, chosen on families of items held out of this catalogue."""
        if not blocks:
            return {}, 0
        rows = np.flatnonzero(np.sum([present for _, present in blocks.values()], axis=0) > 1)
        if len(rows) > self.pairs:
            rows = np.sort(rng.choice(rows, self.pairs, replace=False))
        if len(rows) < 2:
            return {}, 0
        chosen = 0
        if len(rows) >= 100 and self.epochs:
            learnt, held = _parted(families(blocks, rows), rng)
            if len(held) >= 20 and len(learnt) >= 64:
                start = closed_form(blocks, learnt, self.size)
                scores = {0: agreement(blocks, held, start)}
                for epochs in sorted(set(self.epochs) - {0}):
                    scores[epochs] = agreement(blocks, held, self._refined(blocks, learnt, start, epochs, variants))
                chosen = max(scores, key=lambda epochs: (float(scores[epochs].mean()), -epochs))
        maps = closed_form(blocks, rows, self.size)
        return (self._refined(blocks, rows, maps, chosen, variants) if chosen else maps), chosen

    def _refined(self, blocks: Blocks, rows: Rows, start: Maps, epochs: int, variants: Sequence[Blocks]) -> Maps:
        return contrasted(
            blocks, rows, start, epochs=epochs, learning_rate=self.learning_rate, temperature=self.temperature,
            batch=self.batch, rng=np.random.default_rng(len(rows)), variants=variants,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class AlignModel:
    """The concatenation, the maps of every modality into the shared space, and the map into the crowd's.

    `epochs` of contrastive refinement were chosen; `crowd` is None where the crowd's space was not worth its columns.
    A fused vector is √(1 − share) × content beside √share × the place the crowd would give it: the cosine of two items
    is the weighted mean of both nearnesses.
    """

    content: ConcatModel
    maps: dict[str, Floats]
    crowd: CrowdMap | None
    epochs: int
    source: str

    @property
    def blocks(self) -> Mapping[str, slice]:
        """The concatenation's columns by modality where the crowd has none; the crowd's mix the modalities."""
        return self.content.blocks if self.crowd is None else {}

    def fuse(self, views: Views) -> Vectors:
        """**Shapes** views (I, D_m) → (I, D): for recommending, by content and crowd."""
        content = self.content.fuse(views)
        if self.crowd is None:
            return Vectors(content.values, content.present, self.source)
        share = np.float32(self.crowd.share)
        placed = np.concatenate(
            [np.sqrt(1 - share) * content.values, np.sqrt(share) * self.crowd.place(content)], axis=1
        )
        return Vectors(unit(placed), content.present, self.source)

    def project(self, modality: str, values: Vectors) -> Vectors:
        """**Shapes** (I, D_m) → (I, S) in the space the modalities share, unit rows: for searching across them.

        **Raises** NotAligned for a modality that was not aligned.
        """
        if modality not in self.maps:
            known = ", ".join(sorted(self.maps)) or "none"
            raise NotAligned(
                f"{modality} was not aligned (aligned: {known}); it needs items that also have another modality"
            )
        white = self.content.parts[modality].apply(values, modality)
        placed = unit(white.values @ self.maps[modality])
        return Vectors(placed, white.present, self.source)


def _whitened(content: ConcatModel, views: Views) -> dict[str, Vectors]:
    return {m: part.apply(views[m], m) for m, part in content.parts.items() if m in views}


def _parted(parts: Sequence[Rows], rng: np.random.Generator) -> tuple[Rows, Rows]:
    """(learnt, held out): about a fifth of the rows held out, in whole families; the largest are never held out."""
    total = sum(len(part) for part in parts)
    held: list[Rows] = []
    count = 0
    for place in rng.permutation(len(parts)):
        if count + len(parts[place]) <= total // 5:
            held.append(parts[place])
            count += len(parts[place])
    out = np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
    return np.setdiff1d(np.concatenate(parts), out), out
