"""A list may be made of named sources alone, and of a blend's members under other weights."""

from __future__ import annotations

import numpy as np
import pytest

from sensorium.data.events import Histories
from sensorium.errors import RecipeError
from sensorium.models.blend import BlendModel
from sensorium.rank.query import Query


class Fixed:
    """A member whose scores are given."""

    def __init__(self, *scores: float) -> None:
        self.scores = np.array([scores], np.float32)

    def score(self, histories: Histories, candidates: np.ndarray | None = None) -> np.ndarray:
        return self.scores if candidates is None else self.scores[:, candidates]


def blend() -> BlendModel:
    members = {"ease": Fixed(3, 2, 1, 0), "content": Fixed(0, 1, 2, 3)}
    return BlendModel(members, np.array([0, 5]), np.array([[1, 0.1], [0.1, 1]], np.float32))


def test_members_count_as_the_query_says_for_everybody() -> None:
    assert blend().weighing({"content": 2.0}).members.keys() == {"content"}
    other = blend().weighing({"content": 2.0, "ease": 0.5})
    assert other.weights.tolist() == [[0.5, 2.0]]
    assert other.lengths.tolist() == [0]


@pytest.mark.parametrize("members", [{"eas": 1.0}, {"ease": 0.0}])
def test_weights_that_leave_nothing_are_refused(members: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="member"):
        blend().weighing(members)


@pytest.mark.parametrize(
    "wish", [{"sources": "near"}, {"sources": ["far"]}, {"members": {"ease": -1.0}}, {"members": {"ease": "much"}}]
)
def test_a_query_checks_them(wish: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        Query(**wish)  # type: ignore[arg-type]
