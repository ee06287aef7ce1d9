"""Tokens: hashed words and pairs, which fusion leaves out."""

import numpy as np

from sensorium.build import fused
from sensorium.data.catalog import Catalog
from sensorium.data.content import TEXT, TOKENS, WORDS, Text
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.open import open_words
from sensorium.encode.run import encode
from sensorium.encode.tokens import TokenEncoder, number, tokens
from sensorium.fuse.concat import Concat

TITLES = ("Red red Rose", "red rose", "Blue!", "...")


def test_a_text_is_its_words_and_pairs_in_the_order_of_reading():
    assert tokens("Red red Rose") == ["^red", "red", "red red", "rose", "red rose"]
    assert tokens("...") == []
    found = TokenEncoder(size=3).encode([Text((("title", title),)) for title in TITLES])
    assert found.dtype == np.float32
    assert found[0].tolist() == [number("^red"), number("red"), number("red red")]
    assert found[2].tolist() == [number("^blue"), number("blue"), 0]
    assert not found[3].any()


def test_they_are_there_when_asked_for_and_no_part_of_the_fused_space(tmp_path):
    catalog = Catalog(Ids("abcd"), {TEXT: [Text((("title", title),)) for title in TITLES]})
    assert TOKENS not in open_words(catalog)
    encoders = open_words(catalog, {TOKENS: "hashed"})
    assert list(open_words(catalog, {TEXT: "none", TOKENS: {"use": "hashed", "size": 4}})) == [TOKENS]
    views = encode(catalog, encoders, Cache(tmp_path)).views
    assert set(views) == {WORDS, TOKENS}
    nobody = Events.of([], [], users=0, items=4)
    model, features = fused(Concat(), views, None, nobody, seed=0)
    assert list(model.blocks) == [WORDS]
    assert TOKENS in features.views
    np.testing.assert_array_equal(model.fuse(views).values, features.items.values)
    _, alone = fused(Concat(), {TOKENS: views[TOKENS]}, None, nobody, seed=0)
    assert not alone.items.present.any()
