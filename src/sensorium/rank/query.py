"""What is asked and what is answered: a query with its rules, a ranking with its reasons."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sensorium.errors import RecipeError
from sensorium.settings import nearest

MOST = 1000  # results of one query
SOURCES = ("near", "companion", "popular", "new", "trending")  # of candidates
MODALITIES = (
    "text",
    "image",
    "audio",
    "video",
    "attributes",
    "words",
    "look",
)  # that a request may weigh; ready vectors besides
STRONGEST = 10.0  # deviations that a boost may add, or take: beyond, it is a rule
_RULE = re.compile(r"\s*([^<>=!|]+?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """A condition on one attribute. `values` are alternatives; an order (`<=` …) takes one number or date.

    `=` holds where the attribute (or one entry of its list) is among the values; `!=` where none is. An item that does
    not state the attribute fulfils only `!=`.
    """

    attribute: str
    operator: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.attribute}{self.operator}{'|'.join(self.values)}"

    @property
    def number(self) -> float | None:
        """The one value as a number, or a date as seconds since 1970; None where it is neither."""
        return number_of(self.values[0])


def parse_rule(text: str) -> Rule:
    """A rule from one line. **Raises** RecipeError that shows the line and how a rule looks.

    >>> parse_rule("price<=20")
    Rule(attribute='price', operator='<=', values=('20',))
    >>> parse_rule("genres = Comedy|Drama").values
    ('Comedy', 'Drama')
    """
    found = _RULE.fullmatch(text)
    if not found or not found[3]:
        raise RecipeError(f"rule {text!r}: write 'price<=20', 'genres=Comedy|Drama' or 'genres!=Horror'")
    name, operator, right = found[1], found[2].replace("==", "="), found[3]
    values = tuple(part.strip() for part in right.split("|"))
    if "" in values:
        raise RecipeError(f"rule {text!r}: a value between the bars is empty")
    rule = Rule(name, operator, values)
    if operator in ("<", ">", "<=", ">=") and (len(values) > 1 or rule.number is None):
        raise RecipeError(f"rule {text!r}: {operator} needs one number or date (2024-05-31), not {right!r}")
    return rule


def number_of(text: str) -> float | None:
    """A number, or a date or moment of ISO 8601 as seconds since 1970 (UTC where no zone is given); None for neither.

    >>> number_of("1970-01-02"), number_of("1e3"), number_of("red")
    (86400.0, 1000.0, None)
    """
    try:
        number = float(text)
        return number if math.isfinite(number) else None
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def check_count(k: object, where: str) -> None:
    """**Raises** RecipeError for a number of results that no query may ask for."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MOST:
        raise RecipeError(f"{where}: k is {k!r}; ask for 1 to {MOST} results")


@dataclass(frozen=True)
class Query:
    """One request, in outside ids. Everything is optional: without user and without `like` a stranger is answered.

    `like`, `unlike`: items of this moment, for or against; they are never recommended themselves. `repeat` allows what
    the person has already seen. `diversity` 0 is the plain order, 1 looks only for difference. `now` in seconds since
    1970 (None: the moment of the person's last event).

    `boosts`: by rule, how many standard deviations of the candidates' scores are added where it is fulfilled. A factor
    would not do: scores of most models fall on both sides of zero, where doubling one means the opposite, and
    two models differ in scale. `pins`: by item, the place (1 the first) at which it stands. `caps`: by attribute, how many items
    of one value the list may hold. `exploration`: the share of the places that chance fills, from `seed`; every item
    then carries its propensity (see `arrange`). `modalities`: how much each modality of content counts, 1 where not named.
    `sources`: of which candidates the list is made (near, companion, popular, new, trending; none named: what the engine thinks
    best). `members`: what each member of a blend counts for this query.
    """

    user: str | None = None
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    k: int = 10
    exclude: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    repeat: bool = False
    diversity: float = 0.0
    explain: bool = False
    now: float | None = None
    sources: tuple[str, ...] = ()
    members: Mapping[str, float] = field(default_factory=dict)
    boosts: Mapping[str, float] = field(default_factory=dict)
    pins: Mapping[str, int] = field(default_factory=dict)
    caps: Mapping[str, int] = field(default_factory=dict)
    exploration: float = 0.0
    seed: int = 0
    modalities: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("like", "unlike", "exclude", "rules", "sources"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise RecipeError(f"query: {name} is the single word {value!r}; give a list of them")
            object.__setattr__(self, name, tuple(value))
        object.__setattr__(self, "rules", tuple(parse_rule(r) if isinstance(r, str) else r for r in self.rules))
        check_count(self.k, "query")
        if not 0 <= self.diversity <= 1:
            raise RecipeError(f"query: diversity is {self.diversity!r}; give a number from 0 to 1")
        if self.now is not None and not math.isfinite(self.now):
            raise RecipeError(f"query: now is {self.now!r}; give seconds since 1970")
        for source in self.sources:
            if source not in SOURCES:
                raise RecipeError(f"query: unknown source {source!r}; {nearest(str(source), SOURCES)}")
        for name, weight in self.members.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise RecipeError(f"query: the weight of {name} is {weight!r}; give a number of at least 0")
        both = sorted({*self.like} & {*self.unlike})
        if both:
            raise RecipeError(f"query: {both[0]!r} stands under like and unlike; leave it in one of them")
        self._check_arrangement()

    def _check_arrangement(self) -> None:
        for rule, amount in self.boosts.items():
            parse_rule(rule)
            if not abs(amount) <= STRONGEST:
                raise RecipeError(
                    f"query: boost {rule!r} is {amount!r}; give deviations from -{STRONGEST:g} to {STRONGEST:g}"
                )
        check_pins(self.pins, self.k)
        for attribute, most in self.caps.items():
            if not isinstance(most, int) or isinstance(most, bool) or most < 1:
                raise RecipeError(f"query: the cap of {attribute!r} is {most!r}; give a number of items, at least 1")
        if not 0 <= self.exploration <= 1:
            raise RecipeError(f"query: exploration is {self.exploration!r}; give a share from 0 to 1")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise RecipeError(f"query: seed is {self.seed!r}; give a whole number of at least 0")
        for modality, weight in self.modalities.items():
            if modality not in MODALITIES and not modality.startswith("vector:"):
                raise RecipeError(f"query: unknown modality {modality!r}; {nearest(modality, MODALITIES)}")
            if not 0 <= weight <= 100:
                raise RecipeError(f"query: the weight of {modality} is {weight!r}; give a number from 0 to 100")


def check_pins(pins: Mapping[str, int], k: int) -> None:
    """**Raises** RecipeError for a place that the list does not have, or that two items want."""
    taken: dict[int, str] = {}
    for item, place in pins.items():
        if not isinstance(place, int) or isinstance(place, bool) or not 1 <= place <= k:
            raise RecipeError(f"query: {item!r} is pinned to place {place!r}; the list has places 1 to {k}")
        if place in taken:
            raise RecipeError(f"query: {taken[place]!r} and {item!r} are pinned to one place, {place}")
        taken[place] = item


@dataclass(frozen=True)
class Reason:
    """A part of a score: which event carried it, through which source (`crowd`, or a modality), and how much.

    `item` is None for the small parts that were put together, and `kind` is then "". A boost is a part of source `boost`,
    its rule the title.
    """

    item: str | None
    title: str
    kind: str
    time: float | None
    source: str
    amount: float


@dataclass(frozen=True)
class Recommendation:
    """One recommended item. `found` says how it became a candidate: `all`, `near`, `companion`, `popular`, `new`, `trending`; or that it
    was `pinned`, or `explored`: drawn by chance.

    Where an explanation was asked for, the amounts of the reasons and `base` (what no event carried) sum to the score.
    `propensity` is the probability with which it stood at its place, given the items above it.
    """

    item: str
    title: str
    score: float
    found: str
    reasons: tuple[Reason, ...] = ()
    base: float = 0.0
    propensity: float = 1.0


@dataclass(frozen=True)
class Why:
    """Why an item would be recommended to somebody, or not. `place` among `candidates` by score alone (1 the first), None
    where it may not be shown: `barred` says why, in plain lines.
    """

    item: str
    title: str
    score: float
    reasons: tuple[Reason, ...]
    base: float
    place: int | None
    candidates: int
    barred: tuple[str, ...]
    model: str
    notes: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Ranking:
    """The answer, best first. `notes` says in plain lines where something else was done than asked; `version` names the
    snapshot that gave all of it ("" where the run is in memory alone).
    """

    items: tuple[Recommendation, ...]
    model: str
    candidates: int
    notes: tuple[str, ...] = ()
    version: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def ids(self) -> list[str]:
        """The recommended ids in order."""
        return [entry.item for entry in self.items]


def parse_rules(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Several rules; an item must fulfil all of them."""
    return tuple(parse_rule(line) for line in lines)
