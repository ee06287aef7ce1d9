"""Settings are frozen dataclasses; this room reads them from a recipe's mapping, and names the nearest word for a typo."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from sensorium.errors import RecipeError

S = TypeVar("S")
INF = float("inf")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them when none is near.

    >>> nearest("titel", ["title", "genre"])
    "did you mean 'title'?"
    """
    known = list(dict.fromkeys(known))
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(map(str, known)) if known else "none is known here"


def within(settings: object, **limits: tuple[float, float]) -> None:
    """**Raises** RecipeError for a field of `settings` outside its limits (least, most), both allowed, or not finite."""
    for name, (least, most) in limits.items():
        value = getattr(settings, name)
        if not (least <= value <= most and math.isfinite(value)):
            span = f"from {least:g} to {most:g}" if most < INF else f"of at least {least:g}"
            raise RecipeError(f"{type(settings).__name__.lower()}: {name} = {value!r} should be a number {span}")


def read_settings(kind: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """An instance of the settings class `kind` from a mapping; nothing is ignored, nothing is guessed.

    **Raises** RecipeError for a key that the class lacks or a value of another type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    hints = typing.get_type_hints(kind)
    ready: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise RecipeError(f"{where}: unknown key {key!r}; {nearest(key, fields)}")
        ready[key] = _as(hints[key], value, f"{where}.{key}")
    try:
        return kind(**ready)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: {error}") from None


def _as(hint: Any, value: Any, where: str) -> Any:
    """The value as the annotated type; only conversions that lose nothing (int to float, list to tuple)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            with_none = option is type(None) and value is None
            try:
                return None if with_none else _as(option, value, where)
            except RecipeError:
                continue
        raise RecipeError(f"{where}: {value!r} should be {' or '.join(map(_told, arguments))}")
    if origin is typing.Literal:
        if value in arguments:
            return value
        raise RecipeError(f"{where}: {value!r} is not known; {nearest(str(value), map(str, arguments))}")
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_as(arguments[0], entry, where) for entry in value)
    if origin in (Mapping, dict) or (origin is not None and issubclass(origin, Mapping)):
        if isinstance(value, Mapping):
            return {str(k): _as(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif (hint is int and isinstance(value, int) and not isinstance(value, bool)) or (
        hint in (str, bool) and isinstance(value, hint)
    ):
        return value
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return read_settings(hint, value, where=where)
    elif hint is Any:
        return value
    raise RecipeError(f"{where}: {value!r} should be {_told(hint)}")


_WORDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list",
    type(None): "nothing",
}


def _told(hint: Any) -> str:
    """A type as a person who writes a recipe would name it."""
    plain = typing.get_origin(hint) or hint
    if plain in _WORDS:
        return _WORDS[plain]
    return "a table of keys" if dataclasses.is_dataclass(plain) or plain in (dict, Mapping) else str(plain)


def described(settings: object) -> str:
    """Settings in one line: their class, and what differs from its defaults; of a blend, what each member counts."""
    weights = getattr(settings, "weights", None)
    if weights and hasattr(settings, "member"):
        shares = sorted(((weight, name) for name, weight in weights.items() if weight), key=lambda s: (-s[0], s[1]))
        return f"{type(settings).__name__} of " + ", ".join(f"{name} × {weight:.2g}" for weight, name in shares)
    changed = [
        f"{part.name}={getattr(settings, part.name)!r}"
        for part in (dataclasses.fields(settings) if dataclasses.is_dataclass(settings) else ())
        if repr(getattr(settings, part.name)) != repr(_default(part))
    ]
    return f"{type(settings).__name__}({', '.join(changed)})"


def _default(part: dataclasses.Field[Any]) -> object:
    return part.default_factory() if part.default_factory is not dataclasses.MISSING else part.default
