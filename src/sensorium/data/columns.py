"""What a column is for: by the recipe, else by its conventional name, else by what it holds.

A *section* says where a table lies and which columns play which role; a role that is left out follows convention.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sensorium.data.content import AUDIO, IMAGE, VIDEO
from sensorium.errors import RecipeError
from sensorium.settings import nearest

AttributeKind = Literal["number", "category", "list", "date", "auto"]  # auto: by what the column holds
MEDIA = (IMAGE, AUDIO, VIDEO)

ITEM_IDS = (
    "item_id", "itemid", "item", "id", "iid", "product_id", "article_id", "movie_id", "track_id", "song_id", "book_id",
    "video_id", "business_id", "content_id", "parent_asin", "asin", "sku", "isbn", "item_no", "product", "article",
    "movie", "artist_id",
)  # fmt: skip
USER_IDS = (
    "user_id", "userid", "user", "id", "uid", "customer_id", "person_id", "reviewer_id", "visitor_id", "member_id",
    "account_id", "session_id", "client_id", "customer", "person", "visitor", "reviewer",
)  # fmt: skip
TITLES = (
    "title", "name", "prod_name", "product_name", "item_name", "movie_title", "track_name", "song_title", "book_title",
    "headline", "heading",
)  # fmt: skip
TEXTS = (
    *TITLES, "subtitle", "tagline", "summary", "overview", "plot", "synopsis", "description", "desc", "detail_desc",
    "details", "abstract", "body", "content", "text", "generated_text", "caption", "lyrics", "transcript", "features",
    "bio", "about", "about_me", "biography", "profile",
)  # fmt: skip
MEDIA_NAMES: Mapping[str, tuple[str, ...]] = {
    IMAGE: ("image", "images", "img", "poster", "posters", "photo", "photos", "picture", "pictures", "cover", "avatar",
            "thumbnail", "photograph"),
    AUDIO: ("audio", "sound", "sounds", "track", "recording", "song", "music", "voice"),
    VIDEO: ("video", "videos", "clip", "clips", "trailer", "film"),
}  # fmt: skip
ENDINGS: Mapping[str, tuple[str, ...]] = {
    IMAGE: (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jfif", ".ppm"),
    AUDIO: (".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".wma"),
    VIDEO: (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".gif"),
}  # fmt: skip
LISTS = (
    "genres", "genre", "tags", "tag", "categories", "category", "keywords", "labels", "topics", "actors", "cast",
    "directors", "authors", "artists", "colours", "colors", "interests", "ingredients",
)  # fmt: skip
CATEGORIES = (
    "colour", "color", "brand", "department", "gender", "sex", "occupation", "language", "country", "city", "region",
    "zip", "zipcode", "zip_code", "postcode", "postal_code", "product_type", "type", "format", "maker", "publisher",
    "segment",
)  # fmt: skip
NUMBERS = ("price", "year", "age", "weight", "length", "duration", "size_bytes", "runtime", "pages", "height", "width")
DATES = (
    "date",
    "release_date",
    "released",
    "published",
    "published_at",
    "created",
    "created_at",
    "birthday",
    "birth_date",
)

RATINGS = ("rating", "ratings", "stars", "score", "overall", "grade")
ROLES: Mapping[str, tuple[str, ...]] = {
    "user": USER_IDS,
    "item": ITEM_IDS,
    "kind": ("event", "kind", "event_type", "action", "behavior", "behaviour", "interaction", "type", "event_name"),
    "time": ("timestamp", "time", "date", "datetime", "ts", "unix_review_time", "review_time", "event_time", "t_dat",
             "created_at", "when", "t"),
    "value": (*RATINGS, "value", "quantity", "count", "plays", "play_count", "weight", "watch_time", "seconds"),
    "text": ("summary", "review_title", "review_text", "review", "text", "comment", "comments", "body", "review_body"),
}  # fmt: skip
"""Conventional names of the columns of events, the most telling first. Only `text` takes several."""


@dataclass(frozen=True)
class Things:
    """`[items]` or `[users]` of a recipe: the files and what their columns mean. None follows convention, () is none.

    `columns` names the columns of files without a header. `vectors` maps a name to a `.npy` file, whose row is the
    row of the table, or to a Parquet list column.
    """

    files: tuple[str, ...] = ()
    id: str | None = None
    title: str | None = None
    text: tuple[str, ...] | None = None
    image: tuple[str, ...] | None = None
    audio: tuple[str, ...] | None = None
    video: tuple[str, ...] | None = None
    attributes: Mapping[str, AttributeKind] | None = None
    vectors: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    @property
    def conventional(self) -> bool:
        """Whether no role of content is named, so that every column may be taken for what it seems."""
        return all(role is None for role in (self.text, self.image, self.audio, self.video, self.attributes))


@dataclass(frozen=True)
class Behaviour:
    """`[events]` of a recipe. None follows convention, "" is none. `kinds` gives weights to kinds of events."""

    files: tuple[str, ...] = ()
    user: str | None = None
    item: str | None = None
    kind: str | None = None
    value: str | None = None
    time: str | None = None
    text: tuple[str, ...] | None = None
    kinds: Mapping[str, float] = field(default_factory=dict)
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """All tables of one world. `train`, `valid`, `test` are files of events that somebody else has split already."""

    items: Things = Things()
    users: Things = Things()
    events: Behaviour = Behaviour()
    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    folder: Path = Path()
    where: str = ""  # the recipe's file, for messages


@dataclass(frozen=True)
class Taken:
    """What a run took the columns of its own table of items for, so that whatever comes later is read alike.

    `roles` are those of the report by column, texts in the order in which they are read. `undivided` are the signs that
    stand within the entries of a column of lists, and so divide none; `sizes` the lengths of ready vectors by name.
    """

    roles: Mapping[str, str] = field(default_factory=dict)
    undivided: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)


NOTHING = Taken()


@dataclass(frozen=True)
class ItemRoles:
    """The roles of one file's columns. `spare` may become attributes; `unused` are left alone, and why."""

    id: str
    title: str | None
    text: tuple[str, ...]
    media: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, AttributeKind]
    vectors: Mapping[str, str]
    spare: tuple[str, ...]
    unused: Mapping[str, str]


@dataclass(frozen=True)
class EventRoles:
    """The roles of the columns of events; None where there is none."""

    user: str
    item: str
    kind: str | None
    value: str | None
    time: str | None
    text: tuple[str, ...]
    rating: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is needed."""
        return tuple(c for c in (self.user, self.item, self.kind, self.value, self.time, *self.text) if c)


def plain(name: str) -> str:
    """A column's name as conventions spell it.

    >>> plain("reviewText"), plain("Product ID"), plain("detail-desc")
    ('review_text', 'product_id', 'detail_desc')
    """
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name.strip())
    return re.sub(r"[^0-9a-z\w]+", "_", name.lower()).strip("_")


def find(names: Sequence[str], conventional: Iterable[str]) -> str | None:
    """The column whose name stands first among the conventional ones."""
    known = {plain(name): name for name in reversed(names)}
    return next((known[word] for word in conventional if word in known), None)


def named(column: str, known: Sequence[str], where: str) -> str:
    """The column, if it is there. **Raises** RecipeError with the nearest one."""
    if column in known:
        return column
    raise RecipeError(f"{where}: there is no column {column!r}; {nearest(column, known)}")


def item_roles(
    names: Sequence[str], section: Things, *, where: str, what: str = "items", taken: Taken = NOTHING
) -> ItemRoles:
    """Who plays what in a table of items (or users); what a column was `taken` for goes before conventions.

    **Raises** RecipeError for an unknown column, or no id.
    """
    ids = ITEM_IDS if what == "items" else USER_IDS
    key = f"{where} [{what}]"
    known = {name: role for name, role in taken.roles.items() if name in names}
    identity = named(section.id, names, f"{key} id") if section.id else having("id", known) or find(names, ids)
    if identity is None:
        raise RecipeError(
            f"{where}: no column holds the ids of {what} (its columns: {', '.join(names)}); "
            f"name it: [{what}] id = …, or rename it {ids[0]}"
        )
    left = [name for name in names if name != identity]
    vectors = dict(section.vectors)
    for name, column in vectors.items():
        if not column.endswith(".npy"):
            named(column, names, f"{key} vectors.{name}")
    left = [name for name in left if name not in vectors.values()]
    if section.conventional:
        known = {name: role for name, role in known.items() if name in left}
        fresh = [name for name in left if name not in known]
        title = named(section.title, names, f"{key} title") if section.title else having("title", known)
        title = title or find(fresh if having("title", taken.roles) else left, TITLES)
        media = {kind: tuple(n for n in left if _plays(n, kind, known)) for kind in MEDIA}
        claimed = {name for columns in media.values() for name in columns}
        text = (
            *(n for n, role in known.items() if role in ("text", "title, text")),
            *(n for n in fresh if n not in claimed and (_is_text(n) or n == title)),
        )
        spare = tuple(n for n in fresh if n not in claimed and n not in text)
        facts: Any = _those("attribute: ", known)
        vectors |= {name: column for column, name in _those("vector:", known).items() if name not in vectors}
        unused = _those("unused: ", known) | {n: "it holds ids" for n, role in known.items() if role == "id"}
        return ItemRoles(identity, title, _reading_order(text, title), media, facts, vectors, spare, unused)
    text = tuple(named(c, names, f"{key} text") for c in section.text or ())
    media = {kind: tuple(named(c, names, f"{key} {kind}") for c in getattr(section, kind) or ()) for kind in MEDIA}
    attributes = {named(c, names, f"{key} attributes"): kind for c, kind in (section.attributes or {}).items()}
    kinds: Any = _those("attribute: ", known)
    attributes = {column: kinds.get(column, kind) if kind == "auto" else kind for column, kind in attributes.items()}
    title = (
        named(section.title, names, f"{key} title") if section.title else having("title", known) or find(left, TITLES)
    )
    used = {identity, title, *text, *attributes, *vectors.values(), *(c for cs in media.values() for c in cs)}
    unused = {name: "the recipe does not name it" for name in names if name not in used}
    return ItemRoles(identity, title, text, media, attributes, vectors, (), unused)


def event_roles(names: Sequence[str], section: Behaviour, *, where: str) -> EventRoles:
    """Who plays what in a table of events. **Raises** RecipeError for an unknown column, or where people or items lack."""
    taken: dict[str, str | None] = {}
    left = list(names)
    for role in ("user", "item", "kind", "value", "time"):
        asked = getattr(section, role)
        if asked:
            taken[role] = named(asked, names, f"{where} [events] {role}")
    left = [name for name in names if name not in taken.values()]
    for role in ("user", "item", "time", "value", "kind"):
        asked = getattr(section, role)
        if asked is None:
            # A bare "id" in a log is the id of the event, not of a person or an item.
            taken[role] = find(left, [w for w in ROLES[role] if w != "id"])
            left = [name for name in left if name != taken[role]]
        elif not asked:
            taken[role] = None
    user, item = taken["user"], taken["item"]
    if user is None or item is None:
        lacking = "people" if user is None else "items"
        raise RecipeError(
            f"{where}: no column holds the ids of {lacking} (its columns: {', '.join(names)}); "
            f"name it: [events] {'user' if user is None else 'item'} = …, or rename it "
            f"{'user_id' if user is None else 'item_id'}; a file without a header needs columns = […]"
        )
    if section.text is None:
        words = ROLES["text"]
        text = tuple(sorted((n for n in left if plain(n) in words), key=lambda n: words.index(plain(n))))
    else:
        text = tuple(named(c, names, f"{where} [events] text") for c in section.text)
    value = taken["value"]
    rating = value is not None and plain(value) in RATINGS
    return EventRoles(user, item, taken["kind"], value, taken["time"], text, rating)


def having(role: str, roles: Mapping[str, str]) -> str | None:
    """The column that has a role which one alone has; the last, where later ones were laid over those of the run."""
    return next((name for name, one in reversed(list(roles.items())) if one.split(",")[0] == role), None)


def _those(beginning: str, roles: Mapping[str, str]) -> dict[str, str]:
    """The columns whose role begins so, and how it goes on."""
    return {name: role.removeprefix(beginning) for name, role in roles.items() if role.startswith(beginning)}


def _plays(name: str, kind: str, known: Mapping[str, str]) -> bool:
    return known[name] == kind if name in known else _is_media(name, kind)


def _is_media(name: str, kind: str) -> bool:
    words = set(plain(name).split("_"))
    if words & {"id", "name", "title", "count", "type", "url", "width", "height", "length", "size"}:
        return False
    return bool(words & set(MEDIA_NAMES[kind])) and (plain(name) in MEDIA_NAMES[kind] or bool(words & _PATHS))


_PATHS = {"path", "paths", "file", "files", "filename", "location"}


def _is_text(name: str) -> bool:
    word = plain(name)
    return word in TEXTS or word.endswith(("_description", "_desc", "_text", "_summary", "_plot", "_bio"))


def _reading_order(text: tuple[str, ...], title: str | None) -> tuple[str, ...]:
    """The title first, then the fields as the table has them."""
    return tuple(sorted(text, key=lambda name: name != title))
