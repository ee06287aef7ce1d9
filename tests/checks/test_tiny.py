"""The tiny worlds: a scorer that knows the answer holds every claim, one that inverts it holds none."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.checks.conformance import check_model, must
from sensorium.checks.tiny import World, forgotten, worlds
from sensorium.models.ease import Ease
from sensorium.models.popularity import Popularity


class Oracle:
    def __init__(self, world: World, sign: float) -> None:
        self.world, self.sign = world, sign

    def score(self, histories, candidates=None):
        scores = np.zeros((len(histories), self.world.events.items), np.float32)
        for row, user in enumerate(histories.user):
            claim = next(c for c in self.world.claims if c.user == user)
            scores[row, list(claim.better)] = self.sign
        return scores

    def extended(self, features):
        return self


@pytest.mark.parametrize("world", worlds(), ids=lambda world: world.name)
def test_claims(world: World) -> None:
    assert world.claims
    assert world.holds(Oracle(world, 1)) == 1
    assert world.holds(Oracle(world, -1)) == 0


def test_popularity_cannot_tell_stripes_apart() -> None:
    world = worlds()[0]
    assert world.holds(Popularity().fit(world.events, world.features, rng=np.random.default_rng(0))) < 0.6


def test_forgotten_is_a_world_without_the_person() -> None:
    world, without = forgotten()
    gone = world.events.users - 1
    assert (world.events.user == gone).any()
    assert not (without.user == gone).any()
    assert len(world.events) - len(without) == (world.events.user == gone).sum()


def test_conformance_finds_a_model_that_reads_who_asks() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Peeks(Ease):
        def fit(self, events, features, *, rng):
            model = super().fit(events, features, rng=rng)
            kind = type(model)
            object.__setattr__(model, "score", lambda h, c=None: kind.score(model, h, c) + h.user[:, None].astype("f4"))
            return model

    with pytest.raises(AssertionError, match="who asks"):
        check_model(Peeks())


def test_must_speaks() -> None:
    with pytest.raises(AssertionError, match="broken"):
        must(False, "broken")
