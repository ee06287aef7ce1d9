"""New and known items in one list: content is mapped to where the crowd would have put it, with the crowd's own spread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from sensorium.arrays import Floats, Rows
from sensorium.data.content import TOKENS
from sensorium.data.events import Events, Fold, Histories
from sensorium.errors import ShapeError
from sensorium.models.choose import PEOPLE
from sensorium.models.model import Features, Model
from sensorium.models.taught import Taught, TaughtModel
from sensorium.settings import INF, within
from sensorium.train.loop import best_epoch, reproducible
from sensorium.train.ranking import rank_targets

WARMTHS = (0.0, 1.0, 4.0, 16.0)  # that validation tries
FORETOLD = 0.15  # what the aligner foretells of an item counts so much beside what words have learnt
MATCHES = tuple(step / 20 for step in range(21))
SPREADS = tuple(
    step / 10 for step in range(1, 41)
)  # the same where words are learnt; with 0 new items would have no order


@dataclass(frozen=True)
class ColdAligner:
    """An item with n events is n/(n + warmth) what the crowd made of it, and for the rest what its content says.

    The crowd's space is a truncated singular value decomposition of who chose what (`size`); content enters it by ridge
    regression (`l2`), in closed form. Both are then refined together: for people some of whose items are hidden, a softmax
    over all items must name them, and in every step a share `cold` of the items is seen by content alone, as if nobody
    had met them. So content learns to stand beside the crowd's vectors, and a cold item competes with warm ones on one
    scale. `contrast` weighs an InfoNCE between the two vectors of an item, `moments` the distance between the means and
    covariances of the two clouds of vectors.

    A regression foretells vectors shorter than the crowd's, so that in one list cold items would never be seen.
    `match` says how far their spread is brought to the crowd's: 0 not at all, 1 wholly (in the exponent). Validation
    takes the largest under which the targets that people knew before lose at most the share `concession` of their NDCG@10
    when cold items join the list.

    Where the texts stand as tokens too (`[encode] tokens = "hashed"`), items that nobody has met are ranked by what `taught`
    has learnt from people about words, and stand among the others `match` times as far apart as those do; validation may
    refuse it. This is no dot product, so such a model is asked in full.

    With more than `exact` items the softmax has `negatives` samples and the logQ correction. Training is bounded by
    `work`, in 10¹² multiply-adds, not by a clock, so that the same data give the same model on a slow machine.

    **Cost** epochs · U · min(I, negatives) · size · 3 multiply-adds.
    **Source** Y. Wei et al., "Contrastive learning for cold-start recommendation" (2021); content in the place of the id
    by chance: M. Volkovs et al., "DropoutNet" (2017); matching of moments: B. Sun, K. Saenko, "Deep CORAL" (2016).
    """

    size: int = 256
    l2: float = 3.0
    warmth: float = 0.0
    decay: float = 1.0
    epochs: int = 20
    cold: float = 0.5
    contrast: float = 0.1
    moments: float = 0.1
    match: float = 0.4
    concession: float = 0.01
    learning_rate: float = 0.0003
    weight_decay: float = 0.01
    temperature: float = 0.1
    batch: int = 128
    exact: int = 5_000
    negatives: int = 2_048
    work: float = 4.0
    taught: Taught = field(default_factory=Taught)

    def __post_init__(self) -> None:
        within(
            self, size=(1, 4096), l2=(1e-6, INF), warmth=(0, INF), decay=(0, 1), epochs=(0, INF), cold=(0, 1),
            contrast=(0, INF), moments=(0, INF), match=(0, 4), concession=(0, 1), temperature=(1e-3, INF), batch=(1, INF), exact=(0, INF), negatives=(2, INF),
            learning_rate=(0, INF), weight_decay=(0, INF), work=(0, INF),
        )  # fmt: skip

    def fit(
        self, events: Events, features: Features, *, rng: np.random.Generator
    ) -> ColdAlignerModel | TaughtAlignerModel:
        """Ridge, then `epochs` of refinement or what `work` allows. With 0 epochs it is the closed form alone."""
        if not self._reads(features):
            return self._aligned(events, features, rng)
        aligner = replace(self, match=0.0)._aligned(events, features, rng)
        return TaughtAlignerModel(aligner, self.taught.fit(events, features, rng=rng), self.match)

    def _reads(self, features: Features) -> bool:
        """Whether words are learnt: there are tokens, and epochs to learn them in."""
        return self.taught.epochs > 0 and TOKENS in features.views and bool(features.views[TOKENS].present.any())

    def _aligned(self, events: Events, features: Features, rng: np.random.Generator) -> ColdAlignerModel:
        from sensorium.models.coldaligner_training import Training

        with reproducible(rng):
            training = Training(self, events, features, rng)
            for _ in range(training.epochs):
                training.epoch()
            return training.model()

    def tuned(
        self, fold: Fold, features: Features, *, rng: np.random.Generator, patience: int = 3
    ) -> ColdAligner:  # fmt: skip
        """The settings with the best NDCG@10 on validation: the size in closed form; epochs, decay and warmth from one run of
        training; and `match` by what it costs.

        See `best_epoch` for when training is looked at and when it ends; no epoch at all is one of the answers.
        """
        from sensorium.models.coldaligner_training import Training

        def value(model: Model) -> float:
            return rank_targets(model.score, fold, features.people, most=PEOPLE).ndcg()

        start, height = self, -1.0
        for size in (self.size // 4, self.size):
            settings = replace(self, size=max(size, 1))
            reached = value(replace(settings, epochs=0)._aligned(fold.train, features, np.random.default_rng(0)))
            if reached > height:
                height, start = reached, settings
        with reproducible(rng):
            training = Training(start, fold.train, features, rng)
            chosen, kept, height = best_epoch(training, value, first=0, patience=patience)
        best = replace(start, epochs=chosen)
        if kept is None:
            return best
        for decay in (1.0, 0.9, 0.8, 0.7):
            reached = value(replace(kept, decay=decay))
            if reached > height:
                height, best = reached, replace(best, decay=decay)
        for warmth in WARMTHS:
            reached = value(replace(kept, decay=best.decay, warmth=warmth))
            if reached > height:
                height, best = reached, replace(best, warmth=warmth)
        if fold.candidates is None:
            return best  # nobody is asked for what is new, so nothing can be said of words or `match`
        taught = self.taught.fit(fold.train, features, rng=rng) if self._reads(features) else None
        if taught is None or value(taught) <= height:
            taught, best = None, replace(best, taught=replace(self.taught, epochs=0))
        return replace(best, match=best._fair(fold, fold.candidates, features, taught))

    def _fair(self, fold: Fold, cold: Rows, features: Features, taught: TaughtModel | None) -> float:
        """The largest `match` that keeps the concession: one event of each person is hidden, and asked for with and
        without the cold items of the fold in the list. `taught` has seen the hidden events, but only cold items are ranked by it.

        **Cost** one fit, and a ranking for each step of a bisection.
        """
        hidden = one_each(fold.train)
        inner, asked = fold.train.take(~hidden), fold.train.take(hidden)
        warm = np.setdiff1d(np.unique(inner.item).astype(np.int64), cold)
        aligner = replace(self, match=0.0)._aligned(inner, features, np.random.default_rng(0))

        def matched(match: float) -> Model:
            if taught is not None:
                return TaughtAlignerModel(aligner, taught, match)
            return aligner.stretched(aligner.apart**match)

        def value(model: Model, candidates: Rows) -> float:
            return rank_targets(
                model.score, Fold(inner, asked, candidates), features.people, most=2 * PEOPLE
            ).ndcg()  # fmt: skip

        least = value(aligner, warm) * (1 - self.concession)
        everything = np.union1d(warm, cold)
        steps = MATCHES if taught is None else SPREADS
        low, high = 0, len(steps)
        while high - low > 1:
            middle = (low + high) // 2
            if value(matched(steps[middle]), everything) >= least:
                low = middle
            else:
                high = middle
        return steps[low]


@dataclass(frozen=True, eq=False)
class ColdAlignerModel:
    """score = person · item, where a person is the sum of what their items say, divided by √of their number.

    **Shapes** content (D, S + 1) and centre (S + 1,): from an item's vector to its place, its fame the last column;
    said (D, S), said_centre (S,): the same for what an item says of who chose it; placed (I, S + 1) and spoken (I, S): what
    content says of every item; crowd (K, S + 1) and heard (K, S): what the crowd adds to that for the items `rows` (K,),
    of which each has been chosen `counts` (K,) times; person (S,): somebody of whom nothing is known. `apart`: how much
    further from their mean the crowd's vectors stand than those that content foretold of items it had not seen.
    """

    content: Floats
    centre: Floats
    said: Floats
    said_centre: Floats
    placed: Floats
    spoken: Floats
    crowd: Floats
    heard: Floats
    rows: Rows
    counts: Floats
    person: Floats
    scale: float
    warmth: float
    decay: float
    apart: float

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C)."""
        items = self.item_vectors()
        return self.user_vectors(histories) @ (items if candidates is None else items[candidates]).T

    def item_vectors(self) -> Floats:
        """**Shapes** (I, S + 1)."""
        return self._warmed(self.placed, self.crowd)

    def user_vectors(self, histories: Histories) -> Floats:
        """**Shapes** (B, S + 1): the last column is one, for an item's fame."""
        matrix = histories.matrix(len(self.spoken), decay=self.decay)
        said = self._warmed(self.spoken, self.heard)
        length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
        lifted = sparse.diags_array(1 / np.maximum(length, 1e-6)).tocsr() @ matrix
        people = np.asarray(lifted @ said, np.float32) + self.person
        return np.concatenate([people * np.float32(self.scale), np.ones((len(people), 1), np.float32)], axis=1)

    def _warmed(self, content: Floats, crowd: Floats) -> Floats:
        """What content says, plus n/(n + warmth) of what the crowd says otherwise."""
        out = content.copy()
        out[self.rows] += (self.counts / (self.counts + np.float32(self.warmth)))[:, None] * crowd
        return out

    def stretched(self, by: float) -> ColdAlignerModel:
        """What content says, `by` times as far from the mean; what is said with the crowd's full share stays as it is."""
        placed = self.centre + np.float32(by) * (self.placed - self.centre)
        crowd = self.crowd + self.placed[self.rows] - placed[self.rows]
        return replace(self, content=self.content * np.float32(by), placed=placed, crowd=crowd)

    def extended(self, features: Features) -> ColdAlignerModel:
        """New items are what their content says; without content, the average item."""
        fresh = features.items.take(np.arange(len(self.placed), len(features.items)))
        if not len(fresh):
            return self
        if fresh.present.any() and fresh.size != len(self.content):
            raise ShapeError(
                f"coldaligner: new items have content of size {fresh.size}, the model was trained on {len(self.content)}; "
                "train again"
            )
        values = (
            fresh.values if fresh.size == len(self.content) else np.zeros((len(fresh), len(self.content)), np.float32)
        )
        placed, spoken = values @ self.content + self.centre, values @ self.said + self.said_centre
        return replace(
            self, placed=np.concatenate([self.placed, placed]).astype(np.float32),
            spoken=np.concatenate([self.spoken, spoken]).astype(np.float32),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TaughtAlignerModel:
    """Known items as the aligner scores them; the others by `taught`, brought to a person's own scale.

    Scores are measured, person by person, by their mean and spread over the known items: where `taught`, and the aligner by
    content alone (`FORETOLD`), put a new item among those, there it stands, `match` times as far from the mean.
    """

    aligner: ColdAlignerModel
    taught: TaughtModel
    match: float

    def score(self, histories: Histories, candidates: Rows | None = None) -> Floats:
        """**Shapes** (B, C). **Cost** that of all known items, however few are asked for."""
        known = self.aligner.rows
        new = np.setdiff1d(np.arange(len(self.aligner.placed)), known)
        people = self.aligner.user_vectors(histories)
        out = people @ self.aligner.item_vectors().T
        if len(known) and len(new):
            away = _among(self.taught.score(histories), known, new)
            away += np.float32(FORETOLD) * _among(people @ self.aligner.placed.T, known, new)
            scores = out[:, known]
            out[:, new] = scores.mean(1, keepdims=True) + np.float32(self.match) * scores.std(1, keepdims=True) * away
        return out if candidates is None else out[:, candidates]

    def extended(self, features: Features) -> TaughtAlignerModel:
        """New items are what their content says."""
        if len(features.items) == len(self.aligner.placed):
            return self
        return replace(self, aligner=self.aligner.extended(features), taught=self.taught.extended(features))


def _among(scores: Floats, known: Rows, new: Rows) -> Floats:
    """How many standard deviations of the known items' scores each new one stands from their mean. **Shapes** (B, N)."""
    some = scores[:, known]
    spread = np.maximum(some.std(1, keepdims=True), np.float32(1e-6))
    return np.asarray((scores[:, new] - some.mean(1, keepdims=True)) / spread, np.float32)


def one_each(events: Events) -> np.ndarray:
    """Marks, of every person with two events or more, the one in the middle of their time. **Shapes** (E,)."""
    order = np.argsort(events.user, kind="stable")
    start = np.searchsorted(events.user[order], np.arange(events.users + 1))
    count = np.diff(start)
    marked = np.zeros(len(events), bool)
    marked[order[(start[:-1] + count // 2)[count >= 2]]] = True
    return marked
