"""The demo world's people: what they like is drawn first, what they do follows from it, so the right answers are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Floats, Rows
from sensorium.checks.words import COLOURS, MOODS, THEMES, Language, Writer

START = 1_704_067_200.0  # the first of January 2024
DAY = 86_400.0
THEME_SAYS, MOOD_SAYS, COLOUR_SAYS = 2.2, 1.3, 0.7  # how much each trait moves a person


@dataclass(frozen=True, eq=False)
class Tastes:
    """What U people like, now and (for those who drifted) before.

    **Shapes** theme (U, themes), mood (U, moods), colour (U, colours): unit rows; `before` is the taste at first.
    """

    theme: Floats
    mood: Floats
    colour: Floats
    before: Floats  # (U, themes): equal to `theme` for those who did not drift
    drifted: NDArray[np.bool_]

    def liking(self, traits: Rows, *, at_first: bool = False) -> Floats:
        """How much each person likes each item. **Shapes** traits (I, 3): places of theme, mood, colour → (U, I)."""
        theme = self.before if at_first else self.theme
        total = THEME_SAYS * theme[:, traits[:, 0]] + MOOD_SAYS * self.mood[:, traits[:, 1]]
        return (total + COLOUR_SAYS * self.colour[:, traits[:, 2]]).astype(np.float32)


@dataclass(frozen=True)
class Deed:
    """One event of the log."""

    user: int
    item: int
    kind: str
    time: float
    rating: int | None = None
    review: str = ""


def tastes(people: int, rng: np.random.Generator) -> Tastes:
    """Each person has one theme they love, perhaps a second, a mood and some colours; one in six changes the theme."""
    theme = np.full((people, len(THEMES)), -0.35, np.float32)
    before = theme.copy()
    drifted = rng.random(people) < 1 / 6
    for person in range(people):
        first, second, third = rng.permutation(len(THEMES))[:3]
        theme[person, first], theme[person, second] = 1.0, 0.6 * rng.random()
        before[person] = theme[person]
        if drifted[person]:
            before[person, [first, third]] = theme[person, [third, first]]
    mood = np.full((people, len(MOODS)), -0.5, np.float32)
    mood[np.arange(people), rng.integers(0, len(MOODS), people)] = 1.0
    colour = rng.normal(size=(people, len(COLOURS))).astype(np.float32)
    colour /= np.abs(colour).max(1, keepdims=True)
    return Tastes(theme, mood, colour, before, drifted)


def deeds(
    traits: Rows, cold: NDArray[np.bool_], likes: Tastes, languages: list[Language], rng: np.random.Generator
) -> list[Deed]:
    """A year's log in order of time: views that follow taste, with carts, buys, ratings, reviews and skips among them."""
    writer = Writer(rng)
    now, first = likes.liking(traits), likes.liking(traits, at_first=True)
    charm = 0.5 * rng.normal(size=len(traits)).astype(np.float32)  # some things please everybody
    log: list[Deed] = []
    for person in range(len(now)):
        count = int(min(6 + rng.geometric(1 / 14), 60, (~cold).sum() // 2))
        early = count // 2 if likes.drifted[person] else 0
        seen = cold.copy()
        moments = np.sort(rng.uniform(0, 360, -(-count // 4)))  # four looks a sitting
        theme = -1
        for look in range(count):
            liking = first[person] if look < early else now[person]
            wander = rng.random() < 0.15
            drive = charm + (0 if wander else 1.3) * liking + 0.9 * (traits[:, 0] == theme)
            drive = np.where(seen, -np.inf, drive + rng.gumbel(size=len(drive)))
            item = int(np.argmax(drive))
            seen[item] = True
            theme = int(traits[item, 0])
            time = START + DAY * moments[look // 4] + 90.0 * (look % 4) + float(rng.integers(0, 60))
            log += _at(person, item, float(liking[item]), time, traits[item], languages[person], writer, rng)
    return sorted(log, key=lambda deed: (deed.time, deed.user, deed.item))


def _at(
    user: int,
    item: int,
    liking: float,
    time: float,
    traits: Rows,
    language: Language,
    writer: Writer,
    rng: np.random.Generator,
) -> list[Deed]:
    """What one person does with one item they looked at."""
    if liking < -0.6 and rng.random() < 0.6:
        return [Deed(user, item, "skip", time)]
    out = [Deed(user, item, "view", time)]
    warmth = 1 / (1 + np.exp(-(liking - 1.2)))
    if rng.random() < warmth * 0.6:
        out.append(Deed(user, item, "cart", time + 20))
        if rng.random() < 0.6:
            out.append(Deed(user, item, "buy", time + 40))
    if rng.random() < 0.25:
        rating = int(np.clip(round(2.6 + 0.75 * liking + 0.6 * rng.normal()), 1, 5))
        out.append(Deed(user, item, "rating", time + 60, rating))
        if rng.random() < 0.4:
            words = writer.review(language, rating, THEMES[int(traits[0])], MOODS[int(traits[1])])
            out.append(Deed(user, item, "review", time + 75, None, words))
    return out
