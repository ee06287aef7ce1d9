"""What goes over the wire under /v1, as the OpenAPI description tells it."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict

from sensorium.data.clean import clean_id
from sensorium.serve.documents import MARKS


def _whole(value: Any) -> Any:
    return int(value) if type(value) is float and value.is_integer() else value


# As a table's ids are read: without outer space, in NFC; one of nothing else stays, for somebody to be told of it.
Id = Annotated[
    str,
    Field(min_length=1, max_length=512, description="An id of yours."),
    AfterValidator(lambda given: clean_id(given) or given),
]
NAMED = r"[^\s\x00-\x1f-]"  # of a kind something must be left once blanks and hyphens are folded
WHOLE = BeforeValidator(_whole)  # to JSON 5.0 is a whole number too; after its bounds, or the description lacks them
Count = Annotated[int, Field(ge=1, le=1000), WHOLE]


class Wire(BaseModel):
    """Unknown fields are an error, and so is text or a number for a truth value: a slip must not be silence."""

    model_config = ConfigDict(extra="forbid", strict=True, ser_json_inf_nan="null", allow_inf_nan=False)


class Event(Wire):
    """What somebody did. Without `time` it is now; with a `key`, sending it twice stores it once."""

    user: Id
    item: Id
    kind: Annotated[str, Field(min_length=1, max_length=64, pattern=NAMED)] = "view"
    time: Annotated[float, Field(ge=-62135596800, le=253402300799)] | None = Field(
        None, description="Seconds since 1970, of the years 1 to 9999.",
    )  # fmt: skip
    value: Annotated[float, Field(ge=-1e30, le=1e30)] | None = Field(None, description="Of a rating.")
    text: Annotated[str, Field(max_length=20_000)] | None = Field(None, description="Of a review.")
    key: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    recommendation: Annotated[str, Field(max_length=64)] | None = Field(
        None,
        description="The id of the answer that showed the item; without it, the newest that showed it to this person.",
    )


class Events(Wire):
    """At most a thousand; more go as a bulk."""

    events: Annotated[list[Event], Field(min_length=1, max_length=1000)]


class Stored(Wire):
    """All events are on the disk; `positions` are theirs in the log."""

    positions: list[int]


class BulkStored(Wire):
    """How many events were stored, and the position of the last."""

    stored: int
    last: int


Line = Annotated[
    str, Field(min_length=1, max_length=1000, description="A rule, such as price<=20, genres=Comedy|Drama.")
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Boosts = Annotated[
    dict[Line, Annotated[float, Field(ge=-10, le=10)]],
    Field(
        max_length=50,
        description="By rule: standard deviations of the candidates' scores that are added where it holds.",
    ),
]
Caps = Annotated[
    dict[Name, Count],
    Field(max_length=10, description="By attribute: how many items of one value the list may hold."),
]


class Wishes(Wire):
    """Who is asked for, and what counts. Everything is optional: without user and `like` a stranger is answered."""

    user: Id | None = None
    like: list[Id] = Field([], max_length=100, description="Items of this moment, or: more like these.")
    unlike: list[Id] = Field([], max_length=100, description="Less like these.")
    exclude: list[Id] = Field([], max_length=10_000)
    rules: list[Line] = Field([], max_length=50)
    repeat: bool | None = Field(None, description="Allow what the person has already seen.")
    boosts: Boosts = {}
    modalities: dict[Name, Annotated[float, Field(ge=0, le=100)]] = Field(
        {}, max_length=50, description="How much text, image, audio, video … count; 1 where not named, 0 leaves out.",
    )  # fmt: skip


class Ask(Wishes):
    """What is not said, the recipe says."""

    k: Count | None = None
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    caps: Caps = {}
    pins: dict[Id, Count] = Field({}, max_length=100, description="By item: its place in the list, 1 the first.")
    exploration: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="The share of places that chance fills; each item's `propensity` then tells its probability.",
    )  # fmt: skip
    seed: Annotated[int, Field(ge=0, lt=2**53), WHOLE] | None = Field(
        None, description="Of that chance; without it, a new one."
    )
    explain: bool = False


def said(model: type[Wire]) -> TypeAdapter[dict[str, Any]]:
    """Reads the same as a model of plain fields into a dict of what is said alone: for Ask an eighth of the time, most of
    which went into copies of empty lists, and a dict made of them again."""
    fields = {
        name: Annotated[(one.annotation, *one.metadata)] if one.metadata else one.annotation
        for name, one in model.model_fields.items()
    }
    named: Any = TypedDict(model.__name__, fields, total=False)  # type: ignore[misc]
    configured: Any = with_config(model.model_config)(named)
    return TypeAdapter(configured)


class AskWhy(Wishes):
    """Why an item, for whom."""

    item: Id


class Reason(Wire):
    """A part of a score: which event carried it, through the crowd or a modality, and how much; or a boost, whose rule is
    the title.
    """

    item: str | None
    title: str
    kind: str
    time: float | None
    source: str
    amount: float


class Recommended(Wire):
    """`reasons` and `base` sum to the score, where they were asked for. `source` says how it became a candidate, or that it
    was `pinned`, or `explored` by chance. `propensity`: the probability of this item here, given those above it.
    """

    item: str
    title: str
    score: float
    source: str
    propensity: float
    reasons: list[Reason] = []
    base: float = 0.0


class Recommendations(Wire):
    """The best items first. `notes` says where something else was done than asked."""

    id: str = Field(description="Send it along with what the person then does.")
    items: list[Recommended]
    model: str
    version: str
    candidates: int
    notes: list[str]


class Why(Wire):
    """`reasons` and `base` sum to the score. `place` is that by score alone, null where the item may not be shown to
    them: `barred` says why.
    """

    item: str
    title: str
    score: float
    reasons: list[Reason]
    base: float
    place: int | None
    candidates: int
    barred: list[str]
    model: str
    version: str
    notes: list[str]


class Item(Wire):
    """Columns as in a table of items: title, text, attributes; media as paths under the media folder."""

    model_config = ConfigDict(extra="allow")
    item_id: Id
    hidden: bool = False

    @model_validator(mode="after")
    def _without_marks(self) -> Self:
        name = next((name for name in MARKS if name in (self.model_extra or {})), None)
        if name is not None:
            raise ValueError(f"{name!r} is a mark of the service's own; give the column another name")
        return self


class Items(Wire):
    """At most a thousand."""

    items: Annotated[list[Item], Field(min_length=1, max_length=1000)]


class Accepted(Wire):
    """The items are on the disk; they are recommendable once encoded, within seconds."""

    change: int


class Page(Wire):
    """Some items by ascending id."""

    items: list[dict[str, Any]]
    next: str | None = Field(description="Send it as `after`; null where there are no more.")


class Looked(Wire):
    """What to search for: words, or a picture under the media folder, or one on the web where that is switched on."""

    words: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    image: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    url: Annotated[str, Field(min_length=8, max_length=2000)] | None = None
    k: Count = 10


class Match(Wire):
    """One result; `by` names the modality that lay nearest to the words."""

    item: str
    title: str
    score: float
    by: str


class Matches(Wire):
    """The nearest items first."""

    items: list[Match]


class Uploaded(Wire):
    """The file is on the disk. It is the item's in this column: at once where the item is known, else once it is put."""

    item: str
    column: str
    file: str
    bytes: int


class Dropped(Wire):
    """The item is in no answer from now on."""

    item: str


class Noted(Wire):
    """What somebody did, with its place in the log. What came by other ways is not as bounded as an event of this API, and a
    kind may be longer than it was sent: it is folded.
    """

    user: str
    item: str
    kind: str
    time: float = Field(description="Seconds since 1970.")
    value: float | None
    text: str | None
    key: str | None
    position: int


class History(Wire):
    """What somebody did, oldest first."""

    events: list[Noted]


class Person(Wire):
    """What the service knows of somebody: `learnt` events are in the version that answers, `live` ones came since."""

    user: str
    learnt: int
    live: int
    last: float | None = Field(description="When they last did something, in seconds since 1970.")
    labels: Any = None
    comment: str = ""


class Forgotten(Wire):
    """The person is erased."""

    user: str


class Standing(Wire):
    """What holds for every answer, besides the recipe's."""

    rules: list[Line] = Field([], max_length=50)
    exclude: list[Id] = Field([], max_length=10_000)
    boosts: Boosts = {}
    caps: Caps = {}


class StandingKept(Standing):
    """`version` counts up with each change; 0: none was ever made."""

    version: int
    time: float | None = Field(description="When it was made, in seconds since 1970.")


class Wrong(Wire):
    """Why a request was refused, in one line."""

    error: str
