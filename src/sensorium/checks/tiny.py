"""Tiny worlds whose answer is known beforehand. Each is a handful of people and items, and claims that must hold.

A claim says: for this history, every item of `better` must score above every item of `worse`. A model that cannot see
what decides a claim (no content, no order) is not asked that world: `needs` says what one must see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sensorium.arrays import unit
from sensorium.data.content import IMAGE, TEXT
from sensorium.data.events import Events, Histories
from sensorium.data.vectors import Vectors
from sensorium.models.model import Features, Model


@dataclass(frozen=True)
class Claim:
    """For the history of `user` (a row of the events; −1 is a stranger), `better` items score above `worse` ones."""

    user: int
    better: tuple[int, ...]
    worse: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class World:
    """Events to fit on, features, and what must come out. `asked` are the events whose histories are scored."""

    name: str
    events: Events
    features: Features
    claims: tuple[Claim, ...]
    needs: frozenset[str] = frozenset()  # of "crowd", "content", "order"
    asked: Events | None = None

    def histories(self, users: Sequence[int]) -> Histories:
        """What these people did, as it stands when they are asked."""
        return (self.asked or self.events).histories(users, self.features.people)

    def holds(self, model: Model) -> float:
        """The share of pairs (better, worse) over all claims that the model puts in the right order."""
        right, pairs = 0, 0
        for claim in self.claims:
            scores = model.score(self.histories([claim.user]))[0]
            above = scores[list(claim.better)][:, None] > scores[list(claim.worse)][None, :]
            right, pairs = right + int(above.sum()), pairs + above.size
        return right / max(pairs, 1)


def stripes(people: int = 24, items: int = 12, *, seed: int = 0) -> World:
    """Even people take even items, odd people odd ones; each has missed one of their own, which must come first."""
    rng = np.random.default_rng(seed)
    pairs, claims = _striped(people, items, rng)
    return World("stripes", _events(pairs, people, items), _features(_colours(items)), claims, frozenset({"crowd"}))


def newcomer(people: int = 24, items: int = 12, *, seed: int = 0) -> World:
    """Stripes, and one item of each colour that nobody has seen: its content must carry it above the other colour's."""
    rng = np.random.default_rng(seed)
    pairs, _ = _striped(people, items, rng)
    claims = tuple(Claim(u, (items + u % 2,), (items + 1 - u % 2,)) for u in range(people))
    features = _features(_colours(items + 2))
    return World("newcomer", _events(pairs, people, items + 2), features, claims, frozenset({"content"}))


def twins(people: int = 24, items: int = 12, *, seed: int = 0) -> World:
    """Two new items share one picture and differ in words: the words must decide."""
    rng = np.random.default_rng(seed)
    pairs, _ = _striped(people, items, rng)
    words = _colours(items + 2)
    picture = np.ones((items + 2, 2), np.float32)
    views = {TEXT: _present(words, "words"), IMAGE: _present(unit(picture), "pictures")}
    fused = unit(np.concatenate([words, unit(picture)], axis=1))
    features = Features(_present(fused, "twins"), views)
    claims = tuple(Claim(u, (items + u % 2,), (items + 1 - u % 2,)) for u in range(people))
    return World("twins", _events(pairs, people, items + 2), features, claims, frozenset({"content"}))


def silent(people: int = 24, items: int = 12, *, seed: int = 0) -> World:
    """Items without any content: what the crowd did must do. The same claims as stripes, with nothing to look at."""
    world = stripes(people, items, seed=seed)
    return World("silent", world.events, Features(Vectors.absent(items, 2, "none")), world.claims, frozenset({"crowd"}))


def fad(people: int = 24, items: int = 12) -> World:
    """Everybody loved even items, and now loves odd ones: what comes next is odd. Only who minds order can see it."""
    half = items // 2
    pairs: list[tuple[int, int]] = []
    claims = []
    for step in range(items):
        for user in range(people):
            if step < half - 1:
                pairs.append((user, 2 * ((step + user) % half)))
            elif step >= half + 1:
                pairs.append((user, 2 * ((step + user) % half) + 1))
    for user in range(people):
        seen = {item for who, item in pairs if who == user}
        odd = tuple(item for item in range(1, items, 2) if item not in seen)
        even = tuple(item for item in range(0, items, 2) if item not in seen)
        claims.append(Claim(user, odd, even))
    return World(
        "fad", _events(pairs, people, items), _features(_colours(items)), tuple(claims), frozenset({"crowd", "order"})
    )


def forgotten(people: int = 24, items: int = 12, *, seed: int = 0) -> tuple[World, Events]:
    """A world, and its events as if the last person had never been: a model that forgot them equals one fitted on these."""
    world = stripes(people, items, seed=seed)
    return world, world.events.take(world.events.user != people - 1)


def late(people: int = 24, items: int = 12, *, seed: int = 0) -> World:
    """A stranger to the training arrives with three even items, after the model was made: even items must come first."""
    rng = np.random.default_rng(seed)
    pairs, _ = _striped(people, items, rng)
    asked = _events([*pairs, (people, 0), (people, 2), (people, 4)], people + 1, items)
    claim = Claim(people, tuple(range(6, items, 2)), tuple(range(1, items, 2)))
    events, features = _events(pairs, people, items), _features(_colours(items))
    return World("late", events, features, (claim,), frozenset({"crowd"}), asked)


def worlds() -> tuple[World, ...]:
    """All of them that are made of claims."""
    return stripes(), newcomer(), twins(), silent(), fad(), late()


def _striped(people: int, items: int, rng: np.random.Generator) -> tuple[list[tuple[int, int]], tuple[Claim, ...]]:
    pairs, claims = [], []
    for user in range(people):
        own = np.arange(user % 2, items, 2)
        missed = int(own[user // 2 % len(own)])
        pairs += [(user, int(item)) for item in rng.permutation(own[own != missed])]
        claims.append(Claim(user, (missed,), tuple(range(1 - user % 2, items, 2))))
    order = rng.permutation(len(pairs))
    return [pairs[place] for place in order], tuple(claims)


def _events(pairs: Sequence[tuple[int, int]], people: int, items: int) -> Events:
    """One event an hour."""
    times = [3600.0 * place for place in range(len(pairs))]
    return Events.of([u for u, _ in pairs], [i for _, i in pairs], users=people, items=items, time=times)


def _colours(items: int) -> np.ndarray:
    """Two directions, one for even items and one for odd, each item a little off, so that no two are the same."""
    rng = np.random.default_rng(7)
    values = 0.15 * rng.normal(size=(items, 4)).astype(np.float32)
    values[np.arange(items), np.arange(items) % 2] += 1
    return unit(values)


def _present(values: np.ndarray, source: str) -> Vectors:
    return Vectors(values.astype(np.float32), np.ones(len(values), bool), source)


def _features(values: np.ndarray) -> Features:
    vectors = _present(values, "stripes")
    return Features(vectors, {IMAGE: vectors}, blocks={IMAGE: slice(0, values.shape[1])})
