"""What a client is asked with and what it answers with: plain values, described for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict


class Event(TypedDict):
    """What somebody did; `time` in seconds since 1970, without it now; `kind` is `view` without one."""

    user: str
    item: str
    kind: NotRequired[str]
    time: NotRequired[float]
    value: NotRequired[float]
    text: NotRequired[str]
    key: NotRequired[str]
    recommendation: NotRequired[str]  # the id of the answer that it follows


class Wishes(TypedDict, total=False):
    """What may be asked of a recommendation; what is not said, the run's recipe says."""

    user: str
    like: Sequence[str]
    unlike: Sequence[str]
    k: int
    exclude: Sequence[str]
    rules: Sequence[str]
    repeat: bool
    diversity: float
    explain: bool
    boosts: Mapping[str, float]
    pins: Mapping[str, int]
    caps: Mapping[str, int]
    exploration: float
    seed: int
    modalities: Mapping[str, float]


class WhyWishes(TypedDict, total=False):
    """For whom an item is explained, and what counts."""

    user: str
    like: Sequence[str]
    unlike: Sequence[str]
    exclude: Sequence[str]
    rules: Sequence[str]
    repeat: bool
    boosts: Mapping[str, float]
    modalities: Mapping[str, float]


class SimilarWishes(TypedDict, total=False):
    """What may be asked of the items most like one."""

    k: int
    user: str
    rule: Sequence[str]
    explain: bool


class Rules(TypedDict, total=False):
    """What holds for every answer; what is not named is nothing."""

    rules: Sequence[str]
    exclude: Sequence[str]
    boosts: Mapping[str, float]
    caps: Mapping[str, int]


class Arm(TypedDict):
    """A way to answer: wishes that take the place of the recipe's."""

    name: str
    wishes: NotRequired[Mapping[str, Any]]


class ExperimentWishes(TypedDict):
    """An experiment that is to begin; its first arm is the control."""

    name: str
    arms: Sequence[Arm]
    goal: NotRequired[Mapping[str, float]]
    window_seconds: NotRequired[float]
    horizon_seconds: NotRequired[float]
    shares: NotRequired[Mapping[str, float]]
    traffic: NotRequired[float]
    alpha: NotRequired[float]
    least_effect: NotRequired[float]
    plan: NotRequired[int]
    most: NotRequired[int]
    stops: NotRequired[bool]


class BanditWishes(TypedDict):
    """A bandit that is to begin, or to be changed."""

    name: str
    arms: Sequence[Arm]
    goal: NotRequired[Mapping[str, float]]
    window_seconds: NotRequired[float]
    kind: NotRequired[Literal["beta", "linear"]]
    half_life_days: NotRequired[float]
    least: NotRequired[float]
    seed: NotRequired[int]
    retired: NotRequired[Sequence[str]]


@dataclass(frozen=True)
class Reason:
    """A part of a score: which event carried it, through what, and how much."""

    item: str | None
    title: str
    kind: str
    time: float | None
    source: str
    amount: float


@dataclass(frozen=True)
class Recommended:
    """One item; `reasons` and `base` sum to the score where they were asked for; `propensity` is the probability with which
    it stands here, given those above it.
    """

    item: str
    title: str
    score: float
    source: str
    propensity: float = 1.0
    reasons: tuple[Reason, ...] = ()
    base: float = 0.0


@dataclass(frozen=True)
class Recommendations:
    """The best items first; `version` names the snapshot that gave them, `id` is what feedback refers to."""

    id: str
    items: tuple[Recommended, ...]
    model: str
    version: str
    candidates: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Why:
    """Why an item would be recommended, or not: `place` by score alone, None where `barred` says why it may not be shown."""

    item: str
    title: str
    score: float
    reasons: tuple[Reason, ...]
    base: float
    place: int | None
    candidates: int
    barred: tuple[str, ...]
    model: str
    version: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """One result of a search; `by` names the modality that lay nearest."""

    item: str
    title: str
    score: float
    by: str


@dataclass(frozen=True)
class Page:
    """Some items by ascending id; `next` is None where there are no more."""

    items: tuple[Mapping[str, Any], ...]
    next: str | None


@dataclass(frozen=True)
class Version:
    """A version of the run: it answered (`kept`: its files are there), or was refused, and why."""

    name: str
    made: float
    why: str
    state: str
    position: int
    of: str
    reasons: tuple[str, ...]
    figures: Mapping[str, Any]
    kept: bool


@dataclass(frozen=True)
class Models:
    """All versions, oldest first; `waiting` events are not learnt yet, `held` says since when none is learnt by itself."""

    version: str
    position: int
    waiting: int
    learning: bool
    last: Mapping[str, Any]
    held: Mapping[str, Any] | None
    drift: Mapping[str, float]
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Learnt:
    """How learning stands: `begun` or `busy`; or, waited for, `adopted` as a version or `refused` for some reasons."""

    state: str
    version: str | None = None
    reasons: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class Restored:
    """The version that answers now, and the one that it restores."""

    version: str
    restores: str


@dataclass(frozen=True)
class Key:
    """A key without the key; no `groups` are all of them, `until` in seconds since 1970."""

    name: str
    role: str
    groups: tuple[str, ...]
    until: float | None
    made: float


@dataclass(frozen=True)
class Experiment:
    """What an experiment has found; `waiting` people are within their time, `plot` is the course of each difference."""

    name: str
    control: str
    arms: tuple[Mapping[str, Any], ...]
    traffic: float
    began: float
    ended: float | None
    why: str
    kept: str | None
    waiting: int
    verdict: Mapping[str, Any] | None
    mismatch: Mapping[str, Any]
    plot: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Bandit:
    """What a bandit has learnt: of each arm, with what chance it is shown and what it earned."""

    name: str
    kind: str
    arms: tuple[Mapping[str, Any], ...]
    goal: Mapping[str, float]
