"""Definitions as plain values and back; the journal as a log of decisions for estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from sensorium.adapt.bandit import CONTEXT, Bandit
from sensorium.adapt.definition import Tried
from sensorium.adapt.experiment import Experiment
from sensorium.adapt.exposure import outcomes
from sensorium.adapt.policy import Logged
from sensorium.feedback.store import Note
from sensorium.settings import read_settings

KINDS: Mapping[str, type[Tried]] = {"bandits": Bandit, "experiments": Experiment}  # by the kind of their document


def described(tried: Tried) -> dict[str, Any]:
    """A definition as plain values."""
    return asdict(tried)


def restored(kind: str, body: Mapping[str, Any]) -> Tried:
    """The definition of a document. **Raises** RecipeError."""
    return read_settings(KINDS[kind], body, where=str(body.get("name", kind)))


def logged(lines: Iterable[Note], tried: Tried, until: float) -> tuple[Logged, list[str]]:
    """The settled decisions about one experiment or bandit, and the names of its arms."""
    names = [arm.name for arm in tried.arms]
    owners: dict[str, int] = {}
    rows = []
    for outcome in outcomes(lines, tried, until):
        arm, chance = outcome.exposure.chosen[tried.name]
        if arm in names:
            user = outcome.exposure.user
            owner = -1 if user is None else owners.setdefault(user, len(owners))
            rows.append((names.index(arm), chance, outcome.reward(tried), owner, *outcome.exposure.context))
    table = np.array(rows, np.float64).reshape(len(rows), 4 + len(CONTEXT))
    action, chance, reward, owner = table[:, :4].T
    return Logged(action.astype(np.int64), chance, reward, table[:, 4:], owner.astype(np.int64), len(names)), names
