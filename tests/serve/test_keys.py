"""Keys: roles, groups, time, rotation; what is stored of them; what another process sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sensorium.errors import RecipeError, UnknownId
from sensorium.feedback.log import Log
from sensorium.serve.keys import GROUPS, Caller, Keys

FIRST = "a-first-key-of-enough-letters"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Log]:
    with Log(tmp_path / "log.sqlite") as log:
        yield log


def test_a_key_is_stored_as_its_digest_alone(store: Log) -> None:
    keys = Keys(store)
    assert not keys.any
    made = keys.made("shop", "write")
    assert keys.any
    assert len(made) >= 43  # 256 bits
    store.close()
    for file in store.path.parent.iterdir():
        assert made.encode() not in file.read_bytes()


def test_a_key_tells_its_name_its_rights_and_nothing_else_opens(store: Log) -> None:
    keys = Keys(store, FIRST)
    made = keys.made("shop", "write", ["events", "items"])
    assert keys.caller(made) == Caller("shop", "write", ("events", "items"))
    assert keys.caller(FIRST) == Caller("first", "admin", everywhere=True)
    for wrong in ("", made[:-1], made + "x", made.swapcase(), FIRST + "x", "\udcff", "shop"):
        assert keys.caller(wrong) is None
    assert keys.dropped("shop")
    assert not keys.dropped("shop")
    assert keys.caller(made) is None


def test_a_key_is_good_until_its_time(store: Log) -> None:
    clock = Clock()
    keys = Keys(store, clock=clock)
    made = keys.made("guest", "read", until=1010.0)
    clock.now = 1009.9
    assert keys.caller(made) is not None
    clock.now = 1010.0
    assert keys.caller(made) is None
    with pytest.raises(RecipeError, match="over at once"):
        keys.made("late", "read", until=1010.0)


def test_a_rotated_key_is_good_for_the_grace(store: Log) -> None:
    clock = Clock()
    keys = Keys(store, clock=clock)
    old = keys.made("shop", "write", ["events"], until=2000.0)
    new = keys.rotated("shop", grace_seconds=60)
    assert new != old
    assert keys.caller(old) == keys.caller(new) == Caller("shop", "write", ("events",), 2000.0)
    clock.now = 1060.0
    assert keys.caller(old) is None
    assert keys.caller(new) is not None
    again = keys.rotated("shop")
    assert keys.caller(new) is None
    clock.now = 2000.0  # a rotation gives no longer life
    assert keys.caller(again) is None
    with pytest.raises(UnknownId):
        keys.rotated("nobody")


def test_first_keys_can_be_several_and_are_never_stored(store: Log) -> None:
    keys = Keys(store, f"{FIRST}\nanother-key-of-enough-letters\n")
    assert keys.caller(FIRST) == keys.caller("another-key-of-enough-letters")
    assert store.page("keys") == []
    with pytest.raises(RecipeError, match="16 characters"):
        Keys(store, f"{FIRST}\nshort")


def test_another_process_makes_and_drops(store: Log) -> None:
    here, there = Keys(store), Keys(store)
    made = there.made("shop", "read")
    assert here.caller(made) is None
    here.follow()
    assert here.caller(made) is not None
    there.dropped("shop")
    here.follow()
    assert here.caller(made) is None
    assert not here.any


@pytest.mark.parametrize(
    ("name", "role", "groups", "why"),
    [("", "read", [], "choose another"), ("first", "read", [], "choose another"), ("taken", "read", [], "choose another"),
     ("a", "root", [], "there are read, write, admin"), ("a", "read", ["everything"], "there are recommend")],
)  # fmt: skip
def test_what_no_key_can_be(store: Log, name: str, role: str, groups: list[str], why: str) -> None:
    keys = Keys(store)
    keys.made("taken", "read")
    with pytest.raises(RecipeError, match=why):
        keys.made(name, role, groups)


def test_no_key_makes_one_that_may_more() -> None:
    whole = Caller("a", "admin")
    part = Caller("b", "admin", ("keys", "items"), until=100.0)
    assert whole.gives("admin", GROUPS, None)
    assert part.gives("write", ["items"], 100.0)
    for role, groups, until in (
        ("write", ["events"], 50.0), ("write", [], 50.0), ("write", ["items"], None), ("write", ["items"], 101.0),
    ):  # fmt: skip
        assert not part.gives(role, groups, until)
    assert not Caller("c", "write").gives("admin", [], None)
