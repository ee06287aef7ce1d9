"""Attributes as vectors: numbers that are no sense still give finite ones, and no warning."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.data.content import Attributes
from sensorium.encode.attributes import AttributeEncoder

HUGE = 1e308


def vectors(fitted: list[float], asked: list[float]) -> list[float]:
    encoder = AttributeEncoder.fit([Attributes({"price": value}) for value in fitted])
    return encoder.encode([Attributes({"price": value}) for value in asked]).ravel().tolist()


def test_a_number_far_beyond_the_others_is_as_far_out_as_any_may_be() -> None:
    fitted = [float(value) for value in range(1, 40)]
    low, high, mean = vectors(fitted, [-HUGE, HUGE, 20.0])
    assert (low, high, mean) == (-8.0, 8.0, 0.0)


@pytest.mark.parametrize("fitted", [[1.0, 2.0, HUGE], [HUGE] * 3, [-HUGE, HUGE, 3.0], [0.0, -HUGE]])
def test_a_catalogue_with_such_numbers_has_finite_vectors(fitted: list[float]) -> None:
    assert np.isfinite(vectors(fitted, [*fitted, 1.0])).all()
