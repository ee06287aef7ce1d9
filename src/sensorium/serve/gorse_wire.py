"""What goes over the wire under /api: Gorse's shapes, as the OpenAPI description tells them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from sensorium.rank.query import MOST
from sensorium.serve.schemas import Id


class Wire(BaseModel):
    """What Gorse's clients send and get; unknown fields are passed over, as Gorse does."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


Word = Annotated[str, Field(min_length=1, max_length=512)]
NAMED = r"[^\s\x00-\x1f-]"  # of a type something must be left once blanks and hyphens are folded
Words = Annotated[list[Word], Field(max_length=1000)]
# Other forms are read too (`moment`); the description tells the one to write.
Time = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]


class Item(Wire):
    """An item."""

    ItemId: Id
    IsHidden: bool | None = False
    Categories: Words | None = None
    Timestamp: Time | None = ""
    Labels: Any = None
    Comment: str | None = ""


class ItemTold(Item):
    """An item as it is answered: it may have come by other ways, whose ids and categories are not as bounded."""

    ItemId: str
    Categories: list[str] | None = None


class ItemPatch(Wire):
    """What changes of an item; null stays as it is."""

    IsHidden: bool | None = None
    Categories: Words | None = None
    Timestamp: Time | None = None
    Labels: Any = None
    Comment: str | None = None


class User(Wire):
    """A person."""

    UserId: Id
    Labels: Any = None
    Comment: str | None = ""


class UserTold(User):
    """A person as they are answered: known by whatever id the run's tables have."""

    UserId: str


class UserPatch(Wire):
    """What changes of a person; null stays as it is."""

    Labels: Any = None
    Comment: str | None = None


class Feedback(Wire):
    """What somebody did with an item. A `Value` of 0 is none; without `Timestamp` it is now."""

    FeedbackType: Annotated[str, Field(max_length=64, pattern=NAMED)]
    UserId: Id
    ItemId: Id
    Value: Annotated[float, Field(ge=-1e30, le=1e30)] | None = 0.0
    Timestamp: Time | None = ""
    Comment: Annotated[str, Field(max_length=20_000)] | None = ""


class Told(Feedback):
    """Feedback as it is answered: `Value` is the sum, `Timestamp` of the first time, `Updated` of the last."""

    FeedbackType: str  # the log holds what came by other ways too
    UserId: str
    ItemId: str
    Value: float | None = 0.0
    Comment: str | None = ""
    Updated: Time = ""


class InSession(Wire):
    """Feedback of a session: nobody's."""

    ItemId: Id
    FeedbackType: Annotated[str, Field(max_length=64)] | None = ""
    Timestamp: Time | None = ""


class Success(Wire):
    """How many were changed."""

    RowAffected: int


class Score(Wire):
    """An item and how well it fits."""

    Id: str
    Score: float


class ItemIterator(Wire):
    """Some items; an empty cursor closes the list."""

    Cursor: str
    Items: list[ItemTold]


class UserIterator(Wire):
    """Some people; an empty cursor closes the list."""

    Cursor: str
    Users: list[UserTold]


class FeedbackIterator(Wire):
    """Some feedback; an empty cursor closes the list."""

    Cursor: str
    Feedback: list[Told]


class Health(Wire):
    """Whether it can answer."""

    Ready: bool
    DataStoreError: str | None = None
    CacheStoreError: str | None = None
    DataStoreConnected: bool = True
    CacheStoreConnected: bool = True


DURATION = r"\d{1,4}(?:\.\d{1,9})?(?:h|ms|m|s)"  # the longest, of eight parts, is nine years
N = Annotated[int, Query(ge=1, le=MOST)]
Many = Annotated[int, Query(ge=1, le=10_000)]
Offset = Annotated[int, Query(ge=0, le=2**31)]
Category = Annotated[list[Annotated[str, Field(max_length=512)]], Query(max_length=20)]
Person = Annotated[str, Query(alias="user-id", max_length=512)]
Place = Annotated[str, Query(pattern=r"^\d{0,18}$")]  # in the log, as a cursor
PlaceJs = Annotated[str, Query(alias="Cursor", pattern=r"^\d{0,18}$")]
Cursor = Annotated[str, Query(max_length=1024)]
CursorJs = Annotated[str, Query(alias="Cursor", max_length=1024)]  # as gorsejs spells it
