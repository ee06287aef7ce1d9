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
SOURCES = ("near", "companion", "popular", "new")  # of candidates
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
    1970 (None: the moment of the person's last event). `sources`: of which candidates the list is made (near, companion,
    popular, new; none named: what the engine thinks best). `members`: what each member of a blend counts for this query.
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


@dataclass(frozen=True)
class Reason:
    """A part of a score: which event carried it, through which source (`crowd`, or a modality), and how much.

    `item` is None for the small parts that were put together, and `kind` is then "".
    """

    item: str | None
    title: str
    kind: str
    time: float | None
    source: str
    amount: float


@dataclass(frozen=True)
class Recommendation:
    """One recommended item. `found` says how it became a candidate: `all`, `near`, `companion`, `popular`, `new`.

    Where an explanation was asked for, the amounts of the reasons and `base` (what no event carried) sum to the score.
    """

    item: str
    title: str
    score: float
    found: str
    reasons: tuple[Reason, ...] = ()
    base: float = 0.0


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
