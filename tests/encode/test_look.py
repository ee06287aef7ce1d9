"""How pictures look: colour tells twins apart, one pass gives both views, and each view is kept by itself."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sensorium.arrays import unit
from sensorium.checks.conformance import check_encoder
from sensorium.data.catalog import Catalog
from sensorium.data.content import IMAGE, LOOK, TEXT, Media
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.image import EfficientNetEncoder
from sensorium.encode.look import EDGES, LookEncoder, in_cells
from sensorium.encode.open import open_encoders, open_look
from sensorium.encode.patience import Patience
from sensorium.encode.run import encode

COLOURS = {"red": (200, 40, 40), "blue": (40, 60, 200), "green": (40, 150, 60), "grey": (120, 120, 120)}


def shirt(path, colour, *, shift=0, striped=False):
    """A garment on white: a body and two sleeves of one colour, perhaps with stripes."""
    pixels = np.full((224, 224, 3), 255, np.uint8)
    for top, bottom, left, right in ((50, 200, 80, 144), (50, 90, 40, 184)):
        pixels[top:bottom, left + shift : right + shift] = COLOURS[colour]
    if striped:
        stripe = (pixels[::12] != 255).any(-1)
        pixels[::12][stripe] = 230
    Image.fromarray(pixels).save(path, quality=90)
    return Media((path,))


@pytest.fixture
def catalog(tmp_path):
    contents = {
        f"{colour}-{pattern}-{shot}": shirt(
            tmp_path / f"{colour}-{pattern}-{shot}.jpg", colour, shift=6 * shot, striped=pattern == "striped"
        )
        for colour in COLOURS
        for pattern in ("plain", "striped")
        for shot in range(2)
    }
    return Catalog(Ids(contents), {IMAGE: list(contents.values())})


def both(catalog):
    encoders = open_encoders(catalog)
    return {**encoders, **open_look(catalog, {}, encoders)}


def test_twins_that_differ_in_colour_or_pattern_alone_are_told_apart(catalog):
    values = encode(catalog, both(catalog), Cache(None)).views[LOOK].values
    near = unit(values - values.mean(0))
    cosines = near @ near.T - 2 * np.eye(len(near))
    for row, place in enumerate(cosines.argmax(1)):
        assert catalog.ids[place].rsplit("-", 1)[0] == catalog.ids[row].rsplit("-", 1)[0]  # the other shot of the same


def test_a_cell_is_the_mean_of_its_part_of_the_map():
    maps = np.random.default_rng(0).random((2, 5, 14, 14)).astype(np.float32)
    cells = in_cells(maps).reshape(2, 3, 3, 5)
    assert EDGES.tolist() == [0, 5, 9, 14]
    for down in range(3):
        for across in range(3):
            part = maps[:, :, EDGES[down] : EDGES[down + 1], EDGES[across] : EDGES[across + 1]]
            assert np.allclose(cells[:, down, across], part.reshape(2, 5, -1).mean(2), atol=1e-6)


def test_one_pass_gives_what_two_would(catalog, monkeypatch):
    passes = []
    run = EfficientNetEncoder.run

    def counted(self, pixels, *outputs):
        passes.append(len(pixels))
        return run(self, pixels, *outputs)

    monkeypatch.setattr(EfficientNetEncoder, "run", counted)
    encoders = both(catalog)
    done = encode(catalog, encoders, Cache(None))
    assert sum(passes) == len(catalog)
    assert done.computed == {IMAGE: len(catalog), LOOK: len(catalog)}
    for modality, encoder in encoders.items():
        alone = encode(catalog, {modality: encoder}, Cache(None)).views[modality]
        assert np.array_equal(alone.values, done.views[modality].values)
        assert alone.source == done.views[modality].source == encoder.fingerprint
    assert sum(passes) == 3 * len(catalog)


def test_a_cache_that_has_one_view_keeps_it_to_the_bit(catalog, tmp_path):
    encoders = both(catalog)
    cache = Cache(tmp_path / "cache")
    before = encode(catalog, {IMAGE: encoders[IMAGE]}, cache).views[IMAGE].values
    sizes = {path: path.stat().st_size for path in (tmp_path / "cache").iterdir()}
    done = encode(catalog, encoders, cache)
    again = encode(catalog, encoders, Cache(tmp_path / "cache"))
    assert again.computed == {IMAGE: 0, LOOK: 0}
    for modality in (IMAGE, LOOK):
        assert np.array_equal(done.views[modality].values, again.views[modality].values)
    assert np.array_equal(done.views[IMAGE].values, before)
    largest = max(sizes, key=lambda path: sizes[path])
    assert largest.stat().st_size == sizes[largest]  # nothing was written to the first view's file


def test_a_broken_picture_is_one_problem_and_lacks_both_views(catalog, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    more = Catalog(Ids([*catalog.ids, "broken"]), {IMAGE: [*catalog.content[IMAGE], Media((broken,))]})
    encoders = both(more)
    for asked in (encoders, Patience(60.0).guarded(encoders)):  # guarded encoders are run one by one
        done = encode(more, asked, Cache(tmp_path / "cache"))
        assert [problem.item for problem in done.problems] == ["broken"]
        for modality in (IMAGE, LOOK):
            assert done.views[modality].present.tolist() == [True] * len(catalog) + [False]


def test_look_goes_with_the_default_picture_encoder_unless_the_recipe_says_otherwise(catalog):
    def opened(choice):
        return open_look(catalog, choice, open_encoders(catalog, choice))

    assert list(opened({})) == [LOOK]
    assert opened({LOOK: "none"}) == {}
    assert opened({IMAGE: "none"}) == {}
    assert opened({IMAGE: "onnx:model.onnx"}) == {}
    assert list(opened({IMAGE: "onnx:model.onnx", LOOK: "efficientnet"})) == [LOOK]
    assert list(opened({IMAGE: "none", LOOK: "efficientnet"})) == [LOOK]
    assert open_look(Catalog(Ids("a"), {TEXT: [None]}), {LOOK: "efficientnet"}) == {}


def test_conformance(catalog):
    check_encoder(LookEncoder(), catalog.content[IMAGE][:3])
