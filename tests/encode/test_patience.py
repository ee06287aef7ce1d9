"""Encoders that hang, are missing or stumble: the rest is encoded, nobody waits for long, and no content is blamed for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sensorium.data.catalog import Catalog
from sensorium.data.content import Media, Text
from sensorium.data.ids import Ids
from sensorium.data.vectors import Vectors
from sensorium.encode.cache import Cache
from sensorium.encode.patience import Patience
from sensorium.encode.run import encode
from sensorium.errors import MediaError, MissingExtra, RemoteError

SIZE = 3


@dataclass
class Lengths:
    """A text's vector is its length, three times; `before` may hang or raise."""

    before: Callable[[Any], None] = lambda contents: None
    modality: ClassVar[str] = "text"
    fingerprint: str = "ab" * 32
    size: int = SIZE
    calls: list[int] = field(default_factory=list)

    def encode(self, contents: Sequence[Any]) -> Any:
        self.calls.append(len(contents))
        self.before(contents)
        return np.array([[len(one.joined())] * SIZE for one in contents], np.float32)


@dataclass
class Streamed:
    """A picture's vector is its name; that of 1 is broken; the one at `hangs` never comes."""

    hangs: int = -1
    gate: threading.Event = field(default_factory=threading.Event)
    modality: ClassVar[str] = "image"
    fingerprint: str = "cd" * 32
    size: int = SIZE

    def encode(self, contents: Sequence[Any]) -> Any:
        raise NotImplementedError

    def stream(self, contents: Sequence[Any]) -> Iterator[Any]:
        for place in (int(one.paths[0].stem) for one in contents):
            if place == self.hangs:
                self.gate.wait(30)
            yield MediaError("broken") if place == 1 else np.full(SIZE, place, np.float32)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    pictures = []
    for place in range(4):
        (tmp_path / f"{place}.png").write_bytes(bytes([place]) * 10)
        pictures.append(Media((tmp_path / f"{place}.png",)))
    texts = [Text((("title", "x" * (place + 1)),)) for place in range(4)]
    return Catalog(Ids("abcd"), {"text": texts, "image": pictures})


KNOWN = {"text": Vectors.absent(1, SIZE, "ab" * 32), "image": Vectors.absent(1, SIZE, "cd" * 32)}


def present(encoded: Any, modality: str) -> list[bool]:
    return encoded.views[modality].present.tolist()


def test_what_works_is_as_without_it(catalog: Catalog, tmp_path: Path) -> None:
    plain = encode(catalog, {"text": Lengths(), "image": Streamed()}, Cache(tmp_path / "one"))
    patience = Patience(5.0)
    guarded = encode(catalog, patience.guarded({"text": Lengths(), "image": Streamed()}), Cache(tmp_path / "two"))
    for modality in ("text", "image"):
        np.testing.assert_array_equal(plain.views[modality].values, guarded.views[modality].values)
        assert plain.views[modality].source == guarded.views[modality].source
    assert [str(one) for one in plain.problems] == [str(one) for one in guarded.problems]  # of one broken picture
    assert patience.lacking == {}


def test_a_hanging_encoder_costs_its_patience_once_and_comes_back(catalog: Catalog, tmp_path: Path) -> None:
    gate = threading.Event()
    text, patience = Lengths(lambda contents: gate.wait(30) and None), Patience(0.2)
    begin = time.monotonic()
    for _ in range(3):
        done = encode(catalog, patience.guarded({"text": text, "image": Streamed()}, KNOWN), Cache(tmp_path / "cache"))
        assert present(done, "text") == [False] * 4
        assert present(done, "image") == [True, False, True, True]
        assert patience.lacking == {"text": "the text encoder does not answer"}
    assert time.monotonic() - begin < 3
    assert text.calls == [4]  # it was not called again: one thread is lost, not three
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "encode text":
            thread.join(5)
    done = encode(catalog, patience.guarded({"text": text}, KNOWN), Cache(tmp_path / "cache"))
    assert present(done, "text") == [True] * 4  # no refusal was kept
    assert done.views["text"].values[2].tolist() == [3.0] * SIZE
    assert patience.lacking == {}


def test_a_hanging_stream_keeps_what_came(catalog: Catalog, tmp_path: Path) -> None:
    image, patience = Streamed(hangs=2), Patience(0.2)
    done = encode(catalog, patience.guarded({"image": image}, KNOWN), Cache(tmp_path / "cache"))
    assert present(done, "image") == [True, False, False, False]
    assert patience.lacking == {"image": "the image encoder does not answer"}
    again = encode(catalog, patience.guarded({"image": image}, KNOWN), Cache(tmp_path / "cache"))
    assert present(again, "image") == [True, False, False, False]
    image.gate.set()
    image.hangs = -1
    for thread in threading.enumerate():
        if thread.name == "encode image":
            thread.join(5)
    whole = encode(catalog, patience.guarded({"image": image}, KNOWN), Cache(tmp_path / "cache"))
    assert present(whole, "image")[2:] == [True, True]


@pytest.mark.parametrize("error", [MissingExtra("x", "hub"), RemoteError("away"), OSError("no such file")])
def test_a_missing_encoder_is_told_and_asked_once_a_round(catalog: Catalog, tmp_path: Path, error: Exception) -> None:
    def fail(contents: Any) -> None:
        raise error

    text, patience = Lengths(fail), Patience(5.0)
    done = encode(catalog, patience.guarded({"text": text, "image": Streamed()}, KNOWN), Cache(tmp_path / "cache"))
    assert present(done, "text") == [False] * 4
    assert present(done, "image")[0]
    assert "the text encoder cannot be used" in patience.lacking["text"]
    assert text.calls == [4]
    text.before = lambda contents: None
    assert (
        present(encode(catalog, patience.guarded({"text": text}, KNOWN), Cache(tmp_path / "cache")), "text")
        == [True] * 4
    )


def test_one_content_that_breaks_an_encoder_takes_no_other_along(catalog: Catalog, tmp_path: Path) -> None:
    def fail(contents: Any) -> None:
        if any(len(one.joined()) == 2 for one in contents):
            raise ValueError("of a kind that nobody thought of")

    patience = Patience(5.0)
    done = encode(catalog, patience.guarded({"text": Lengths(fail)}), Cache(tmp_path / "cache"))
    assert present(done, "text") == [True, False, True, True]
    assert patience.lacking == {}


def test_size_and_fingerprint_of_before_stand_in(catalog: Catalog, tmp_path: Path) -> None:
    class Gone(Lengths):
        def __getattribute__(self, name: str) -> Any:
            if name in ("size", "fingerprint"):
                raise FileNotFoundError("model.onnx")
            return super().__getattribute__(name)

    known = {"text": Vectors.absent(2, SIZE, "ef" * 32)}
    gone = object.__new__(Gone)
    gone.__dict__.update(calls=[], before=lambda contents: None)
    patience = Patience(5.0)
    done = encode(catalog, patience.guarded({"text": gone}, known), Cache(tmp_path / "cache"))
    assert done.views["text"].source == "ef" * 32
    assert done.views["text"].values.shape == (4, SIZE)
    assert present(done, "text") == [False] * 4
    assert "text" in patience.lacking


def test_a_model_is_loaded_once_for_equal_settings() -> None:
    @dataclass(unsafe_hash=True)
    class Named(Lengths):
        name: str = "a"
        calls: list[int] = field(default_factory=list, compare=False)

    patience = Patience(5.0)
    first, second, other = Named(), Named(), Named(name="b")
    for encoder in (first, second, other):
        patience.guarded({"text": encoder})["text"].encode([Text((("title", "x"),))])
    assert (first.calls, second.calls, other.calls) == ([1, 1], [], [1])
