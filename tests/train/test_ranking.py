"""Ranks of held-out targets: counted by hand, and refused where a model's scores are no numbers."""

import numpy as np
import pytest

from sensorium.data.events import Events, Fold
from sensorium.errors import ShapeError
from sensorium.train.ranking import rank_targets

FOLD = Fold(
    Events.of([0, 0, 1], [0, 1, 2], users=2, items=5), Events.of([0, 1, 1], [3, 3, 4], users=2, items=5)
)  # fmt: skip


def test_ranks_are_what_counting_says():
    scores = np.array([[9.0, 9.0, 3.0, 2.0, 1.0], [5.0, 1.0, 9.0, 1.0, 2.0]], np.float32)
    found = rank_targets(lambda histories: scores[: len(histories)], FOLD)
    # The first person has 0 and 1: of 2, 3, 4 the target 3 stands second. The second has 2: 0, 4, then 1 and 3 level.
    assert list(zip(found.user.tolist(), found.item.tolist(), found.rank.tolist())) == [
        (0, 3, 1.0),
        (1, 3, 2.5),
        (1, 4, 1.0),
    ]
    assert found.recall(2) == (1 + 0.5) / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_refused_in_one_line(bad):
    def score(histories):
        out = np.zeros((len(histories), 5), np.float32)
        out[0, 1] = bad
        return out

    with pytest.raises(ShapeError, match="not finite"):
        rank_targets(score, FOLD)
