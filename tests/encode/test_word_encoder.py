"""The words of texts: rare ones tell texts apart, and a text of unknown words says nothing."""

from __future__ import annotations

import numpy as np

from sensorium.arrays import unit
from sensorium.checks.conformance import check_encoder
from sensorium.data.catalog import Catalog
from sensorium.data.content import TEXT, WORDS, Text
from sensorium.data.events import Events
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.open import open_encoders, open_words
from sensorium.encode.run import encode
from sensorium.encode.words import WordEncoder, WordSettings
from sensorium.fuse.concat import Concat


def told(*texts: str) -> list[Text]:
    return [Text((("title", text),)) for text in texts]


POLISH = told(
    "OPI polish red", "OPI polish blue", "Essie polish red", "Essie polish blue", "Zoya polish red", "Zoya polish green"
)


def test_rows_are_weighted_by_rarity_and_keep_their_cosines() -> None:
    encoder = WordEncoder.fit(POLISH)
    values = encoder.encode(POLISH)
    # All of the few words fit into `size`, so dot products are those of the TF-IDF rows, written out here by hand.
    shares = {"opi": 2, "essie": 2, "zoya": 2, "polish": 6, "red": 3, "blue": 2}  # green stands in one text alone
    rows = np.array([
        [np.log(6 / n) + 0.01 if word in text.joined().lower().split() else 0 for word, n in shares.items()]
        for text in POLISH
    ])  # fmt: skip
    assert np.allclose(values @ values.T, unit(rows) @ unit(rows).T, atol=1e-5)
    assert encoder.vocabulary == tuple(sorted(shares))
    brand, colour = values[0] @ values[1], values[0] @ values[2]
    assert brand > colour  # two texts in six name the brand, three the colour


def test_a_text_of_unknown_words_is_absent_after_fusion(tmp_path) -> None:
    catalog = Catalog(Ids("abcdefg"), {TEXT: [*POLISH, *told("Quite other")]})
    encoders = open_words(catalog, {WORDS: {"use": "tfidf", "least": 2}})
    view = encode(catalog, encoders, Cache(tmp_path)).views[WORDS]
    fused = Concat().fit({WORDS: view}, Events.of([], [], users=0, items=7), rng=np.random.default_rng(0))
    assert fused.fuse({WORDS: view}).present.tolist() == [True] * 6 + [False]


def test_words_are_a_view_of_texts_unless_the_recipe_leaves_them_out() -> None:
    catalog = Catalog(Ids("abcdef"), {TEXT: POLISH})
    assert list(open_words(catalog)) == [WORDS]
    assert open_words(catalog, {WORDS: "none"}) == {}
    assert open_words(catalog, {TEXT: "none"}) == {}
    assert list(open_words(catalog, {TEXT: "none", WORDS: "tfidf"})) == [WORDS]
    assert WORDS not in open_encoders(catalog, {WORDS: "tfidf", TEXT: "none"})
    assert open_words(Catalog(Ids("a"), {}), {WORDS: "tfidf"}) == {}


def test_bounds_hold_and_a_catalogue_without_repeated_words_is_encoded_too() -> None:
    encoder = WordEncoder.fit(POLISH, WordSettings(size=2, most=3))
    assert encoder.size == 2
    assert len(encoder.vocabulary) == 3
    bare = WordEncoder.fit(told("one", "two", "three"))
    assert bare.vocabulary == ()
    assert not bare.encode(POLISH).any()


def test_conformance() -> None:
    check_encoder(WordEncoder.fit(POLISH), POLISH)
