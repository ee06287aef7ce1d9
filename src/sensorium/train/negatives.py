"""Negatives for a softmax that is too wide to compute: which items stand in for all the others, and what corrects for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sensorium.arrays import Floats, Rows


@dataclass(frozen=True, eq=False)
class Negatives:
    """Items that are scored against each target, and the log of the chance with which each had come in.

    **Shapes** rows (K,), distinct and ascending; log_chance (K,), 0 where the item was certain to be there.
    """

    rows: Rows
    log_chance: Floats

    @property
    def all(self) -> bool:
        """Whether nothing was sampled."""
        return not self.log_chance.any()


def everything(known: Rows) -> Negatives:
    """All known items: the exact softmax."""
    return Negatives(known, np.zeros(len(known), np.float32))


def drawn(targets: Rows, known: Rows, chance: Floats, count: int, rng: np.random.Generator) -> Negatives:
    """About `count` negatives shared by a batch: half from the batch's own targets, half uniformly from `known`.

    Popular items come in as other people's targets and are punished for that as often as they are popular; the log of
    the chance of inclusion, subtracted from their scores, undoes it (the logQ correction). The uniform half reaches
    what no batch shows. Of what was drawn twice one stays, and the chance is that of being drawn at least once, so
    Σ exp(score) ÷ chance estimates the whole sum without bias (Horvitz and Thompson).

    **Shapes** targets (T,), known (I',), chance (I,): the share of all targets that an item is.
    **Source** Bengio & Senécal 2008; mixed with in-batch negatives and logQ: Yi et al. 2019.
    """
    half = count // 2
    own = rng.choice(targets, half) if len(targets) else targets
    rest = known[rng.integers(len(known), size=count - half)]
    rows = np.unique(np.concatenate([own, rest]))
    # log(1 − (1 − p)^a (1 − 1/n)^b), stable for small p
    missed = half * np.log1p(-np.minimum(chance[rows].astype(np.float64), 1 - 1e-9))
    missed = missed + (count - half) * np.log1p(-1 / max(len(known), 2))
    return Negatives(rows, np.log(-np.expm1(missed)).astype(np.float32))
