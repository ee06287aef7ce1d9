"""How content learns to stand beside the crowd: ridge, then a softmax over hidden items. Imports torch at its top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from sensorium.arrays import Floats, Rows, leading, slices
from sensorium.data.events import Events, confidence
from sensorium.models.kin import Kin
from sensorium.models.linear import crowd_known
from sensorium.models.model import Features
from sensorium.train.loop import Descent
from sensorium.train.losses import info_nce
from sensorium.train.negatives import drawn

if TYPE_CHECKING:
    from sensorium.models.coldaligner import ColdAligner, ColdAlignerModel

HIDDEN = 0.3  # share of a person's items that a step asks for; at least one, and never all
PAIRS = 512  # items of a step whose two vectors are contrasted and matched


class Towers(nn.Module):
    """The maps from content and what the crowd adds to them, for items that are looked for and for those chosen."""

    def __init__(self, target: Floats, map_: Floats, mean: Floats, made: Floats) -> None:
        super().__init__()
        size = target.shape[1]
        self.content, self.said = _given(map_), _given(map_)
        self.centre, self.said_centre = _given(mean), _given(mean)
        self.crowd, self.heard = _given(target - made), _given(target - made)
        self.fame = _given(np.zeros(len(map_)))
        self.famous = _given(np.zeros(len(target)))
        self.person = _given(np.zeros(size))
        self.scale = _given(np.zeros(1))


def _given(values: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values, np.float32)))


class Training:
    """One run; `epoch()` takes it a pass further, `model()` is what it has learnt so far."""

    def __init__(self, settings: ColdAligner, events: Events, features: Features, rng: np.random.Generator) -> None:
        self.settings, self.rng = settings, rng
        liked = events.take(confidence(events, 0.0) > 0)
        self.rows, known = crowd_known(liked, liked.items)
        self.features, self.events = features, liked
        choices = liked.matrix()[:, self.rows]
        choices.data[:] = 1
        self.counts = np.asarray(choices.sum(0)).ravel().astype(np.float32)
        self.stretch = np.float32(max(features.items.size, 1) ** 0.25)
        target = crowd_space(choices, settings.size)
        lift = Kin(l2=settings.l2).lift(liked, features, known)
        values = features.items.values * self.stretch
        map_, mean = np.zeros((features.items.size, target.shape[1]), np.float32), np.zeros(target.shape[1], np.float32)
        if len(lift.map):
            map_ = np.asarray(lift.map @ target / self.stretch, np.float32)
            mean = np.asarray(lift.mean @ target, np.float32)
        elif len(target):
            mean = np.asarray(target.mean(0), np.float32)
        self.values = torch.from_numpy(values[self.rows])
        self.everything = torch.from_numpy(values)
        made = np.asarray(values[self.rows] @ map_ + mean, np.float32)
        self.apart = matching(target, made, mean, leverage(features, self.rows, self.counts, settings.l2))
        map_ = (map_ * np.float32(self.apart)).astype(np.float32)  # refinement begins where both clouds have one spread
        begin = np.asarray(values[self.rows] @ map_ + mean, np.float32)
        self.towers = Towers(target, map_, mean, begin)
        share = self.counts / max(float(self.counts.sum()), 1)
        many = np.flatnonzero(np.diff(choices.indptr) >= 2)
        self.choices = choices[many]
        self.chance = share.astype(np.float32)
        steps = max(1, -(-len(many) // settings.batch))
        self.descent = Descent(
            self.towers, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay,
            warmup=min(50, 2 * steps), average=min(max(1 - 1 / steps, 0.9), 0.99),
        )  # fmt: skip
        self.epochs = min(settings.epochs, max(1, int(settings.work / self._work()))) if settings.epochs else 0

    def _work(self) -> float:
        """10¹² multiply-adds of one epoch with gradients."""
        s, (people, items) = self.settings, self.choices.shape
        size, width = self.towers.person.numel(), self.values.shape[1]
        wide = items if items <= s.exact else s.negatives
        steps = max(1, people / s.batch)
        touched = min(items, wide + 20 * s.batch)
        return max(3e-12 * (people * wide * size + steps * touched * width * size * 2), 1e-12)

    def epoch(self) -> None:
        """One pass over all people with two items or more, of whose items some are hidden."""
        if not self.choices.shape[0] or len(self.rows) < 2:
            return
        order = self.rng.permutation(self.choices.shape[0])
        for part in slices(len(order), self.settings.batch):
            self.descent.step(self._loss(self.choices[np.sort(order[part])]))

    def _loss(self, choices: sparse.csr_array) -> Tensor:
        s, t = self.settings, self.towers
        row, item, hidden = self._hidden(choices)
        seen, asked = np.flatnonzero(~hidden), np.flatnonzero(hidden)
        if len(self.rows) <= s.exact:
            candidates, log_chance = np.arange(len(self.rows)), None
        else:
            negatives = drawn(item[asked], np.arange(len(self.rows)), self.chance, s.negatives, self.rng)
            candidates, log_chance = negatives.rows, torch.from_numpy(negatives.log_chance)
        heard = np.unique(item[seen])
        place = torch.from_numpy(np.searchsorted(heard, item[seen]))
        own = self._own(len(heard))
        says = self.values[heard] @ t.said + t.said_centre + own * t.heard[heard]
        lengths = np.sqrt(np.bincount(row[seen], minlength=choices.shape[0]))
        weight = torch.from_numpy((1 / lengths[row[seen]]).astype(np.float32))
        start = torch.zeros((choices.shape[0], says.shape[1]))
        people = (
            t.person + start.index_add(0, torch.from_numpy(row[seen]), says[place] * weight[:, None])
        ) * t.scale.exp()
        rows = np.union1d(candidates, item[asked])
        own = self._own(len(rows))
        table = self.values[rows] @ t.content + t.centre + own * t.crowd[rows]
        fame = self.values[rows] @ t.fame + own[:, 0] * t.famous[rows]
        scores = people @ table.T + fame
        right = scores[torch.from_numpy(row[asked]), torch.from_numpy(np.searchsorted(rows, item[asked]))]
        column = np.searchsorted(rows, candidates)
        rivals = scores[:, torch.from_numpy(column)]
        if log_chance is not None:
            rivals = rivals - log_chance
        # What a person has is no rival, and neither is another of their hidden items.
        mine = np.searchsorted(candidates, item)
        inside = (mine < len(candidates)) & (candidates[np.minimum(mine, len(candidates) - 1)] == item)
        rivals = rivals.index_put(
            (torch.from_numpy(row[inside]), torch.from_numpy(mine[inside])), torch.tensor(float("-inf"))
        )
        whole = torch.logaddexp(rivals.logsumexp(1)[torch.from_numpy(row[asked])], right)
        one = 1 / np.sqrt(np.bincount(row[asked], minlength=choices.shape[0]))[row[asked]]
        share = torch.from_numpy((one / one.sum()).astype(np.float32))
        return ((whole - right) * share).sum() + self._together()

    def _hidden(self, choices: sparse.csr_array) -> tuple[Rows, Rows, np.ndarray]:
        """The choices of some people as (row, item), and which are asked for: one at least, and never all."""
        row = np.repeat(np.arange(choices.shape[0]), np.diff(choices.indptr))
        chance = self.rng.random(len(row))
        order = np.lexsort((chance, row))
        hidden = chance < HIDDEN
        hidden[order[choices.indptr[:-1]]] = True
        hidden[order[choices.indptr[1:] - 1]] = False
        return row.astype(np.int64), choices.indices.astype(np.int64), hidden

    def _own(self, count: int) -> Tensor:
        """1 where an item is met as the crowd knows it, 0 where by content alone. **Shapes** (count, 1)."""
        keep = self.rng.random(count) >= self.settings.cold
        return torch.from_numpy(keep.astype(np.float32))[:, None]

    def _together(self) -> Tensor:
        """The two vectors of an item recognise each other, and the two clouds have one centre and one spread."""
        s, t = self.settings, self.towers
        if not (s.contrast or s.moments) or len(self.rows) < 8:
            return torch.zeros(())
        rows = np.sort(self.rng.choice(len(self.rows), min(PAIRS, len(self.rows)), replace=False))
        made = self.values[rows] @ t.content + t.centre
        real = made + t.crowd[rows]
        loss = torch.zeros(())
        if s.contrast:
            loss = loss + s.contrast * info_nce(
                functional.normalize(made, dim=1), functional.normalize(real, dim=1), 1 / s.temperature
            )
        if s.moments:
            real = real.detach()
            unit = real.var(0).sum().clamp_min(1e-6)
            apart = ((made.mean(0) - real.mean(0)) ** 2).sum() / unit
            spread = ((made.T.cov() - real.T.cov()) ** 2).sum() / (real.T.cov() ** 2).sum().clamp_min(1e-6)
            loss = loss + s.moments * (apart + spread)
        return loss

    def model(self) -> ColdAlignerModel:
        """The averaged weights as a model, with what content says stretched as far as `match` wants."""
        from sensorium.models.coldaligner import ColdAlignerModel

        t, s = self.towers, self.settings
        with self.descent.averaged(), torch.inference_mode():
            content = torch.cat([t.content, t.fame[:, None]], dim=1) * float(self.stretch)
            centre = torch.cat([t.centre, torch.zeros(1)])
            placed = torch.from_numpy(self.features.items.values) @ content + centre
            said = t.said * float(self.stretch)
            spoken = torch.from_numpy(self.features.items.values) @ said + t.said_centre
            crowd = torch.cat([t.crowd, t.famous[:, None]], dim=1)
            model = ColdAlignerModel(
                content=_array(content), centre=_array(centre), said=_array(said), said_centre=_array(t.said_centre),
                placed=_array(placed), spoken=_array(spoken), crowd=_array(crowd), heard=_array(t.heard),
                rows=self.rows, counts=self.counts, person=_array(t.person), scale=float(t.scale.exp()),
                warmth=s.warmth, decay=s.decay, apart=self.apart,
            )  # fmt: skip
        return model.stretched(self.apart ** (s.match - 1))


def _array(values: Tensor) -> Floats:
    return np.asarray(values.detach().numpy(), np.float32).copy()


def leverage(features: Features, rows: Rows, counts: Floats, l2: float) -> Floats:
    """How much of its own target each item's regression has seen, 0 to 1. **Shapes** (K,). **Cost** K · D²."""
    given = features.items.values[rows]
    weight = counts / (counts + 1) * features.items.present[rows]
    gram = given.T @ (weight[:, None] * given)
    gram[np.diag_indices(len(gram))] += np.float32(l2)
    return np.asarray(np.einsum("ij,ij->i", given, np.linalg.solve(gram, given.T).T) * weight, np.float32)


def matching(target: Floats, made: Floats, mean: Floats, seen: Floats) -> float:
    """How many times further from the mean the crowd's vectors stand than those that content foretells.

    An item's own target is taken out of its foretelling (leave-one-out, in closed form): so it is as short as a cold item's.
    """
    if not len(target):
        return 1.0
    share = np.minimum(seen, 0.99)[:, None]
    honest = (made - share * target) / (1 - share)
    real, foretold = float(np.mean((target - mean) ** 2)), float(np.mean((honest - mean) ** 2))
    return float(np.sqrt(real / foretold)) if foretold > 1e-9 * max(real, 1e-30) and real > 0 else 1.0


def crowd_space(choices: sparse.csr_array, size: int) -> Floats:
    """Items by who chose them: the strongest directions of the choices, both sides divided by √degree (for items ^¼ and 1 gave less).

    **Shapes** (U, K) → (K, R), R at most `size`; each row's length is what it has in common with the others, and the mean
    square of an entry is 1 ÷ √R, so that dot products are of the size of a softmax's scores.
    """
    size = min(size, min(choices.shape) - 2)
    if size < 1:
        return np.zeros((choices.shape[1], 1), np.float32)
    people = np.maximum(np.asarray(choices.sum(1)).ravel(), 1) ** -0.5
    items = np.maximum(np.asarray(choices.sum(0)).ravel(), 1) ** -0.5
    scaled = sparse.csr_array(choices.multiply(people[:, None]).multiply(items[None, :])).astype(np.float32)
    axes = leading(scaled, size)
    placed = axes * np.sqrt(np.linalg.norm(scaled @ axes, axis=0))
    size = placed.shape[1]
    return (placed * (size**-0.25 / max(np.sqrt(np.mean(placed**2)), 1e-12))).astype(np.float32)
