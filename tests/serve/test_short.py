"""The short way to recommend tells the same as the framework's, of questions and of mistakes."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import ValidationError

from sensorium.serve import schemas as wire
from sensorium.serve.short import Short

ANSWERED = b"by the framework"


class Framework:
    """Notes what body it is handed."""

    def __init__(self):
        self.body = None

    async def __call__(self, scope, receive, send):
        self.body = b""
        while True:
            message = await receive()
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 422, "headers": []})
        await send({"type": "http.response.body", "body": ANSWERED})


class Asked(Exception):
    """What the service was asked."""


class Telling:
    """A service that only tells what it was asked."""

    async def recommend(self, **wishes):
        raise Asked(wishes)


def sent(parts, *, path="/v1/recommend", method="POST", kind=b"application/json"):
    """What the framework saw, or what the service was asked."""
    framework, told = Framework(), []
    short = Short(framework, Telling(), None)
    left = [{"type": "http.request", "body": part, "more_body": n < len(parts) - 1} for n, part in enumerate(parts)]

    async def receive():
        return left.pop(0)

    async def send(message):
        told.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": [(b"content-type", kind)]}
    try:
        asyncio.run(short(scope, receive, send))
    except Asked as asked:
        assert scope["route"].path == "/v1/recommend"  # as the log tells it
        return None, asked.args[0]
    return framework.body, None


def test_a_well_formed_question_goes_the_short_way_in_one_part_or_several():
    body = json.dumps({"user": "u1", "k": 3, "rules": ["price<=5"]}).encode()
    for parts in ([body], [body[:7], body[7:20], body[20:]]):
        seen, asked = sent(parts, kind=b"application/json; charset=utf-8" if len(parts) > 1 else b"application/json")
        assert seen is None
        assert asked == {"user": "u1", "k": 3, "rules": ["price<=5"]}


@pytest.mark.parametrize("body", [
    {}, {"k": 5.0, "seed": 3.0, "diversity": 1}, {"user": "é", "like": ["a"], "unlike": ["b"], "exclude": ["c"] * 200},
    {"repeat": None, "boosts": {"price<=2": 1}, "pins": {"a": 1.0}, "caps": {"genre": 2}, "modalities": {"text": 0.5}},
    {"exploration": 0.2, "explain": True}, {"explain": None}, {"explain": 1}, {"k": "3"}, {"k": 1001}, {"k": 2.5},
    {"boosts": {"": 1}}, {"boosts": {"a=b": 11}}, {"user": ""}, {"user": "x" * 513}, {"seed": 2**53}, {"like": "a"},
    {"rules": ["a=b"] * 51}, {"pins": {"": 1}}, {"caps": {"a": 0}}, {"now": 3},
])  # fmt: skip
def test_what_is_said_is_read_as_the_model_reads_it(body):
    text = json.dumps(body).encode()
    try:
        wanted = wire.Ask.model_validate_json(text).model_dump(exclude_unset=True)
    except ValidationError:
        wanted = None
    seen, asked = sent([text])
    assert asked == wanted
    assert seen == (text if wanted is None else None)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"k": 0}', b'{"usr": "a"}', b'{"diversity": NaN}', b"\xff"])
def test_what_is_wrong_is_left_to_the_framework_whole(body):
    assert sent([body[:1], body[1:]]) == (body, None)


@pytest.mark.parametrize("other", [
    {"path": "/v1/search"}, {"method": "PUT"}, {"kind": b"text/plain"}, {"kind": b"application/x-ndjson"},
    {"kind": b"application/jsonx"},
])  # fmt: skip
def test_other_requests_are_left_to_the_framework(other):
    assert sent([b"{}"], **other) == (b"{}", None)
