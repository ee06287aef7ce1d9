"""What a build remembers: models that are compared share a space only where they know the same."""

from dataclasses import replace

import numpy as np

from sensorium.build import Reviews, remembering
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.fuse.concat import Concat


def test_spaces_are_shared_only_where_people_and_reviews_are_the_same() -> None:
    fuse, fusion = remembering(capacity=8), Concat()
    text = np.array(["good"], object)
    events = Events.of([0], [1], users=2, items=3)
    events = type(events)(**{**events.__dict__, "text": text})
    people = Vectors(np.ones((2, 2), np.float32), np.ones(2, bool), "p")
    reviews = Reviews({"good": 0}, Vectors(np.ones((1, 4), np.float32), np.ones(1, bool), "r"))

    def features(people: Vectors | None, reviews: Reviews | None):
        return fuse(fusion, {}, people, events, seed=0, reviews=reviews)[1]

    assert features(people, None).people is people
    assert features(None, None).people is None
    assert "reviews" in features(None, reviews).views
    assert "reviews" not in features(None, None).views
    assert features(people, None) is features(people, None)


def test_an_event_names_the_row_of_its_review_and_features_hold_the_rows() -> None:
    reviews = Reviews({"bad": 0, "good": 1}, Vectors(np.eye(2, dtype=np.float32), np.ones(2, bool), "r"))
    silent = Events.of([0, 0, 1], [0, 1, 2], users=2, items=3)
    assert reviews.numbered(silent) is silent
    events = reviews.numbered(replace(silent, text=np.array(["good", None, "bad"], object)))
    assert events.review is not None
    assert events.review.tolist() == [1, -1, 0]
    assert events.take(np.array([0, 2])).merged(silent).review.tolist() == [1, -1, -1, 0, -1]
    assert silent.merged(silent).review is None
    histories = events.histories([1, 0])
    assert histories.review.tolist() == [0, 1, -1]
    assert histories.take([1]).review.tolist() == [1, -1]
    assert histories.last(1).review.tolist() == [0, -1]
    _, features = remembering()(Concat(), {}, None, events, seed=0, reviews=reviews)
    assert features.reviews is reviews.vectors
    assert features.without_content().reviews is None
