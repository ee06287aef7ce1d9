"""Text by an embeddings endpoint, against a local server that can be told what to answer."""

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from sensorium.data.catalog import Catalog
from sensorium.data.content import TEXT, Text
from sensorium.data.ids import Ids
from sensorium.encode import remote
from sensorium.encode.cache import Cache
from sensorium.encode.open import open_encoders
from sensorium.encode.remote import RemoteTextEncoder, backoff, retry_after
from sensorium.encode.run import encode
from sensorium.errors import RecipeError, RemoteError

SECRET = "sk-very-secret-key-0123456789"
WRONG = (400, {}, json.dumps({"error": {"message": f"no such model\nfor {SECRET}"}}).encode())
Answer = tuple[int, dict[str, str], bytes]


def vector(text: str, size: int = 3) -> list[float]:
    return [float(len(text)), float(text.count("a")), *([1.0] * (size - 2))]


def good(body: dict[str, Any], **changes: Any) -> Answer:
    """What a sound service answers, its entries in another order than they were asked in."""
    size = body.get("dimensions", 3)
    data = [{"index": place, "embedding": vector(text, size)} for place, text in enumerate(body["input"])]
    return 200, {}, json.dumps({"data": data[::-1], "usage": {"total_tokens": len(data)}, **changes}).encode()


@dataclasses.dataclass
class Service:
    """`answers` are used up one by one; after them the service is sound."""

    address: str = ""
    asked: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    keys: list[str | None] = dataclasses.field(default_factory=list)
    paths: list[str] = dataclasses.field(default_factory=list)
    answers: list[Answer | Callable[[dict[str, Any]], Answer]] = dataclasses.field(default_factory=list)
    pauses: list[float] = dataclasses.field(default_factory=list)


@pytest.fixture
def service(monkeypatch):
    told = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append(body)
            told.keys.append(self.headers.get("Authorization"))
            told.paths.append(self.path)
            answer = told.answers.pop(0) if told.answers else good
            status, headers, raw = answer(body) if callable(answer) else answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    told.address = f"http://127.0.0.1:{server.server_port}/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", told.address)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr(remote, "pause", told.pauses.append)
    yield told
    server.shutdown()
    server.server_close()


def texts(*words: str) -> list[Text]:
    return [Text((("title", one),)) for one in words]


def catalog(*words: str) -> Catalog:
    return Catalog(Ids(map(str, range(len(words)))), {TEXT: texts(*words)})


def failure(encoder: RemoteTextEncoder, *words: str) -> str:
    """The one line that is said when it fails; the key is not in it."""
    with pytest.raises(RemoteError) as caught:
        encoder.encode(texts(*(words or ("a",))))
    shown = f"{caught.value!r} {caught.value.__cause__!r} {encoder!r} {encoder.fingerprint}"
    assert "\n" not in str(caught.value)
    assert SECRET not in shown
    return str(caught.value)


def test_texts_are_asked_in_batches_and_the_order_is_put_right(service):
    encoder = RemoteTextEncoder("small", batch=3)
    words = ["aaa", "bb", "a longer text", "", "banana", "火车", "x"]
    assert np.array_equal(encoder.encode(texts(*words)), [vector(one or " ") for one in words])
    assert [len(body["input"]) for body in service.asked] == [3, 3, 1]
    assert all(body["model"] == "small" and "dimensions" not in body for body in service.asked)
    assert set(service.keys) == {f"Bearer {SECRET}"}
    assert set(service.paths) == {"/v1/embeddings"}
    assert encoder.size == 3
    assert encoder.encode([]).shape == (0, 3)


def test_a_batch_is_no_longer_than_its_tokens_and_a_text_than_its_characters(service):
    encoder = RemoteTextEncoder("small", batch_tokens=10, characters=20)
    encoder.encode(texts("a" * 500, "b" * 12, "c" * 12, "d"))
    assert [[len(text) for text in body["input"]] for body in service.asked] == [[20, 12], [12, 1]]


def test_dimensions_are_asked_for_and_held_to(service):
    assert RemoteTextEncoder("small", dimensions=5).encode(texts("a", "b")).shape == (2, 5)
    assert service.asked[0]["dimensions"] == 5
    service.answers = [lambda body: good({**body, "dimensions": 4})]
    assert "a vector of 4 numbers where 5 are wanted" in failure(RemoteTextEncoder("small", dimensions=5))


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_busy_service_is_asked_again_after_growing_pauses(service, status):
    service.answers = [(status, {}, b"")] * 3
    assert np.array_equal(RemoteTextEncoder("small").encode(texts("aa")), [vector("aa")])
    assert len(service.asked) == 4
    assert all(0.25 * 2**n <= pause <= 0.5 * 2**n for n, pause in enumerate(service.pauses))


def test_the_pause_that_the_service_asks_for_is_kept(service):
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    service.answers = [
        (429, {"Retry-After": "7"}, b""),
        (503, {"Retry-After": soon}, b""),
        (429, {"Retry-After": "?"}, b""),
    ]
    RemoteTextEncoder("small").encode(texts("a"))
    first, second, third = service.pauses
    assert 7 <= first <= 7.1
    assert 17 <= second <= 21
    assert third <= 2
    assert [backoff(0, 3600.0), backoff(30, None)] == [60.0, 60.0]
    assert retry_after("nan") == 0.0
    assert retry_after("-3") == 0.0


def test_a_service_that_stays_broken_is_given_up_after_the_tries(service):
    service.answers = [(500, {}, b"")] * 9
    assert "HTTP 500, after 4 tries" in failure(RemoteTextEncoder("small", tries=4))
    assert len(service.asked) == 4
    assert len(service.pauses) == 3


def test_a_cut_off_answer_is_asked_for_again(service):
    service.answers = [(200, {"Content-Length": "5000"}, b'{"data": [')]
    assert RemoteTextEncoder("small").encode(texts("a")).shape == (1, 3)
    assert len(service.asked) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_not_tried_again_and_never_shown(service, status):
    service.answers = [(status, {}, json.dumps({"error": {"message": f"wrong key {SECRET}"}}).encode())] * 3
    assert "is OPENAI_API_KEY set and valid?" in failure(RemoteTextEncoder("small"))
    assert len(service.asked) == 1
    assert not service.pauses


def test_a_refusal_says_why_and_does_not_repeat_the_key(service):
    service.answers = [WRONG]
    assert "HTTP 400: no such model for …" in failure(RemoteTextEncoder("small"))
    service.answers = [(404, {}, b"<html>nothing here</html>"), (422, {}, b"[" * 50_000)]
    assert failure(RemoteTextEncoder("small")).endswith("HTTP 404")
    assert failure(RemoteTextEncoder("small")).endswith("HTTP 422")


@pytest.mark.parametrize("key", ["sk-two\nlines", "sk-\u00fcmlaut", "sk-\u706b\u8f66", "sk-\x07bell"])
def test_a_key_that_cannot_be_sent_is_not_shown(service, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    line = failure(RemoteTextEncoder("small"))
    assert "OPENAI_API_KEY holds characters that no key has" in line
    assert "sk-" not in line
    assert not service.asked


def test_space_around_a_key_is_forgiven_and_no_key_is_sent_where_none_is_set(service, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    RemoteTextEncoder("small").encode(texts("a"))
    monkeypatch.delenv("OPENAI_API_KEY")
    RemoteTextEncoder("small").encode(texts("a"))
    assert service.keys == [f"Bearer {SECRET}", None]


def test_a_redirect_does_not_carry_the_key_elsewhere(service):
    service.answers = [(307, {"Location": f"{service.address}/elsewhere"}, b"")]
    assert "HTTP 307" in failure(RemoteTextEncoder("small"))
    assert service.paths == ["/v1/embeddings"]


def answered(data: Any) -> Answer:
    return 200, {}, json.dumps({"data": data}).encode()


@pytest.mark.parametrize("raw", [b"not JSON", b"", b"[1, 2]", b"[" * 100_000, b"\xff\xfe", b'"text"'])
def test_garbage_is_asked_for_again_and_then_given_up(service, raw):
    service.answers = [(200, {}, raw)] * 2
    assert "after 2 tries" in failure(RemoteTextEncoder("small", tries=2))
    service.answers = [(200, {}, raw)]
    assert RemoteTextEncoder("small", tries=2).encode(texts("a")).shape == (1, 3)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"index": 0},
        [{"index": 0, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("nan")]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1e300]}],
        [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [10**400]}],
        [{"index": 0, "embedding": "AACAPw=="}, {"index": 1, "embedding": "AACAPw=="}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
        [{"embedding": [1.0]}, {"embedding": [1.0]}],
        ["a", "b"],
    ],
)
def test_an_answer_that_is_not_one_finite_vector_a_text_is_refused(service, data):
    service.answers = [answered(data)]
    assert "one finite vector for each of 2 texts" in failure(RemoteTextEncoder("small"), "a", "b")
    assert len(service.asked) == 1


def test_vectors_that_change_their_size_are_refused(service):
    service.answers = [good, lambda body: good({**body, "dimensions": 4})]
    assert "is it one model?" in failure(RemoteTextEncoder("small", batch=1), "a", "b")


def test_the_cap_stops_in_one_line_and_what_was_paid_for_is_kept(service, tmp_path):
    words = [f"{'a' * 38} {number}" for number in range(10)]  # 10 or 11 tokens each, as reckoned
    capped = {"use": "remote", "model": "small", "dimensions": 3, "batch": 2, "most_tokens": 50}

    def dear(body: dict[str, Any]) -> Answer:
        return good(body, usage={"total_tokens": 10 * len(body["input"])})

    service.answers = [dear] * 9
    with pytest.raises(RemoteError, match="would pass the cap of 50"):
        encode(catalog(*words), open_encoders(catalog(*words), {TEXT: capped}), Cache(tmp_path))
    assert len(service.asked) == 2
    service.answers, service.asked[:] = [], []
    more = {**capped, "most_tokens": 1000}
    done = encode(catalog(*words), open_encoders(catalog(*words), {TEXT: more}), Cache(tmp_path))
    assert done.computed[TEXT] == 6
    assert sum(len(body["input"]) for body in service.asked) == 6
    assert np.array_equal(done.views[TEXT].values, [vector(one) for one in words])


def test_a_service_that_breaks_halfway_loses_nothing_and_a_second_run_asks_nothing(service, tmp_path):
    words = [f"text {number}" for number in range(9)]
    choice = {TEXT: {"use": "remote", "model": "small", "batch": 2, "tries": 1}}
    service.answers = [good, good, good, (500, {}, b"")]  # the first is asked to learn the size
    with pytest.raises(RemoteError, match="what is encoded is kept, run again"):
        encode(catalog(*words), open_encoders(catalog(*words), choice), Cache(tmp_path))
    done = encode(catalog(*words), open_encoders(catalog(*words), choice), Cache(tmp_path))
    assert done.computed[TEXT] == 5
    asked = len(service.asked)
    again = encode(catalog(*words), open_encoders(catalog(*words), choice), Cache(tmp_path))
    assert len(service.asked) == asked
    assert again.computed[TEXT] == 0
    assert np.array_equal(again.views[TEXT].values, [vector(one) for one in words])


def test_an_address_that_would_give_the_key_away_is_refused(service, monkeypatch):
    for address, reason in [
        ("http://example.org/v1", "in the clear"),
        ("http://me:pass@example.org/v1", "holds a password"),
        ("ftp://example.org", "no http address"),
    ]:
        with pytest.raises(RemoteError, match=reason):
            RemoteTextEncoder("small", base_url=address).encode(texts("a"))
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(RemoteError, match="OPENAI_BASE_URL"):
        RemoteTextEncoder("small").encode(texts("a"))
    with pytest.raises(RecipeError, match="model"):
        open_encoders(catalog("a"), {TEXT: "remote"})


def test_nobody_listening_is_one_line_after_the_tries(service):
    encoder = RemoteTextEncoder("small", base_url="http://127.0.0.1:9", tries=2)
    assert "after 2 tries" in failure(encoder)
    assert len(service.pauses) == 1
