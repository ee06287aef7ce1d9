"""Modality weights: as if the columns had been weighed from the start, and with parts that sum."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.arrays import unit
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.models.blend import Blend
from sensorium.models.content import Content
from sensorium.models.model import Features
from sensorium.models.steered import Steered, steered

RNG = np.random.default_rng(3)
VALUES = unit(RNG.normal(size=(12, 6)))
VALUES[4, :3] = 0  # has no picture
VALUES[5] = 0
FEATURES = Features(
    Vectors(unit(VALUES), np.abs(VALUES).max(1) > 0, "test"), blocks={"image": slice(0, 3), "text": slice(3, 6)}
)
EVENTS = Events.of([0, 0, 0, 1, 1], [0, 1, 4, 2, 3], users=2, items=12)


def fitted(**settings):
    return Content(**settings).fit(EVENTS, FEATURES, rng=np.random.default_rng(0))


@pytest.mark.parametrize("weights", [{"image": 0.25}, {"image": 3.0, "text": 0.5}, {"text": 0.0}])
def test_weighing_later_is_weighing_from_the_start(weights):
    histories = EVENTS.histories(np.array([0, 1]))
    later = steered(fitted(), weights)[0]
    assert isinstance(later, Steered)
    np.testing.assert_allclose(later.score(histories), fitted(weights=weights).score(histories), rtol=2e-4, atol=1e-6)
    rows = np.array([2, 5, 7])
    np.testing.assert_allclose(later.score(histories, rows), later.score(histories)[:, rows], rtol=1e-5)


def test_parts_sum_and_a_modality_that_does_not_count_has_none():
    history = EVENTS.histories(np.array([0]))
    model = steered(fitted(), {"image": 0.0})[0]
    rows = np.arange(12)
    parts = model.parts(history, rows)
    assert parts.sources == ("image", "text")
    np.testing.assert_allclose(parts.values.sum((1, 2)) + parts.base, model.score(history)[0], rtol=1e-4, atol=1e-6)
    assert not parts.values[:, :, 0].any()
    assert parts.values[:, :, 1].any()


def test_a_blend_steers_its_content_and_others_say_that_they_cannot():
    models = {"content": fitted(), "popularity": Blend().popularity.fit(EVENTS, FEATURES, rng=np.random.default_rng(0))}
    blend = Blend(use=("content", "popularity")).of(models)
    turned, note = steered(blend, {"image": 0.0})
    assert note == ""
    assert isinstance(turned.members["content"], Steered)
    assert turned.members["popularity"] is models["popularity"]
    assert steered(models["popularity"], {"image": 0.0}) == (
        models["popularity"], "the weights of image change nothing: PopularityModel does not compare content by modality",
    )  # fmt: skip
    assert steered(fitted(), {"image": 1.0})[1] == ""
    assert "no item has audio" in steered(fitted(), {"audio": 2.0})[1]
