"""Columns of strings and numbers become clean ids, moments and weights; rows that cannot are rejected by mask.

Everything here works on whole columns: five million events take seconds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Rows
from sensorium.data.clean import clean_id, is_visible
from sensorium.data.events import KINDS, RATED, Events

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

LATEST_SECONDS = 7_258_118_400.0  # the year 2200; whatever is later is not a time
SYNONYMS: Mapping[str, str] = {
    "purchase": "buy", "purchased": "buy", "order": "buy", "transaction": "buy", "bought": "buy", "sale": "buy",
    "addtocart": "cart", "add_to_cart": "cart", "basket": "cart", "cart_add": "cart", "pageview": "view",
    "page_view": "view", "viewed": "view", "impression": "view", "detail": "view", "visit": "view", "clicks": "click",
    "favorite": "like", "favourite": "like", "fav": "like", "save": "like", "bookmark": "like", "rate": "rating",
    "watch": "play", "stream": "play", "pv": "view",
}  # fmt: skip
"""Kinds that weigh what another kind weighs; their names stay as they are."""
_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S", "%m %d, %Y", "%Y-%m", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%d-%b-%Y",
)  # fmt: skip
_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f UTC")


@dataclass(frozen=True, eq=False)
class Named:
    """A column of names: `names` in order of first appearance, `code` (N,) the place in it, −1 for none."""

    code: NDArray[np.int32]
    names: list[str]

    def rows(self, row_of: Mapping[str, int]) -> NDArray[np.int32]:
        """The rows (N,) that `row_of` gives these names, −1 for none."""
        table = np.fromiter((row_of.get(name, -1) for name in self.names), np.int32, len(self.names))
        return np.append(table, np.int32(-1))[self.code]


def as_strings(series: pl.Series) -> pl.Series:
    """A column as strings: 7 and 7.0 are "7", a date is its ISO form, empty cells are null."""
    import polars as pl

    kind = series.dtype
    if isinstance(kind, pl.List | pl.Array | pl.Struct | pl.Object):
        return pl.Series(series.name, [None if v is None else str(v) for v in series.to_list()], pl.String)
    if kind.is_float():
        whole = series.is_finite() & (series == series.round()) & (series.abs() < 2**53)
        if whole.fill_null(True).all():
            return series.cast(pl.Int64).cast(pl.String)
        text = series.cast(pl.String)
        ends = pl.Series([v.removesuffix(".0") if v is not None else None for v in text], dtype=pl.String)
        return ends.alias(series.name)
    if kind == pl.Binary:
        return series.cast(pl.String, strict=False)
    return series if kind == pl.String else series.cast(pl.String)


def named(column: pl.Series | pa.DictionaryArray, *, alone: bool = False) -> Named:
    """The distinct names of a column (polars', or a dictionary of pyarrow's), cleaned. Cells that are empty or cannot be shown have none.

    Where a writer turned whole-numbered ids into "7.0" throughout a column, they are "7" again, but where each stands `alone`.
    """
    array: Any = _encoded(column) if hasattr(column, "dtype") else column
    code = array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    raw = [str(name) for name in array.dictionary.to_pylist()]
    # A dictionary may hold names that no row has, in any order: the first appearance of each decides.
    first = np.full(len(raw) + 1, len(code), np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)
    order = np.argsort(first[:-1], kind="stable")[: int((first[:-1] < len(code)).sum())]
    if (order != np.arange(len(raw))).any() if len(order) == len(raw) else True:
        table = np.full(len(raw) + 1, len(order), np.int32)
        table[order] = np.arange(len(order), dtype=np.int32)
        code, raw = table[code], [raw[place] for place in order.tolist()]
    nothing = _NOTHING & {name.lower() for name in raw if len(name) < 5}
    if _plain("".join(raw)) and not nothing and (alone or not _decimal(raw)):
        if len(code) and code.max() == len(raw):
            code = np.where(code == len(raw), np.int32(-1), code)
        return Named(code, raw)
    cleaned = [clean_id(name) for name in raw]
    if not alone and _decimal(cleaned):
        cleaned = [name.removesuffix(".0") for name in cleaned]
    place: dict[str, int] = {}
    table = np.full(len(raw) + 1, -1, np.int32)
    for old, name in enumerate(cleaned):
        if name.lower() not in _NOTHING and is_visible(name):
            table[old] = place.setdefault(name, len(place))
    return Named(table[code], list(place))


def _encoded(series: pl.Series) -> pa.DictionaryArray:
    import polars as pl
    import pyarrow as pa

    series = series if series.dtype.is_integer() or series.dtype == pl.Categorical else as_strings(series)
    array = series.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()


_NOTHING = frozenset(("", "nan", "null", "none"))
_plain = re.compile(r"[\x21-\x7e]*").fullmatch  # printable ASCII without spaces: nothing to clean


def _decimal(names: Sequence[str]) -> bool:
    """Whether all names are whole numbers written "7.0"."""
    return any(name.endswith(".0") for name in names[:1]) and all(
        name.endswith(".0") and name[:-2].isdigit() for name in names if name.lower() not in _NOTHING
    )


def ordered(moments: NDArray[np.float64]) -> Rows:
    """The stable order of some moments (N,). **Cost** whole seconds, as most logs have, 6 × less than `argsort`."""
    count = len(moments)
    if count:
        bits, low = max(count - 1, 1).bit_length(), moments.min()
        if moments.max() - low < 2.0 ** (62 - bits) and (moments == np.floor(moments)).all():
            # Moment and place in one number: sorting it plainly is stable, and numpy sorts plain numbers fastest.
            key = (moments - low).astype(np.int64) << bits
            key |= np.arange(count)
            key.sort()
            return key & ((1 << bits) - 1)
    return np.argsort(moments, kind="stable")


def numbers(series: pl.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """A column as numbers (N,), NaN where there is none; and a mask of cells that hold something else than a finite number."""
    import polars as pl

    if series.dtype == pl.Boolean:
        series = series.cast(pl.Int8)
    if not series.dtype.is_numeric():
        text = as_strings(series).str.strip_chars()
        text = text.set(text == "", None)
        filled = text.is_not_null()
        values = text.cast(pl.Float64, strict=False)
    else:
        filled = series.is_not_null()
        if series.dtype.is_float():
            filled &= ~series.is_nan().fill_null(True)  # NaN in a typed column is how writers leave a cell empty
        values = series.cast(pl.Float64, strict=False)
    found = values.to_numpy(allow_copy=True) if values.null_count() == 0 else values.fill_null(np.nan).to_numpy()
    wrong = filled.to_numpy() & ~np.isfinite(found)
    return np.where(np.isfinite(found), found, np.nan), wrong


def moments(series: pl.Series) -> tuple[NDArray[np.float64], str]:
    """A column of times as seconds since 1970 (N,), NaN where it cannot be read; and how it was read.

    Numbers are seconds, milli-, micro- or nanoseconds by the size of their median, or dates written 20240131. Words
    are ISO dates and times (a zone is honoured, without one it is UTC) and a few unmistakable forms beside.
    """
    import polars as pl

    if series.dtype in (pl.Date, pl.Datetime):
        values = series.cast(pl.Datetime("us")) if series.dtype == pl.Date else series.dt.cast_time_unit("us")
        return _seconds(values), "dates"
    if series.dtype.is_numeric():
        return _epochs(numbers(series)[0])
    text = as_strings(series).str.strip_chars()
    found, _ = numbers(text)
    if np.isfinite(found).sum() * 2 >= max(1, (text.fill_null("") != "").sum()):
        return _epochs(found)
    out = np.full(len(text), np.nan)
    left = np.arange(len(text))
    for form in (*_FORMATS, *_ZONED):
        if not len(left):
            break
        part = text.gather(left) if len(left) < len(text) else text
        try:
            if form in _ZONED and "z" in form:
                parsed = part.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
            elif "%H" in form:
                parsed = part.str.to_datetime(form, strict=False, time_unit="us")
            else:
                full = form if "%d" in form else form + "-%d"
                part = part if "%d" in form else part + "-01"
                parsed = part.str.to_date(full, strict=False).cast(pl.Datetime("us"))
        except pl.exceptions.PolarsError:
            continue
        seconds = _seconds(parsed)
        hit = np.isfinite(seconds)
        out[left[hit]] = seconds[hit]
        left = left[~hit]
    return out, "dates"


def _seconds(values: pl.Series) -> NDArray[np.float64]:
    import polars as pl

    micro = values.cast(pl.Int64)
    return micro.cast(pl.Float64).fill_null(np.nan).to_numpy() / 1e6


def _epochs(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    known = values[np.isfinite(values)]
    if not len(known):
        return values, "numbers"
    if known.min() >= 19000101 and known.max() < 21000000 and _calendar(known):
        dates = np.full(len(values), "NaT", "datetime64[D]")
        at = np.isfinite(values)
        whole = values[at].astype(np.int64)
        months = (whole // 10000 - 1970) * 12 + whole // 100 % 100 - 1
        dates[at] = months.astype("datetime64[M]").astype("datetime64[D]") + (whole % 100 - 1)
        out = np.full(len(values), np.nan)
        out[at] = dates[at].astype(np.int64) * 86400.0
        return out, "dates written as numbers"
    middle = float(np.median(known))
    for limit, scale, unit in ((1e11, 1.0, "seconds"), (1e14, 1e3, "milliseconds"), (1e17, 1e6, "microseconds")):
        if middle < limit:
            return values / scale, unit
    return values / 1e9, "nanoseconds"


def _calendar(values: NDArray[np.float64]) -> bool:
    month, day = values // 100 % 100, values % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def believable(seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which moments lie between 1970 and 2200."""
    with np.errstate(invalid="ignore"):
        return (seconds >= 0) & (seconds < LATEST_SECONDS)


def kind_weight(kind: str, given: Mapping[str, float]) -> float:
    """The weight of a kind: as given, as usual, as its synonym's, or 1."""
    return given.get(kind, KINDS.get(kind, KINDS.get(SYNONYMS.get(kind, ""), 1.0)))


def known_kind(kind: str, given: Mapping[str, float]) -> bool:
    """Whether a kind's weight is known."""
    return kind in given or kind in KINDS or kind in SYNONYMS


def weighed(events: Events, kinds: Mapping[str, float]) -> Events:
    """The events with their weights: that of the kind (`kinds` goes before the usual ones), and for a rating
    kind × (1 + (value − the person's mean) ÷ half the scale), the scale being that of all ratings together.

    Mean and scale are those of `events`, whatever these were weighed by before.
    """
    given = {folded(kind): weight for kind, weight in kinds.items()}
    usual = np.array([kind_weight(kind, given) for kind in events.kinds] or [1.0], np.float32)
    weight = usual[events.kind]
    rates = np.array([kind in RATED for kind in events.kinds] or [False])
    rated = rates[events.kind] & np.isfinite(events.value) if rates.any() else np.zeros(0, bool)
    if rated.any():
        value, user = events.value[rated], events.user[rated]
        low, high = float(value.min()), float(value.max())
        if high > low:
            count = np.bincount(user, minlength=events.users)
            mean = np.bincount(user, value.astype(np.float64), minlength=events.users) / np.maximum(count, 1)
            weight[rated] *= (1 + (value - mean[user]) / ((high - low) / 2)).astype(np.float32)
    return replace(events, weight=weight)


def repeated(columns: Sequence[NDArray], text: NDArray[np.object_] | None) -> NDArray[np.bool_]:
    """Which events are an exact copy of an earlier one in every column (N,)."""
    import polars as pl

    frame = pl.DataFrame({str(place): column for place, column in enumerate(columns)})
    if text is not None:
        frame = frame.with_columns(pl.Series("text", text.tolist(), pl.String))
    names = frame.hash_rows(seed=0)
    out = np.zeros(len(frame), bool)
    marks = np.sort(names.to_numpy())
    if not (marks[1:] == marks[:-1]).any():
        return out
    suspects = names.is_duplicated().to_numpy()
    if suspects.any():  # equal hashes are only a suspicion
        part = frame.filter(pl.Series(suspects))
        out[suspects] = ~part.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return out


def folded(name: str) -> str:
    """A kind of event as it is compared: NFC, lower case, words joined by "_".

    >>> folded(" Add to Cart ")
    'add_to_cart'
    """
    return "_".join(unicodedata.normalize("NFC", name).lower().replace("-", " ").split())
