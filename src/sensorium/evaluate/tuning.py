"""Searching for settings: Optuna over the recommenders' spaces, on validation alone, pruned, and resumable after any kill."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.build import Material, fused, people_space
from sensorium.data.events import Events, Fold
from sensorium.encode.encoder import Progress, silent
from sensorium.errors import DataError, MissingExtra, RecipeError
from sensorium.evaluate.run import parted
from sensorium.models.auto import UNFED
from sensorium.models.blend import Blend
from sensorium.models.model import Features, Model
from sensorium.recipe import RECOMMENDERS, Recipe
from sensorium.settings import described, nearest
from sensorium.train.ranking import Ranks, rank_targets

if TYPE_CHECKING:
    import optuna

PARTS = (300, 700, 2_000)  # people that a trial is asked, part after part; between parts a weak one is stopped
SEEN = 8  # trials before any is stopped


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`: whole ones where both are, by their logarithm where `log`."""

    low: float
    high: float
    log: bool = False

    def drawn(self, trial: optuna.Trial, name: str) -> float | int:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def around(self, value: Any) -> Span:
        """The same, wide enough for a value that a recipe starts from."""
        if not isinstance(value, int | float) or (self.log and value <= 0):
            return self
        return replace(self, low=min(self.low, value), high=max(self.high, value))

    def holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class Among:
    """One of some values."""

    values: tuple[Any, ...]

    def drawn(self, trial: optuna.Trial, name: str) -> Any:
        return trial.suggest_categorical(name, self.values)

    def around(self, value: Any) -> Among:
        """The same, with the value that a recipe starts from."""
        plain = isinstance(value, int | float | str)
        return self if value in self.values or not plain else Among((*self.values, value))

    def holds(self, value: Any) -> bool:
        return value in self.values


DECAY, STRENGTH = Span(0.3, 1.0), Span(0.0, 1.0)
SPACES: Mapping[str, Mapping[str, Span | Among]] = {
    "popularity": {"half_life_days": Among((0.0, 1.0, 7.0, 30.0, 90.0, 365.0))},
    "content": {"sharpness": Span(0.25, 32.0, log=True), "decay": DECAY, "strength": STRENGTH},
    "itemknn": {
        "k": Span(10, 1_000, log=True), "shrink": Span(0.0, 200.0), "weighting": Among(("plain", "tfidf", "bm25", "rp3")),
        "decay": DECAY, "strength": STRENGTH,
    },
    "ease": {
        "l2": Span(1.0, 5_000.0, log=True), "dropout": Span(0.0, 0.9), "decay": DECAY, "degree": Span(0.0, 1.0),
        "content": Among((0.0, 3.0, 30.0, 300.0)), "strength": STRENGTH,
    },
    "directed": {
        "l2": Span(1.0, 5_000.0, log=True), "dropout": Span(0.0, 0.9), "decay": DECAY, "past": DECAY,
        "ahead": Span(0.0, 0.8), "strength": STRENGTH,
    },
    "ials": {
        "size": Span(16, 512, log=True), "l2": Span(0.001, 100.0, log=True), "alpha": Span(0.5, 100.0, log=True),
        "epochs": Span(4, 30), "decay": DECAY,
    },
    "graph": {
        "rank": Span(16, 512, log=True), "smooth": Span(0.0, 3.0), "fame": Span(0.0, 1.0), "give": Span(0.0, 1.0),
        "damp": Span(0.0, 1.0), "degree": Span(0.0, 1.5), "decay": DECAY, "hop": Span(0.0, 1.0), "alike": Span(0.0, 1.0),
    },
    "profile": {"l2": Span(0.5, 500.0, log=True)},
    "sequence": {
        "size": Among((32, 64, 96)), "layers": Span(1, 3), "epochs": Span(2, 40), "dropout": Span(0.0, 0.5),
        "learning_rate": Span(0.0003, 0.005, log=True), "id_dropout": Span(0.0, 0.5), "ahead": Span(0.0, 0.6),
    },
    "hybrid": {
        "loss": Among(("softmax", "warp", "bpr")), "size": Span(16, 256, log=True), "epochs": Span(5, 100, log=True),
        "learning_rate": Span(0.01, 0.3, log=True), "fold_l2": Span(0.3, 300.0, log=True), "decay": DECAY,
    },
    "lightgcn": {
        "size": Among((32, 64, 128)), "layers": Span(1, 3), "epochs": Span(5, 100, log=True),
        "learning_rate": Span(0.001, 0.05, log=True), "temperature": Span(0.05, 0.5, log=True), "prune": Span(0.0, 0.5),
        "content": Span(0.0, 1.0),
    },
    # `match` is not among them: it is what cold items cost warm ones, which NDCG does not say (ColdAligner.tuned).
    "coldaligner": {
        "size": Span(16, 512, log=True), "l2": Span(0.1, 100.0, log=True), "warmth": Span(0.0, 16.0), "epochs": Span(0, 40),
        "cold": Span(0.0, 0.9), "temperature": Span(0.03, 0.3, log=True), "decay": DECAY,
    },
}  # fmt: skip
LINE_UP = ("popularity", "content", "itemknn", "ease", "directed", "ials", "graph", "profile")  # of a blend


@dataclass(frozen=True)
class Tried:
    """What a study found for one recommender. `default` is what its plain settings reach."""

    name: str
    settings: Any
    ndcg: float  # @10, on the people of validation that were asked
    default: float
    finished: int
    pruned: int


@dataclass(frozen=True)
class Tuning:
    """The settings of all that were searched, and the recommender to put into the recipe.

    `chosen` is its name, `ndcg` what it reaches; `blend` what the blend of all reaches, where there is one; `left_out` what
    was not searched, and why; `waiting` how many trials the time did not allow.
    """

    recommender: Any
    tried: tuple[Tried, ...]
    ndcg: float
    chosen: str
    blend: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0

    def why(self) -> str:
        """Why this one, in words."""
        if self.chosen == "blend":
            alone = max(self.tried, key=lambda one: one.ndcg)
            return f"for {alone.name}, the best alone, reaches {alone.ndcg:.4f}"
        if self.blend is not None:
            return f"for the blend of all reaches no more: {self.blend:.4f}"
        return "the best of those searched" if len(self.tried) > 1 else "which alone was searched"

    def plain(self) -> dict[str, Any]:
        """Plain values, for printing and for JSON."""
        tried = [
            {
                "name": one.name, "plain": round(one.default, 6), "tuned": round(one.ndcg, 6), "finished": one.finished,
                "pruned": one.pruned, "settings": described(one.settings),
            }
            for one in self.tried
        ]  # fmt: skip
        return {
            "ndcg": round(self.ndcg, 6), "recommender": described(self.recommender), "chosen": self.chosen,
            "why": self.why(), "blend": None if self.blend is None else round(self.blend, 6), "tried": tried,
            "left_out": dict(self.left_out), "waiting": self.waiting,
        }  # fmt: skip


def tune(
    material: Material, recipe: Recipe, folder: Path, *, models: Sequence[str] = ("blend",), trials: int = 40,
    minutes: float | None = None, progress: Progress = silent, clock: Callable[[], float] = time.monotonic,
) -> Tuning:  # fmt: skip
    """Each of `models` searched for `trials` trials, counted over all calls with this folder; the best of them.

    `minutes` after the first study was opened no trial is begun any more. Each search gets an equal share of what is left;
    one that found no time for a trial is left out.

    `blend` searches its members one by one, then learns their weights; it is chosen where it is better than each of them
    alone. Where the recipe says a blend, its members are searched, from the settings that it gives them.

    Everything happens on the validation part of the recipe's split: the test part is taken off before anything is looked
    at, so that `evaluate` with the same split may still be asked. The studies lie in `folder`/studies.db; a search that
    was killed goes on where it was.

    **Raises** RecipeError for a name that has no space and for minutes in which no trial ends, DataError for a folder
    whose studies are of other data.
    **Cost** a fit and a ranking of up to 3,000 people for each trial.
    """
    if minutes is not None and not minutes > 0:
        raise RecipeError(f"tune: minutes is {minutes!r}; give a number above 0")
    names, left_out = _members(models, material, recipe)
    fold = parted(material, recipe).validation
    _, people = people_space(material.people_views, recipe.seed)
    _, features = fused(
        recipe.fusion, material.views, people, fold.train, seed=recipe.seed, reviews=material.reviews
    )  # fmt: skip
    parts = _parts(fold, recipe.seed)
    data = _fingerprint(fold, features, recipe.seed)
    tried: list[Tried] = []
    end = math.inf if minutes is None else clock() + 60 * minutes
    for place, name in enumerate(names):
        settings = _own(recipe, name)

        def look(done: int, place: int = place) -> None:
            progress("tune", place * trials + min(done, trials), trials * len(names))

        # What a study starts from belongs to it: another start would be told beside values of the old one.
        stands_on = hashlib.sha256(f"{data} {settings!r}".encode()).hexdigest()[:16]
        now = clock()
        until = now + (end - now) / (len(names) - place)

        def may_begin(until: float = until) -> bool:
            return clock() < until

        found = _searched(name, settings, folder, parts, features, recipe.seed, trials, stands_on, look, may_begin)
        if found is None:
            left_out[name] = "no time for a trial was left; the same command goes on"
        else:
            tried.append(found)
    if not tried:
        raise RecipeError(f"tune: no trial ended within {minutes:g} minutes; give it more")
    waiting = trials * len(names) - sum(min(one.finished + one.pruned, trials) for one in tried)
    best = max(tried, key=lambda one: one.ndcg)
    alone = Tuning(best.settings, tuple(tried), best.ndcg, best.name, left_out=left_out, waiting=waiting)
    if "blend" not in models or len(tried) == 1:
        return alone
    members = {one.name: one.settings for one in tried}
    blend = replace(RECOMMENDERS.make("blend"), use=tuple(members), **members)
    fitted = {one.name: one.settings.fit(fold.train, features, rng=_rng(recipe.seed)) for one in tried}
    blend = blend.weighed(fitted, fold, features)
    reached = _value(blend.of(fitted), parts, features, lambda value, part: None)
    if reached > alone.ndcg:
        return replace(alone, recommender=blend, ndcg=reached, chosen="blend", blend=reached)
    return replace(alone, blend=reached)


def _members(models: Sequence[str], material: Material, recipe: Recipe) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names to search, `blend` replaced by those that the data feed: of the recipe's blend, or of the usual line-up;
    and why the others of it are left out.
    """
    own = recipe.recommender
    out: list[str] = []
    left_out: dict[str, str] = {}
    for name in models:
        if name == "blend":
            lacks = set() if material.views else {"content"}
            lacks |= set() if material.people_views else {"profile"}
            line_up = own.use if isinstance(own, Blend) else LINE_UP
            alien = [member for member in line_up if member not in SPACES]
            if alien:
                raise RecipeError(
                    f"tune: {', '.join(alien)} of the recipe's blend has no space to search; leave it out"
                )
            out += [member for member in line_up if member not in lacks]
            left_out = {member: UNFED[member] for member in line_up if member in lacks and member not in models}
        elif name in SPACES:
            out.append(name)
        else:
            raise RecipeError(f"tune: {name!r} has no space to search; {nearest(name, (*SPACES, 'blend'))}")
    if not out:
        told = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise RecipeError(f"tune: nothing is left to search; {told}")
    return tuple(dict.fromkeys(out)), left_out


def _own(recipe: Recipe, name: str) -> Any:
    """The settings to start from: the recipe's where it names this recommender or a blend of it, else the plain ones."""
    own = recipe.recommender
    if isinstance(own, Blend) and name in own.use:
        return own.member(name)
    return own if RECOMMENDERS.name_of(own) == name else RECOMMENDERS.make(name)


def _searched(
    name: str, start: Any, folder: Path, parts: Sequence[Fold], features: Features, seed: int, trials: int,
    data: str, look: Callable[[int], None], may_begin: Callable[[], bool],
) -> Tried | None:  # fmt: skip
    """One study, from where it stands to `trials` finished or pruned trials, or until no more may begin; None without any."""
    optuna = _optuna()
    folder.mkdir(parents=True, exist_ok=True)
    store = f"sqlite:///{folder.resolve() / 'studies.db'}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=SEEN, n_warmup_steps=0)
    try:
        study = optuna.create_study(
            storage=store, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner
        )  # fmt: skip
    except Exception as error:  # a damaged file comes as any of SQLAlchemy's errors, another Optuna's as a RuntimeError
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise DataError(f"{folder / 'studies.db'}: cannot be read as studies ({reason}); name another folder") from None
    if study.user_attrs.setdefault("data", data) != data:
        raise DataError(
            f"{folder}: its study of {name} was made on other data, split, seed or starting settings; name another folder"
        )
    study.set_user_attr("data", data)
    space = {key: span.around(getattr(start, key)) for key, span in SPACES[name].items()}
    state = optuna.trial.TrialState
    ended = (state.COMPLETE, state.PRUNED)
    # A trial that was killed is asked again: the sampler draws it anew, the first one is put in line again.
    for killed in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        study.tell(killed.number, state=state.FAIL)
    if not study.get_trials(deepcopy=False, states=(*ended, state.WAITING)):
        study.enqueue_trial(
            {key: getattr(start, key) for key, span in space.items() if span.holds(getattr(start, key))}
        )

    def objective(trial: Any) -> float:
        settings = replace(start, **{key: span.drawn(trial, key) for key, span in space.items()})
        model = settings.fit(parts[0].train, features, rng=_rng(seed))

        def stop(value: float, part: int) -> None:
            trial.report(value, part)
            if part < len(parts) - 1 and trial.should_prune():
                raise optuna.TrialPruned

        return _value(model, parts, features, stop)

    done = len(study.get_trials(deepcopy=False, states=ended))
    look(done)
    while done < trials and may_begin():
        # A new sampler a trial, seeded by its number: a search in two sittings is the search in one.
        study.sampler = optuna.samplers.TPESampler(seed=seed + 1_000 * done, n_startup_trials=SEEN)
        study.optimize(objective, n_trials=1)
        done = len(study.get_trials(deepcopy=False, states=ended))
        look(done)
    look(trials)
    if not study.get_trials(deepcopy=False, states=ended[:1]):
        return None
    best = study.best_trial
    first = next((t for t in study.get_trials(deepcopy=False, states=ended) if t.value is not None), best)
    return Tried(
        name, replace(start, **best.params), float(best.value or 0.0), float(first.value or 0.0),
        len(study.get_trials(deepcopy=False, states=ended[:1])), len(study.get_trials(deepcopy=False, states=ended[1:])),
    )  # fmt: skip


def _parts(fold: Fold, seed: int) -> tuple[Fold, ...]:
    """The fold with its people shared out over parts, in a random order."""
    people = np.random.default_rng(seed).permutation(np.unique(fold.held_out.user))
    edges = np.cumsum((0, *PARTS))
    parts = (people[a:b] for a, b in pairwise(edges))
    return tuple(replace(fold, held_out=fold.held_out.take(np.isin(fold.held_out.user, p))) for p in parts if len(p))


def _value(model: Model, parts: Sequence[Fold], features: Features, look: Callable[[float, int], None]) -> float:
    """NDCG@10 over all parts; `look` is told the value after each."""
    found: list[Ranks] = []
    value = 0.0
    for place, part in enumerate(parts):
        found.append(rank_targets(model.score, part, features.people))
        together = Ranks(*(np.concatenate([getattr(one, name) for one in found]) for name in ("user", "item", "rank")))
        value = together.ndcg()
        if not math.isfinite(value):
            raise RecipeError("tune: a trial's scores are not finite")
        look(value, place)
    return value


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _fingerprint(fold: Fold, features: Features, seed: int) -> str:
    """What a study stands on: the events on either side, the space of the items, the seed."""
    digest = hashlib.sha256(str(seed).encode())
    for events in (fold.train, fold.held_out):
        for column in _columns(events):
            digest.update(np.ascontiguousarray(column).tobytes())
    digest.update(np.ascontiguousarray(features.items.values).tobytes())
    return digest.hexdigest()[:16]


def _columns(events: Events) -> tuple[np.ndarray, ...]:
    return events.user, events.item, events.weight, events.time


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtra("optuna", "tune") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
