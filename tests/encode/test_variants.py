"""Variants for training: pictures cut and mirrored, fields left out; encoded, cached and told from the originals."""

from pathlib import Path

import numpy as np
import pytest

from sensorium.data.catalog import Catalog
from sensorium.data.content import AUDIO, IMAGE, TEXT, Media, Text
from sensorium.data.ids import Ids
from sensorium.encode.cache import Cache
from sensorium.encode.image import EfficientNetEncoder, pictures
from sensorium.encode.media import Limits
from sensorium.encode.pool import decoders
from sensorium.encode.run import encode
from sensorium.encode.variants import variants
from sensorium.errors import SensoriumError
from sensorium.recipe import dump, read_recipe_text
from sensorium.train.augment import Augment


def world(folder: Path, items: int = 4) -> Catalog:
    from PIL import Image

    rng = np.random.default_rng(0)
    files = []
    for n in range(items):
        files.append(folder / f"{n}.png")
        Image.fromarray(rng.integers(0, 255, (60, 50, 3), dtype=np.uint8)).save(files[-1])
    texts = [Text((("title", f"thing {n}"), ("plot", "long"), ("note", "short"))) for n in range(items)]
    ids = Ids(f"i{n}" for n in range(items))
    return Catalog(ids, {IMAGE: [Media((f,)) for f in files], TEXT: texts, AUDIO: [None] * items})


def test_a_variant_is_a_cut_of_the_same_picture(tmp_path: Path) -> None:
    catalog = world(tmp_path)
    one, two = variants(catalog, Augment(variants=2), seed=0)
    assert AUDIO not in one.content
    plain, first, again, second = (
        list(pictures(c.content[IMAGE], 32, decoders(Limits()))) for c in (catalog, one, one, two)
    )
    for n in range(4):
        assert np.array_equal(first[n], again[n])
        assert not np.array_equal(first[n], plain[n])
        assert not np.array_equal(first[n], second[n])
        pixels = {tuple(p) for p in plain[n].reshape(-1, 3)}
        assert all(tuple(p) in pixels for p in first[n].reshape(-1, 3))


def test_texts_lose_fields_and_growing_changes_no_earlier_one(tmp_path: Path) -> None:
    small, large = world(tmp_path, 4), world(tmp_path, 9)
    (few,), (more,) = (list(variants(c, Augment(variants=1, fields=0.5), seed=3)) for c in (small, large))
    assert few.content[TEXT] == more.content[TEXT][:4]
    assert {len(text.fields) for text in more.content[TEXT]} <= {1, 2, 3}
    assert any(len(text.fields) < 3 for text in more.content[TEXT])
    assert not list(variants(small, Augment(), seed=3))


def test_variants_have_vectors_of_their_own_in_the_cache(tmp_path: Path) -> None:
    catalog = world(tmp_path, 2)
    (one,) = variants(catalog, Augment(variants=1), seed=0)
    encoder = {IMAGE: EfficientNetEncoder()}
    cache = Cache(tmp_path / "cache")
    plain = encode(catalog, encoder, cache).views[IMAGE].values
    disturbed = encode(one, encoder, cache)
    assert disturbed.computed == {IMAGE: 2}
    cosine = (plain * disturbed.views[IMAGE].values).sum(1) / (
        np.linalg.norm(plain, axis=1) * np.linalg.norm(disturbed.views[IMAGE].values, axis=1)
    )
    assert (cosine < 0.9999).all()
    assert encode(one, encoder, Cache(tmp_path / "cache")).computed == {IMAGE: 0}
    assert np.array_equal(encode(catalog, encoder, cache).views[IMAGE].values, plain)


def test_the_recipe_says_how_many() -> None:
    recipe = read_recipe_text('[events]\nfiles = "e.csv"\n[augment]\nvariants = 2\n')
    assert recipe.augment == Augment(variants=2)
    assert read_recipe_text(dump(recipe)).augment == recipe.augment
    with pytest.raises(SensoriumError, match="variants is 99"):
        read_recipe_text('[events]\nfiles = "e.csv"\n[augment]\nvariants = 99\n')
