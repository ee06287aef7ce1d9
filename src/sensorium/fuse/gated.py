"""Gated fusion: each item decides how much each of its modalities says; trained so that losing one hurts little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sensorium.arrays import Floats, Rows, digest, unit
from sensorium.data.events import Events, confidence
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError
from sensorium.fuse.concat import Concat, ConcatModel, fingerprint, row_count
from sensorium.fuse.fusion import Views
from sensorium.train.augment import drop_modalities


@dataclass(frozen=True)
class Gated:
    """Settings: width of the space, training, and `dropout`, the chance that a modality is hidden in training.

    Two losses are added up, both InfoNCE: an item seen through two different subsets of its modalities must find itself;
    and an item must find the one that the same person touched next (`together` weighs this one; it needs events).
    """

    size: int = 256
    epochs: int = 10
    learning_rate: float = 0.002
    temperature: float = 0.1
    dropout: float = 0.3
    together: float = 1.0
    batch: int = 512
    content: Concat = field(default_factory=Concat)

    def __post_init__(self) -> None:
        if self.size < 1 or self.epochs < 0 or self.batch < 2:
            raise RecipeError("fusion: size should be at least 1, epochs at least 0, batch at least 2")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"fusion: dropout {self.dropout} should lie in 0..1, 1 left out")

    def fit(self, views: Views, events: Events, *, rng: np.random.Generator) -> GatedModel:
        """**Cost** about 1 s an epoch for 10,000 items of two modalities."""
        row_count(views)
        content = self.content.fit(views, events, rng=rng)
        names = sorted(content.parts)
        weights: dict[str, Floats] = {}
        for m in names:
            weights[f"{m}.project"] = _directions(content.parts[m].size, self.size, rng) * np.float32(
                np.sqrt(content.weights[m])
            )
            weights[f"{m}.gate"] = np.zeros(self.size, np.float32)
            weights[f"{m}.bias"] = np.zeros(1, np.float32)
        if names and self.epochs:
            blocks = {m: content.parts[m].apply(views[m], m) for m in names}
            weights = self._trained(blocks, weights, _steps(events), rng)
        source = digest(fingerprint(content.parts), *(weights[name].tobytes() for name in sorted(weights)))
        return GatedModel(content, weights, self.size, "gated:" + source)

    def _trained(
        self, blocks: dict[str, Vectors], weights: dict[str, Floats], steps: tuple[Rows, Rows], rng: np.random.Generator
    ) -> dict[str, Floats]:
        import torch

        names = sorted(blocks)
        values = {m: torch.from_numpy(blocks[m].values) for m in names}
        present = torch.from_numpy(np.stack([blocks[m].present for m in names], axis=1))
        learnt = {name: torch.nn.Parameter(torch.from_numpy(value.copy())) for name, value in weights.items()}
        adam = torch.optim.Adam(list(learnt.values()), lr=self.learning_rate)
        rows = np.flatnonzero(present.any(1).numpy())
        some = present.any(1).numpy()
        kept = some[steps[0]] & some[steps[1]] & (steps[0] != steps[1]) if len(steps[0]) else np.zeros(0, bool)
        before, after = steps[0][kept], steps[1][kept]
        for _ in range(self.epochs):
            order = rng.permutation(rows)
            for begin in range(0, len(order), self.batch):
                part = order[begin : begin + self.batch]
                if len(part) < 2:
                    continue
                one, other = (self._seen(values, present, learnt, part, rng) for _ in range(2))
                loss = self._contrast(one, other, part, part)
                if len(before) > 1 and self.together > 0:
                    pick = rng.choice(len(before), min(self.batch, len(before)), replace=False)
                    left, right = before[pick], after[pick]
                    one, other = (self._seen(values, present, learnt, side, rng) for side in (left, right))
                    loss = loss + self.together * self._contrast(one, other, left, right)
                adam.zero_grad()
                loss.backward()
                adam.step()
        return {name: parameter.detach().numpy().astype(np.float32) for name, parameter in learnt.items()}

    def _seen(self, values: Any, present: Any, learnt: Any, rows: Rows, rng: np.random.Generator) -> Any:
        """Some items through a random subset of their modalities (B, S); at least one stays."""
        import torch

        names, has = sorted(values), present[torch.from_numpy(rows)]
        keep = torch.from_numpy(drop_modalities(has.numpy(), self.dropout, rng))
        index = torch.from_numpy(rows)
        projected = [values[m][index] @ learnt[f"{m}.project"] for m in names]
        gates = [
            (torch.tanh(p) @ learnt[f"{m}.gate"]) + learnt[f"{m}.bias"] for m, p in zip(names, projected, strict=True)
        ]
        share = torch.softmax(torch.stack(gates, 1).masked_fill(~keep, -torch.inf), 1)
        fused = sum(share[:, i : i + 1] * p for i, p in enumerate(projected))
        return torch.nn.functional.normalize(fused, dim=1)

    def _contrast(self, one: Any, other: Any, left: Rows, right: Rows) -> Any:
        """Symmetric InfoNCE; an item that is its neighbour's positive too, or the anchor itself, is no negative."""
        import torch

        scores = one @ other.T / self.temperature
        same = (right[:, None] == right[None, :]) | (left[:, None] == left[None, :]) | (left[:, None] == right[None, :])
        np.fill_diagonal(same, False)
        scores = scores.masked_fill(torch.from_numpy(same), -1e4)
        target = torch.arange(len(scores))
        loss = torch.nn.functional.cross_entropy
        return (loss(scores, target) + loss(scores.T, target)) / 2


@dataclass(frozen=True, eq=False)
class GatedModel:
    """Whitenings, and by modality a projection (K_m, S), a gate (S,) and its bias (1,), under `NAME.project` and so on."""

    content: ConcatModel
    weights: dict[str, Floats]
    size: int
    source: str

    @property
    def blocks(self) -> Mapping[str, slice]:
        """Empty: the modalities share all columns."""
        return {}

    def fuse(self, views: Views) -> Vectors:
        """**Shapes** views (I, D_m) → (I, S): Σ gate · projection over the modalities an item has, scaled to length one."""
        rows = row_count(views)
        projected, share = self._gated(views, rows)
        values = np.zeros((rows, self.size), np.float32)
        for place, block in enumerate(projected):
            values += share[:, place : place + 1] * block
        values = unit(values)
        return Vectors(values, np.einsum("ij,ij->i", values, values) > 0, self.source)

    def gates(self, views: Views) -> dict[str, Floats]:
        """How much each modality said: by modality (I,), summing to one over those an item has."""
        share = self._gated(views, row_count(views))[1]
        return {m: share[:, place] for place, m in enumerate(m for m in sorted(self.content.parts) if m in views)}

    def _gated(self, views: Views, rows: int) -> tuple[list[Floats], Floats]:
        names = [m for m in sorted(self.content.parts) if m in views]
        projected: list[Floats] = []
        logits = np.full((rows, len(names)), -np.inf, np.float32)
        for place, m in enumerate(names):
            block = self.content.parts[m].apply(views[m], m)
            projected.append(block.values @ self.weights[f"{m}.project"])
            gate = np.tanh(projected[-1]) @ self.weights[f"{m}.gate"] + self.weights[f"{m}.bias"]
            logits[block.present, place] = gate[block.present]
        top = logits.max(1, keepdims=True) if names else np.zeros((rows, 1), np.float32)
        share = np.exp(logits - np.where(np.isfinite(top), top, 0))
        return projected, share / np.maximum(share.sum(1, keepdims=True), 1e-12)


def _directions(rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """A random map that keeps cosines nearly: the start is the concatenation seen through a narrower window."""
    drawn = rng.standard_normal((max(rows, columns), min(rows, columns)))
    square, upper = np.linalg.qr(drawn)
    square = square * np.sign(np.diag(upper))
    kept = square if rows >= columns else square.T
    return np.ascontiguousarray(kept * np.sqrt(max(rows / columns, 1.0)), dtype=np.float32)


def _steps(events: Events) -> tuple[Rows, Rows]:
    """Items that follow each other in a person's history: (before, after), each (N,)."""
    liked = events.take(confidence(events, 0.0) > 0)
    order = np.argsort(liked.user, kind="stable")
    user, item = liked.user[order], liked.item[order].astype(np.int64)
    follows = user[1:] == user[:-1]
    return item[:-1][follows], item[1:][follows]
