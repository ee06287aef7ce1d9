"""The recipe: one TOML file that says what to read, how to encode, fuse and learn, how to split and how to answer.

Every key is the field of a frozen dataclass; an unknown key, name or column is an error that names the nearest. The
tables below are the only place where a name becomes a class.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import numbers
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sensorium.data.columns import Behaviour, Sources, Things
from sensorium.data.events import KINDS
from sensorium.data.prepare import folded, known_kind
from sensorium.data.split import SplitSettings
from sensorium.errors import RecipeError
from sensorium.rank.query import MOST, parse_rule
from sensorium.settings import nearest, read_settings
from sensorium.train.augment import Augment

S = TypeVar("S")


class Classes(Mapping[str, Any]):
    """A table of names and classes; a class is imported when it is asked for."""

    def __init__(self, what: str, **places: str) -> None:
        self.what, self._places = what, places

    def __getitem__(self, name: str) -> Any:
        if name not in self._places:
            raise KeyError(name)
        module, _, thing = self._places[name].partition(":")
        return getattr(importlib.import_module(f"sensorium.{module}"), thing)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def make(self, name: str, settings: Mapping[str, Any] | None = None, *, where: str = "") -> Any:
        """An instance by name. **Raises** RecipeError for an unknown name or setting, with the nearest one."""
        where = where or self.what
        if name not in self._places:
            raise RecipeError(f"{where}: {name!r} is no {self.what}; {nearest(name, self)}")
        return read_settings(self[name], settings or {}, where=where)

    def name_of(self, settings: Any) -> str:
        """The name under which the class of some settings stands here. **Raises** RecipeError where it does not."""
        module, kind = type(settings).__module__.removeprefix("sensorium."), type(settings).__name__
        for name, place in self._places.items():
            home, _, thing = place.partition(":")
            if thing == kind and f"{module}.".startswith(f"{home}."):  # of a package, the module inside it
                return name
        raise RecipeError(f"{type(settings).__name__} stands in no table of recipe.py")


RECOMMENDERS = Classes(
    "recommender",
    popularity="models.popularity:Popularity",
    content="models.content:Content",
    itemknn="models.itemknn:ItemKnn",
    ease="models.ease:Ease",
    directed="models.directed:Directed",
    ials="models.ials:Ials",
    hybrid="models.hybrid.hybrid:Hybrid",
    profile="models.profile:Profile",
    graph="models.graph:Graph",
    lightgcn="models.lightgcn:LightGcn",
    coldaligner="models.coldaligner:ColdAligner",
    sequence="models.sequence.sequence:Sequence",
    lstm="models.sequence.sequence:Lstm",
    ratings="models.ratings.recommend:RatingsRecommender",
    blend="models.blend:Blend",
    auto="models.auto:Auto",
    thorough="models.auto:Thorough",
)
FUSIONS = Classes(
    "fusion",
    concat="fuse.concat:Concat",
    gated="fuse.gated:Gated",
    align="fuse.align:Align",
)
HEAVIEST = 1000.0  # what one event may weigh at most, for or against its item
MODALITIES = ("text", "image", "audio", "video", "attributes", "words", "look", "tokens")


@dataclass(frozen=True)
class Answer:
    """`[answer]`: what a request gets that does not say otherwise; see `sensorium.rank.query.Query`.

    `k`, `diversity` and `repeat` of a request stand in the place of these; its `rules` and `exclude` are added to these.
    """

    k: int = 10
    diversity: float = 0.0
    repeat: bool = False
    rules: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MOST:
            raise ValueError(f"k is {self.k}; ask for 1 to {MOST} results")
        if not 0 <= self.diversity <= 1:
            raise ValueError(f"diversity is {self.diversity}; give a number from 0 to 1")
        for line in self.rules:
            try:
                parse_rule(line)
            except RecipeError as error:
                raise ValueError(str(error)) from None


def _check_kinds(recipe: Recipe) -> None:
    """**Raises** RecipeError where a recommender weighs a kind of event that nobody knows: a slip would count for nothing."""
    given = {folded(kind): weight for kind, weight in recipe.events.kinds.items()}
    for table in ("kinds", "heard", "conversion"):
        for kind in getattr(recipe.recommender, table, {}):
            if not known_kind(kind, given):
                raise RecipeError(
                    f"{recipe.where or 'recipe'} [recommender] {table}: unknown kind {kind!r}; "
                    f"{nearest(kind, (*KINDS, *given))}, or name it under [events.kinds]"
                )


@dataclass(frozen=True)
class Recipe(Sources):
    """All that a run is made from: the sources, and the settings of every stage."""

    split: SplitSettings = field(default_factory=SplitSettings)
    encode: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    augment: Augment = field(default_factory=Augment)
    fusion: Any = field(default_factory=lambda: FUSIONS.make("concat"))
    recommender: Any = field(default_factory=lambda: RECOMMENDERS.make("auto"))
    answer: Answer = Answer()
    seed: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        for kind, weight in self.events.kinds.items():
            if not abs(weight) <= HEAVIEST:  # nor NaN
                raise RecipeError(
                    f"{self.where or 'recipe'} [events.kinds] {kind}: {weight!r} should be a number from "
                    f"{-HEAVIEST:g} to {HEAVIEST:g}"
                )
        _check_kinds(self)

    def seeded(self, seed: int | None = None, *, strict: bool = False) -> Recipe:
        """This recipe with another seed (None: its own), and strict where either is. **Raises** RecipeError."""
        return dataclasses.replace(self, seed=self.seed if seed is None else seed, strict=self.strict or strict)

    def rooted(self) -> Recipe:
        """This recipe with whole paths, so that it means the same from any folder."""
        root = self.folder.resolve()

        def whole(paths: Sequence[str]) -> tuple[str, ...]:
            return tuple(str(root / path) for path in paths)

        def things(section: Things) -> Things:
            vectors = {n: str(root / v) if v.endswith(".npy") else v for n, v in section.vectors.items()}
            return dataclasses.replace(section, files=whole(section.files), vectors=vectors)

        events = dataclasses.replace(self.events, files=whole(self.events.files))
        parts: dict[str, Any] = {name: whole(getattr(self, name)) for name in ("train", "valid", "test")}
        return dataclasses.replace(self, items=things(self.items), users=things(self.users), events=events, **parts)

    def kind_weights(self) -> Mapping[str, float]:
        """The weights of kinds of events that this recipe names."""
        return self.events.kinds


_SECTIONS = (
    "items",
    "users",
    "events",
    "split",
    "encode",
    "augment",
    "fusion",
    "recommender",
    "answer",
    "seed",
    "strict",
)


def read_recipe(path: Path | str) -> Recipe:
    """The recipe in a file; its paths are relative to the file's folder. **Raises** RecipeError that names file and key."""
    path = Path(path)
    if path.is_dir():
        raise RecipeError(f"{path} is a folder; name the recipe in it")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise RecipeError(f"there is no recipe {path}; check the name") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as UTF-8 text ({error})") from None
    return read_recipe_text(text, folder=path.parent, where=path.name)


def read_recipe_text(text: str, *, folder: Path = Path(), where: str = "recipe") -> Recipe:
    """The recipe in a text. `where` names it in errors."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{where} is not TOML: {error}") from None
    for key in raw:
        if key not in _SECTIONS:
            raise RecipeError(f"{where}: unknown key {key!r}; {nearest(key, _SECTIONS)}")
    split, files = _split(raw.get("split", {}), where)
    values: dict[str, Any] = {
        "items": _section(Things, raw, "items", where),
        "users": _section(Things, raw, "users", where),
        "events": _section(Behaviour, raw, "events", where),
        "split": split,
        "encode": _encode(raw.get("encode", {}), where),
        "augment": _section(Augment, raw, "augment", where),
        "fusion": _choice(FUSIONS, raw.get("fusion", "concat"), f"{where} [fusion]"),
        "recommender": _choice(RECOMMENDERS, raw.get("recommender", "auto"), f"{where} [recommender]"),
        "answer": _section(Answer, raw, "answer", where),
    } | files
    rest: dict[str, Any] = {key: raw[key] for key in ("seed", "strict") if key in raw}
    checked = read_settings(_Plain, rest, where=where)
    return Recipe(**values, folder=folder, where=where, seed=checked.seed, strict=checked.strict)


def recipe_of(
    *, items: Sequence[str] | str = (), events: Sequence[str] | str = (), users: Sequence[str] | str = (),
    train: Sequence[str] | str = (), valid: Sequence[str] | str = (), test: Sequence[str] | str = (),
    split: str | None = None, recommender: str = "auto", fusion: str = "concat", seed: int = 0, strict: bool = False,
    folder: Path = Path(),
) -> Recipe:  # fmt: skip
    """The recipe that a command line of tables means; columns are found by their conventional names."""
    by = split or ("given" if train else None)
    settings = read_settings(SplitSettings, {"by": by} if by else {}, where="--split")
    if (settings.by == "given") != bool(train):
        raise RecipeError("--split given and --train FILE --test FILE belong together")
    return Recipe(
        items=Things(files=_tuple(items)), users=Things(files=_tuple(users)), events=Behaviour(files=_tuple(events)),
        train=_tuple(train), valid=_tuple(valid), test=_tuple(test), folder=folder, split=settings,
        fusion=FUSIONS.make(fusion, where="--fusion"), recommender=RECOMMENDERS.make(recommender, where="--model"),
        seed=seed, strict=strict,
    )  # fmt: skip


def dump(recipe: Recipe) -> str:
    """The recipe as TOML, the same text for equal recipes: what a run stores. Paths stand as they were written.

    >>> read_recipe_text(dump(recipe_of(items="a.csv", seed=3))).seed
    3
    """
    tables: dict[str, dict[str, Any]] = {
        "items": _values(recipe.items), "users": _values(recipe.users), "events": _values(recipe.events),
        "split": _values(recipe.split) | {k: v for k in ("train", "valid", "test") if (v := getattr(recipe, k))},
        "encode": dict(recipe.encode),
        "augment": _values(recipe.augment),
        "fusion": {"name": FUSIONS.name_of(recipe.fusion)} | _values(recipe.fusion),
        "recommender": {"name": RECOMMENDERS.name_of(recipe.recommender)} | _values(recipe.recommender),
        "answer": _values(recipe.answer),
    }  # fmt: skip
    lines = [f"seed = {recipe.seed}", f"strict = {_toml(recipe.strict)}"]
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]", *(f"{_key(k)} = {_toml(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Plain:
    seed: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        try:
            _check_seed(self.seed)
        except RecipeError as error:
            raise ValueError(str(error)) from None


def _check_seed(seed: object) -> None:
    """**Raises** RecipeError for anything but a whole number that a generator takes."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < 1 << 63:
        raise RecipeError(f"seed is {seed!r}; give a whole number from 0")


def _section(kind: type[S], raw: Mapping[str, Any], name: str, where: str) -> S:
    """One section as its class; a single word stands for a list of one."""
    table = raw.get(name, {})
    key = f"{where} [{name}]"
    if not isinstance(table, Mapping):
        raise RecipeError(f"{key}: {table!r} should be a table of keys")
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for word, value in table.items():
        hint = hints.get(word)
        options = typing.get_args(hint) if typing.get_origin(hint) is not tuple else (hint,)
        several = any(typing.get_origin(option) is tuple for option in options)
        if isinstance(value, str) and several:
            value = [value] if value else []
        elif several and not (isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)):
            one = "a file name" if word == "files" else "a text"
            raise RecipeError(f"{key}.{word}: {value!r} should be {one} or a list of them")
        tables = [name for name, kind_of in hints.items() if _takes_table(kind_of)]
        if isinstance(value, Mapping) and word in hints and word not in tables:
            raise RecipeError(f"{key}.{word} is no table of keys; {nearest(word, tables)}")
        if word == "attributes" and isinstance(value, list | str):
            value = dict.fromkeys([value] if isinstance(value, str) else value, "auto")
        values[word] = value
    return _read(kind, values, key)


def _takes_table(hint: Any) -> bool:
    options = (hint, *typing.get_args(hint)) if typing.get_origin(hint) is not tuple else (hint,)
    return any(option is Any or (typing.get_origin(option) or option) in (Mapping, dict) or dataclasses.is_dataclass(option)
               for option in options)  # fmt: skip


def _read(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """`read_settings`, with a hint of the nearest word where an attribute's kind is mistyped."""
    kinds = ("number", "category", "list", "date", "auto")
    attributes = values.get("attributes")
    if kind is Things and isinstance(attributes, Mapping):
        for column, word in attributes.items():
            if word not in kinds:
                raise RecipeError(f"{where} attributes.{column}: {word!r} is no kind; {nearest(str(word), kinds)}")
    return read_settings(kind, values, where=where)


def _split(table: Any, where: str) -> tuple[SplitSettings, dict[str, tuple[str, ...]]]:
    """`[split]`: settings, and the files of a given split. `test = 0.1` is a share, `test = "test.csv"` a file."""
    key = f"{where} [split]"
    if not isinstance(table, Mapping):
        raise RecipeError(f"{key}: {table!r} should be a table of keys")
    files = {
        word: _tuple(value)
        for word, value in table.items()
        if word in ("train", "valid", "test") and isinstance(value, str | list)
    }
    known = [f.name for f in dataclasses.fields(SplitSettings)]
    rest = {word: value for word, value in table.items() if word not in files}
    for word in rest:
        if word not in known:
            raise RecipeError(f"{key}: unknown key {word!r}; {nearest(word, [*known, 'train', 'valid'])}")
    if files:
        rest.setdefault("by", "given")
    settings = read_settings(SplitSettings, rest, where=key)
    if settings.by == "given" and not (files.get("train") and files.get("test")):
        raise RecipeError(f"{key}: by = 'given' needs the files train = … and test = … (valid = … may stand beside)")
    if settings.by != "given" and files:
        raise RecipeError(f"{key}: files of {', '.join(files)} go with by = 'given', not {settings.by!r}")
    return settings, files


def _encode(table: Any, where: str) -> Mapping[str, str | Mapping[str, Any]]:
    """`[encode]`: a modality and its encoder, by name or as a table with a name and settings."""
    if not isinstance(table, Mapping):
        raise RecipeError(f"{where} [encode]: {table!r} should be a table of keys")
    for modality, choice in table.items():
        if modality not in MODALITIES:
            raise RecipeError(f"{where} [encode]: unknown key {modality!r}; {nearest(modality, MODALITIES)}")
        if not isinstance(choice, str | Mapping):
            raise RecipeError(f"{where} [encode] {modality}: {choice!r} should be a name, or a table with one")
    return dict(table)


def _choice(classes: Classes, value: Any, where: str) -> Any:
    """An entry of a table: `"ease"`, or `{name = "ease", l2 = 500}`."""
    if isinstance(value, str):
        return classes.make(value, where=where)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return classes.make(value["name"], {k: v for k, v in value.items() if k != "name"}, where=where)
    raise RecipeError(f"{where}: name = … is missing; {nearest('', classes)}")


def _tuple(value: Sequence[str] | str) -> tuple[str, ...]:
    return (str(value),) if isinstance(value, str | Path) else tuple(str(entry) for entry in value)


def _values(settings: Any) -> dict[str, Any]:
    """The fields that differ from their defaults and that TOML can say."""
    found: dict[str, Any] = {}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value == default or value is None:
            continue
        if dataclasses.is_dataclass(value):
            # A field of any type is read back as what its name means, where that is a recommender (a blend's members).
            if f.type not in ("Any", Any) or (f.name in RECOMMENDERS and isinstance(value, RECOMMENDERS[f.name])):
                found[f.name] = _values(value)
        elif isinstance(value, bool | int | float | str | tuple | list | Mapping):
            found[f.name] = value
    return found


def _key(name: str) -> str:
    return name if name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(k))} = {_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
