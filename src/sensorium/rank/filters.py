"""Which items may be recommended at all: not seen, not hidden, not excluded, and as the rules ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy

import numpy as np
from numpy.typing import NDArray

from sensorium.arrays import Bits, Rows, packed, unpacked
from sensorium.errors import RecipeError
from sensorium.rank.lookup import Column
from sensorium.rank.query import Rule, number_of
from sensorium.settings import nearest

Mask = NDArray[np.bool_]
MASK_BYTES = 64 * 1024 * 1024  # of the masks of rules that are kept
THOUSANDS = 4096  # of them for which there must be room, if those of several alternatives are to be among them


def allowed(items: int, columns: Mapping[str, Column], rules: Sequence[Rule], *, without: Iterable[int] = ()) -> Mask:
    """The items (I,) that fulfil every rule and are not among the rows `without`. **Cost** O(I) a rule."""
    keep = np.ones(items, bool)
    for rule in rules:
        keep &= fulfilled(rule, columns, items)
    keep[np.fromiter(without, np.int64)] = False
    return keep


class Masks:
    """Which items each rule keeps, worked out once a rule: shops ask the same few again and again.

    `order` (I,): the rows in another order than their own, in which the masks then stand. **Cost** a bit an item and
    rule, or alternative of one, `MASK_BYTES` at most; what was first worked out goes first.
    """

    def __init__(
        self, items: int, columns: Mapping[str, Column], hidden: Iterable[int] = (), order: Rows | None = None
    ) -> None:
        self.items, self.columns, self.order = items, columns, order
        self.place: Rows | None = None
        if order is not None:
            self.place = np.empty(items, np.int64)
            self.place[order] = np.arange(items)
        self._shown = self._but(hidden)
        self._known: dict[Rule, Bits] = {}

    def showing(self, hidden: Iterable[int]) -> Masks:
        """The same where other rows are hidden; what was worked out of rules is shared."""
        out = copy(self)
        out._shown = self._but(hidden)
        return out

    def allowed(self, rules: Sequence[Rule], without: Rows, besides: Sequence[int] = ()) -> Bits:
        """The items that are shown, fulfil every rule and are not among the rows `without`; and those `besides`: a bit each."""
        keep = self._shown.copy()
        for rule in rules:
            keep &= self._kept(rule)
        places = self._placed(without)
        np.bitwise_and.at(keep, places >> 3, ~(np.uint8(1) << (places & 7).astype(np.uint8)))
        if besides:
            places = self._placed(np.asarray(besides, np.int64))
            np.bitwise_or.at(keep, places >> 3, np.uint8(1) << (places & 7).astype(np.uint8))
        return keep

    def by_row(self, keep: Bits) -> Mask:
        """What is `allowed` as a mask, in the order of the rows."""
        mask = unpacked(keep, self.items)
        return mask if self.place is None else mask[self.place]

    def _kept(self, rule: Rule) -> Bits:
        """The bits of a rule. Of one with alternatives those of each are kept, which come again in other company; those of all
        where there is room for thousands."""
        bits = self._known.get(rule)
        if bits is None:
            if len(rule.values) > 1:
                try:
                    each = [self._kept(Rule(rule.attribute, "=", (one,))) for one in rule.values]
                except RecipeError:  # what is wrong is told of the rule as it was asked
                    fulfilled(rule, self.columns, self.items)
                    raise
                bits = np.bitwise_or.reduce(each)
                bits = ~bits if rule.operator == "!=" else bits
                if len(bits) * THOUSANDS > MASK_BYTES:
                    return bits
            else:
                mask = fulfilled(rule, self.columns, self.items)
                bits = packed(mask if self.order is None else mask[self.order])
            while self._known and (len(self._known) + 1) * len(bits) > MASK_BYTES:
                self._known.pop(next(iter(self._known), rule), None)  # another thread may have been quicker
            self._known[rule] = bits
        return bits

    def _but(self, hidden: Iterable[int]) -> Bits:
        """All items but some rows."""
        shown = np.ones(self.items, bool)
        shown[self._placed(np.fromiter(hidden, np.int64))] = False
        return packed(shown)

    def _placed(self, rows: Rows) -> Rows:
        return rows if self.place is None else self.place[rows]


def fulfilled(rule: Rule, columns: Mapping[str, Column], items: int) -> Mask:
    """The items (I,) that fulfil one rule. Words are compared without regard to case.

    **Raises** RecipeError for an attribute that no item states, for an order over words, and for a word that the
    attribute never takes (a typing error would otherwise quietly return nothing); each names the nearest known.
    """
    if rule.attribute not in columns:
        raise RecipeError(f"rule {str(rule)!r}: no item has {rule.attribute!r}; {nearest(rule.attribute, columns)}")
    column = columns[rule.attribute]
    if rule.operator in ("<", ">", "<=", ">="):
        return _ordered(rule, column)
    mask = np.zeros(items, bool)
    for value in rule.values:
        number = number_of(value)
        rows = column.words.get(value.casefold())
        if rows is not None:
            mask[rows] = True
        elif column.words and (number is None or not np.isfinite(column.numbers).any()):
            hint = nearest(value, column.spelled) if len(column.spelled) <= 20 else _close(value, column.spelled)
            raise RecipeError(f"rule {str(rule)!r}: {rule.attribute} is never {value!r}; {hint}")
        elif number is None:
            raise RecipeError(f"rule {str(rule)!r}: {rule.attribute} is a number or a date, {value!r} is neither")
        if number is not None:
            mask |= column.numbers == number
    return ~mask if rule.operator == "!=" else mask


def _ordered(rule: Rule, column: Column) -> Mask:
    bound = rule.number
    if bound is None or not np.isfinite(column.numbers).any():
        raise RecipeError(f"rule {str(rule)!r}: {rule.attribute} holds words; ask with = or !=")
    with np.errstate(invalid="ignore"):  # an item that does not state it is NaN, and fulfils no order
        if rule.operator == "<=":
            return column.numbers <= bound
        if rule.operator == ">=":
            return column.numbers >= bound
        return column.numbers < bound if rule.operator == "<" else column.numbers > bound


def _close(word: str, known: Sequence[str]) -> str:
    hint = nearest(word, known)
    return hint if hint.startswith("did") else f"it takes {len(known)} values"
