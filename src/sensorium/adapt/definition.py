"""What may be tried: arms, which are overrides of a request's wishes, and what counts as a success."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sensorium.data.events import KINDS
from sensorium.errors import RecipeError
from sensorium.settings import within

ARMS = 16
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SUCCESS: Mapping[str, float] = {kind: 1.0 for kind, weight in KINDS.items() if weight > 0}
OURS = ("user", "like", "unlike", "exclude", "rules", "explain", "k", "now")  # wishes that belong to whoever asks


@dataclass(frozen=True)
class Arm:
    """A way to answer. `wishes`: what is put in place of what the recipe says, by the names of a request's fields."""

    name: str
    wishes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RecipeError(f"arm {self.name[:80]!r}: a name is up to 64 letters, digits, dots, dashes")
        for wish in self.wishes:
            if wish in OURS:
                raise RecipeError(f"arm {self.name!r}: {wish} is the wish of whoever asks; an arm cannot set it")


@dataclass(frozen=True)
class Tried:
    """What experiments and bandits share. `goal`: what an event of a kind is worth, in [0, 1]; an answer's reward is
    the sum over its items of the best event within `window_seconds`, at most 1."""

    name: str
    arms: tuple[Arm, ...]
    goal: Mapping[str, float] = field(default_factory=lambda: SUCCESS)
    window_seconds: float = 600.0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RecipeError(f"{self.name[:80]!r}: a name is up to 64 letters, digits, dots, dashes")
        names = [arm.name for arm in self.arms]
        if not 2 <= len(names) <= ARMS or len(set(names)) < len(names):
            raise RecipeError(f"{self.name!r}: give 2 to {ARMS} arms with names of their own")
        within(self, window_seconds=(0.0, 30 * 86400.0))
        for kind, worth in self.goal.items():
            if not 0 <= worth <= 1:
                raise RecipeError(f"{self.name!r}: an event of kind {kind!r} is worth {worth!r}; give 0 to 1")
        if not any(self.goal.values()):
            raise RecipeError(f"{self.name!r}: the goal has no kind that is worth anything")

    @cached_property
    def touched(self) -> frozenset[str]:
        """The wishes that some arm sets; a request that states one of them itself takes no part, whatever its arm."""
        return frozenset(wish for arm in self.arms for wish in arm.wishes)

    def arm(self, name: str) -> Arm:
        """An arm by its name. **Raises** RecipeError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise RecipeError(f"{self.name!r} has no arm {name!r}")
