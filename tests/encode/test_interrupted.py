"""A run that was cut off anywhere and started again gives the same bytes as one that was not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_hub import write

from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, TEXT, Media, Text
from sensorium.data.ids import Ids
from sensorium.encode.cache import HEADER, Cache
from sensorium.encode.encoder import Encoder
from sensorium.encode.hub import HubImageEncoder
from sensorium.encode.run import CHUNK, _todo, encode
from sensorium.encode.text import MultilingualEncoder

COUNT = 660  # texts: two whole chunks, and a part of one


@pytest.fixture(scope="module")
def texts() -> Catalog:
    rng = np.random.default_rng(2)
    known = ["slow", "train", "snow", "雪", "火车", "harbour", "night", "through", "the", "lamp", "city", "wind", "12"]
    made = [" ".join(rng.choice(known, size=int(rng.integers(1, 16)))) for _ in range(COUNT - 40)]
    made += made[:40]  # the same text twice is one content
    return Catalog(Ids(map(str, range(COUNT))), {TEXT: [Text((("title", text),)) for text in made]})


class Neighbourly:
    """An encoder whose vectors tell who stood beside them in the call: rounding, much exaggerated."""

    modality, size, fingerprint = TEXT, 3, "neighbourly"

    def encode(self, contents) -> np.ndarray:
        lengths = np.array([len(content.joined()) for content in contents], np.float32)
        places = np.arange(len(lengths), dtype=np.float32)
        return np.stack([lengths, places, np.full_like(places, (lengths * places).sum())], axis=1)


@pytest.fixture(scope="module")
def text_encoder() -> Neighbourly:
    return Neighbourly()


@pytest.fixture(scope="module")
def whole(texts, text_encoder, tmp_path_factory) -> tuple[bytes, int, bytes]:
    """What a run without interruption gives: vectors, how many were computed, and the cache's file of them."""
    folder = tmp_path_factory.mktemp("whole")
    vectors, count = run(texts, text_encoder, folder)
    return vectors, count, largest(folder).read_bytes()


def largest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> tuple[Catalog, HubImageEncoder]:
    home, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [home / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        if number % 11 == 5:
            path.write_bytes(b"\x89PNG no more " + bytes([number]))
    catalog = Catalog(Ids(path.name for path in paths), {IMAGE: [Media((path,)) for path in paths]})
    return catalog, HubImageEncoder(str(write("vit", home / "vit")), batch=16)


def run(catalog: Catalog, encoder: Encoder, folder: Path, stop: int = -1) -> tuple[bytes, int]:
    """The bytes of all vectors, and how many were computed; interrupted when `stop` contents are done."""

    def progress(_: str, done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    done = encode(catalog, {encoder.modality: encoder}, Cache(folder), progress=progress)
    return done.views[encoder.modality].values.tobytes(), done.computed[encoder.modality]


@pytest.mark.parametrize("stop", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 30])
def test_texts_that_were_interrupted_have_the_same_bytes(texts, text_encoder, whole, tmp_path, stop):
    vectors, count, stored = whole
    with pytest.raises(KeyboardInterrupt):
        run(texts, text_encoder, tmp_path, stop)
    again, left = run(texts, text_encoder, tmp_path)
    assert again == vectors
    assert left <= count - stop + CHUNK
    assert largest(tmp_path).read_bytes() == stored
    assert run(texts, text_encoder, tmp_path) == (vectors, 0)


def test_texts_of_a_cache_that_was_torn_anywhere_have_the_same_bytes(texts, text_encoder, whole, tmp_path):
    vectors, _, stored = whole
    run(texts, text_encoder, tmp_path)
    for place in np.random.default_rng(1).integers(HEADER, len(stored), size=20):
        largest(tmp_path).write_bytes(stored[: int(place)])
        assert run(texts, text_encoder, tmp_path)[0] == vectors
        assert largest(tmp_path).read_bytes() == stored


def test_the_multilingual_encoder_too_gives_the_same_bytes(tmp_path):
    rng, encoder = np.random.default_rng(4), MultilingualEncoder()
    made = [f"{word} {number}" for number, word in enumerate(rng.choice(["snow", "火车", "the harbour"], CHUNK + 30))]
    catalog = Catalog(Ids(made), {TEXT: [Text((("title", text),)) for text in made]})
    vectors, _ = run(catalog, encoder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(catalog, encoder, tmp_path / "cut", CHUNK + 10)
    assert run(catalog, encoder, tmp_path / "cut")[0] == vectors


@pytest.mark.parametrize("stop", [3, 16, 17, 39])
def test_pictures_that_were_interrupted_have_the_same_bytes(pictures, tmp_path, stop):
    catalog, encoder = pictures
    whole, count = run(catalog, encoder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(catalog, encoder, tmp_path / "cut", stop)
    again, left = run(catalog, encoder, tmp_path / "cut")
    assert again == whole
    assert left <= count - stop + 16
    assert run(catalog, encoder, tmp_path / "cut") == (whole, 0)


def test_a_catalogue_that_grew_asks_for_what_is_new_alone(texts, text_encoder, whole, tmp_path):
    rows = [row for row in range(COUNT) if row % 50]
    part = Catalog(Ids(map(str, rows)), {TEXT: [texts.content[TEXT][row] for row in rows]})
    run(part, text_encoder, tmp_path)
    kept = np.frombuffer(run(texts, text_encoder, tmp_path)[0], np.float32)
    anew = np.frombuffer(whole[0], np.float32)
    assert np.array_equal(kept.reshape(-1, 3)[:, 0], anew.reshape(-1, 3)[:, 0])
    order = [bytes([place]) for place in range(20)]
    assert _todo(order, set(order) - {order[3], order[9]}, 8) == [order[3], order[9]]
    assert _todo(order, set(order[:10]), 8) == order[8:]
    assert _todo(order, set(order) - {order[0], *order[14:16]}, 8) == [*order[8:16], order[0]]
    assert _todo(order, set(order), 8) == []
