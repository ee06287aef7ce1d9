"""The networks under the sequence model. This file imports torch at its top: import it only where work starts.

Letters: B histories, T events of the longest, S the size of every vector, H heads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorium.models.sequence.tokens import GAPS

if TYPE_CHECKING:
    from sensorium.models.sequence.sequence import Sequence


class Items(nn.Module):
    """An item's vector: what its content says, plus what its id has learnt.

    With the id left out the content must speak alone, as it will for an item nobody has met. Absent content is a
    learnt vector of its own, not a zero, which would look like an average item.
    """

    def __init__(self, count: int, content: int, size: int) -> None:
        super().__init__()
        self.id = nn.Embedding(count, size)
        self.content = nn.Linear(content, size, bias=False)
        self.missing = nn.Parameter(torch.zeros(size))
        nn.init.normal_(self.id.weight, std=0.05)
        nn.init.normal_(self.content.weight, std=0.5 / math.sqrt(content * size))

    def forward(self, rows: Tensor, content: Tensor, present: Tensor, keep: Tensor | None) -> Tensor:
        """**Shapes** rows (K,), content (K, C), present (K,), keep (K,) 0/1 or None → (K, S)."""
        own = self.id(rows)
        if keep is not None:
            own = own * keep[:, None]
        return own + torch.where(present[:, None], self.content(content), self.missing)


class Attention(nn.Module):
    """Causal self-attention whose scores know how far back an event lies, in steps and in time.

    **Source** Vaswani et al. 2017; the learnt bias by distance: Raffel et al. 2020, by time: Zhai et al. 2024 (HSTU).
    """

    def __init__(self, size: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.mixed = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.distance = nn.Parameter(torch.zeros(heads, length + 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, steps, size = x.shape
        query, key, value = self.mixed(x).view(batch, steps, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        place = torch.arange(steps)
        apart = place[:, None] - place[None, :]
        bias = self.distance[:, apart.clamp_min(0)].masked_fill(apart < 0, float("-inf"))  # (H, T, T)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
        seen = scores.softmax(dim=-1) @ value
        return self.out(seen.transpose(1, 2).reshape(batch, steps, size))


class Layer(nn.Module):
    """Attention and a SwiGLU, each behind a norm and a gate that lets the layer stay out of a vector's way.

    **Source** gates: LiGR, Borisyuk et al. 2025, as in eSASRec, Tikhonovich et al. 2025; SwiGLU: Shazeer 2020.
    """

    def __init__(self, size: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(size, heads, length)
        self.before, self.between = nn.LayerNorm(size), nn.LayerNorm(size)
        self.gates = nn.ModuleList([nn.Linear(size, size), nn.Linear(size, size)])
        self.wide = nn.Linear(size, 4 * size, bias=False)
        self.narrow = nn.Linear(2 * size, size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        normal = self.before(x)
        x = x + self.dropout(torch.sigmoid(self.gates[0](normal)) * self.attention(normal))
        normal = self.between(x)
        gate, value = self.wide(normal).chunk(2, dim=-1)
        return x + self.dropout(torch.sigmoid(self.gates[1](normal)) * self.narrow(functional.silu(gate) * value))


class Recurrent(nn.Module):
    """An LSTM over the history. **Source** Hochreiter & Schmidhuber 1997; for sessions: Hidasi et al. 2016."""

    def __init__(self, size: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.cells = nn.LSTM(size, 2 * size, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.out = nn.Linear(2 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x)[0])


class Histories(nn.Module):
    """From a person's events to a vector that points at what comes next, after every event.

    The first token stands for the person before any event; it carries the profile, and alone it answers for somebody
    of whom nothing is known.
    """

    def __init__(self, settings: Sequence, kinds: int, profile: int, review: int = 0) -> None:
        super().__init__()
        size = settings.size
        self.start = nn.Parameter(torch.zeros(size))
        self.profile = nn.Linear(profile, size, bias=False) if profile else None
        self.review = nn.Linear(review, size, bias=False) if review else None
        self.kind = nn.Embedding(kinds, size)
        self.gap = nn.Embedding(GAPS + 1, size)
        self.weight = nn.Parameter(torch.zeros(size))
        self.dropout = nn.Dropout(settings.dropout)
        if settings.encoder == "lstm":
            self.layers: nn.Module = Recurrent(size, settings.layers, settings.dropout)
        else:
            self.layers = nn.Sequential(
                *(Layer(size, settings.heads, settings.length, settings.dropout) for _ in range(settings.layers))
            )
        self.norm = nn.LayerNorm(size)
        for table in (self.kind, self.gap):
            nn.init.normal_(table.weight, std=0.02)
        if self.review is not None:
            nn.init.normal_(self.review.weight, std=0.2 / math.sqrt(review))

    def forward(
        self, items: Tensor, kind: Tensor, gap: Tensor, weight: Tensor, profile: Tensor | None = None,
        review: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """**Shapes** items (B, T, S); kind, gap, weight (B, T); profile (B, P); review (B, T, R) → (B, T + 1, S).

        Place 0 answers before the first event, place t after t events. Filled-up places must lie at the end.
        """
        first = self.start.expand(items.shape[0], 1, -1)  # not len: an export would write the number down
        if self.profile is not None and profile is not None:
            first = first + self.profile(profile)[:, None]
        # Table vectors have small entries; the scale brings them to the size of everything else in the stream.
        events = items * math.sqrt(items.shape[-1]) + self.kind(kind) + self.gap(gap) + weight[..., None] * self.weight
        if self.review is not None and review is not None:
            events = events + self.review(review)
        return self.norm(self.layers(self.dropout(torch.cat([first, events], dim=1))))
