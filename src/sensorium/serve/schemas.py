"""What goes over the wire under /v1, as the OpenAPI description tells it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=512, description="An id of yours.")]
Count = Annotated[int, Field(ge=1, le=1000)]


class Wire(BaseModel):
    """Unknown fields are an error: a slip in a name must not be silence."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null", allow_inf_nan=False)


class Ask(Wire):
    """Everything is optional: without user and `like` a stranger is answered. What is not said, the recipe says."""

    user: Id | None = None
    like: list[Id] = Field([], max_length=100, description="Items of this moment, or: more like these.")
    unlike: list[Id] = Field([], max_length=100)
    k: Count | None = None
    exclude: list[Id] = Field([], max_length=10_000)
    rules: list[str] = Field([], max_length=50, description="Such as price<=20, genres=Comedy|Drama, genres!=Horror.")
    repeat: bool | None = None
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    explain: bool = False


class Reason(Wire):
    """A part of a score: which event carried it, through the crowd or a modality, and how much."""

    item: str | None
    title: str
    kind: str
    time: float | None
    source: str
    amount: float


class Recommended(Wire):
    """`reasons` and `base` sum to the score, where they were asked for. `source` says how it became a candidate."""

    item: str
    title: str
    score: float
    source: str
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


class Item(Wire):
    """Columns as in a table of items: title, text, attributes; media as paths under the media folder."""

    model_config = ConfigDict(extra="allow")
    item_id: Id
    hidden: bool = False


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


class Words(Wire):
    """What to search for."""

    words: Annotated[str, Field(min_length=1, max_length=2000)]
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


class Wrong(Wire):
    """Why a request was refused, in one line."""

    error: str
