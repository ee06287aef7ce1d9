"""Token buckets and bounded bodies, against a clock and a client of our own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sensorium.serve.limits import Bounded, Buckets, Refusal, Room


def test_a_bucket_gives_its_rate_and_no_more() -> None:
    now = [0.0]
    buckets = Buckets(5.0, clock=lambda: now[0])
    taken = 0
    for step in range(1000):  # ten seconds, a hundred requests each
        now[0] = step / 100
        taken += buckets.wait("a") == 0
    assert taken == 10 + 49  # two seconds' worth at the start, then what flowed in until 9.99 s
    assert buckets.wait("b") == 0  # another's is full
    wait = buckets.wait("a")
    assert 0 < wait <= 0.2
    now[0] += wait + 1e-9
    assert buckets.wait("a") == 0


def test_a_slow_bucket_still_gives_one() -> None:
    now = [0.0]
    buckets = Buckets(0.1, clock=lambda: now[0])
    assert buckets.wait("a") == 0
    assert buckets.wait("a") == pytest.approx(10)
    now[0] = 10.0
    assert buckets.wait("a") == 0


def test_no_limit_is_none() -> None:
    buckets = Buckets(0.0)
    assert not any(buckets.wait("a") for _ in range(10_000))


def client(*parts: bytes, pause: float = 0.0) -> Any:
    messages = [{"type": "http.request", "body": part, "more_body": n < len(parts) - 1} for n, part in enumerate(parts)]

    async def receive() -> Any:
        await asyncio.sleep(pause)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive


async def read(body: Bounded) -> bytes:
    whole = b""
    while True:
        message = await body()
        whole += message["body"]
        if not message["more_body"]:
            return whole


@pytest.mark.parametrize("most", [9, 10])
def test_a_body_may_have_so_many_bytes(most: int) -> None:
    body = Bounded(client(b"12345", b"67890"), most, Room(100), 5.0)
    if most == 10:
        assert asyncio.run(read(body)) == b"1234567890"
        return
    with pytest.raises(Refusal) as refused:
        asyncio.run(read(body))
    assert refused.value.status == 413
    assert body.refusal is refused.value


def test_all_bodies_share_one_room_and_give_it_back() -> None:
    room = Room(12)
    first, second = Bounded(client(b"1234567"), 10, room, 5.0), Bounded(client(b"1234567"), 10, room, 5.0)
    asyncio.run(read(first))
    with pytest.raises(Refusal) as refused:
        asyncio.run(read(second))
    assert refused.value.status == 503
    assert refused.value.headers == {"retry-after": "1"}
    first.let_go()
    second.let_go()
    assert room.held == 0
    assert asyncio.run(read(Bounded(client(b"1234567"), 10, room, 5.0))) == b"1234567"


def test_a_dripping_body_is_told_that_time_is_over() -> None:
    body = Bounded(client(*[b"x"] * 100, pause=0.02), 1000, Room(1000), 0.1)
    with pytest.raises(Refusal) as refused:
        asyncio.run(read(body))
    assert refused.value.status == 408
    # A client that sent all of it may wait for its answer as long as it likes.
    done = Bounded(client(b"x", pause=0.02), 1000, Room(1000), 0.1)

    async def both() -> str:
        await read(done)
        return (await done())["type"]

    assert asyncio.run(both()) == "http.disconnect"
