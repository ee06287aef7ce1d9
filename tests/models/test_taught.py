"""What words are worth: a world in which they mean to people what their sense does not say, and derivations by hand."""

from dataclasses import replace

import numpy as np
import pytest

from sensorium.checks.conformance import check_model
from sensorium.data.content import TOKENS, Text
from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.encode.tokens import TokenEncoder, number
from sensorium.errors import RecipeError, ShapeError
from sensorium.models.coldaligner import SPREADS, ColdAligner, ColdAlignerModel, TaughtAlignerModel
from sensorium.models.model import Embeds, Features
from sensorium.models.taught import Taught, bags
from sensorium.models.taught_training import pairs

RNG = np.random.default_rng
ITEMS, COLD = 60, 12
BRIEF = Taught(size=8, epochs=12, dropout=0.2, learning_rate=0.02, negatives=32, batch=32)
PAIR = ColdAligner(size=4, epochs=0, taught=BRIEF)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENSORIUM_THREADS", "1")
        yield


def branded(people=150, seed=0):
    """Four brands in two houses, and the title says which brand; people keep to a house, which no title names. The sense of
    the titles (two columns) tells the brands apart otherwise. The last `COLD` items nobody has met."""
    rng = RNG(seed)
    brand = np.arange(ITEMS) % 4
    house = brand % 2
    titles = [f"{('Alba', 'Bora', 'Cima', 'Dune')[b]} cream {i % 7}" for i, b in enumerate(brand)]
    sense = np.eye(2, dtype=np.float32)[brand // 2] + 0.1 * rng.normal(size=(ITEMS, 2)).astype(np.float32)
    sense /= np.linalg.norm(sense, axis=1, keepdims=True)
    known = ITEMS - COLD
    chosen = [rng.permutation(np.flatnonzero(house[:known] == p % 2))[:6] for p in range(people)]
    events = Events.of(np.repeat(np.arange(people), 6), np.concatenate(chosen), users=people, items=ITEMS)
    there = np.ones(ITEMS, bool)
    written = TokenEncoder(size=16).encode([Text((("title", title),)) for title in titles])
    features = Features(Vectors(sense, there, "sense"), {TOKENS: Vectors(written, there, "tokens")})
    return events, features, house


def all_right(scores, house):
    cold = scores[:, -COLD:]
    right = house[-COLD:][None, :] == (np.arange(len(scores)) % 2)[:, None]
    return (np.where(right, cold, np.inf).min(1) > np.where(right, -np.inf, cold).max(1)).mean()


def test_brands_that_go_together_are_learnt_from_people_though_their_sense_differs():
    events, features, house = branded()
    people = events.histories(np.arange(40))
    taught = BRIEF.fit(events, features, rng=RNG(0))
    assert all_right(taught.score(people), house) == 1
    beside = PAIR.fit(events, features, rng=RNG(0))
    assert isinstance(beside, TaughtAlignerModel)
    assert not isinstance(beside, Embeds)
    assert all_right(beside.score(people), house) == 1
    blind = PAIR.fit(events, replace(features, views={}), rng=RNG(0))
    assert isinstance(blind, ColdAlignerModel)
    assert all_right(blind.score(people), house) < 0.5


def test_the_score_is_the_logarithm_of_a_sum_of_kernels():
    events, features, _ = branded()
    model = BRIEF.fit(events, features, rng=RNG(0))
    history = events.histories([3])
    mine = events.item[events.user == 3]
    near = np.exp(model.sharpness * (model.vectors[mine] @ model.vectors.T - 1)).sum(0)
    np.testing.assert_allclose(model.score(history)[0], model.temper * np.log(near) + model.fame, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(model.vectors, axis=1), 1, atol=1e-5)


def test_a_new_item_is_read_from_its_tokens_alone():
    events, features, _ = branded()
    model = BRIEF.fit(events, features, rng=RNG(0))
    known = ITEMS - COLD
    young = BRIEF.fit(events.resized(events.users, known), features.take(np.arange(known)), rng=RNG(0))
    np.testing.assert_allclose(young.extended(features).vectors, model.vectors, atol=1e-5)
    assert model.extended(features) is model
    item = 5
    given = features.views[TOKENS].values[item]
    place = [list(model.known).index(one) for one in given if one in model.known]
    by_hand = model.table[place].sum(0) / np.sqrt(len(place)) + features.items.values[item] @ model.map + model.centre
    np.testing.assert_allclose(model.vectors[item], by_hand[:-1] / np.linalg.norm(by_hand[:-1]), atol=1e-5)
    assert model.fame[item] == pytest.approx(by_hand[-1], abs=1e-5)
    with pytest.raises(ShapeError, match="size 3"):
        model.extended(Features(Vectors(np.ones((ITEMS + 1, 3), np.float32), np.ones(ITEMS + 1, bool), "x")))


def test_known_items_keep_their_order_and_new_ones_stand_as_far_apart_as_match_says():
    events, features, _ = branded()
    people = events.histories(np.arange(10))
    model = PAIR.fit(events, features, rng=RNG(0))
    known, new = np.arange(ITEMS - COLD), np.arange(ITEMS - COLD, ITEMS)
    np.testing.assert_array_equal(model.score(people)[:, known], model.aligner.score(people)[:, known])
    tight = replace(model, match=model.match / 2).score(people)[:, new]
    middle = model.aligner.score(people)[:, known].mean(1, keepdims=True)
    np.testing.assert_allclose(2 * (tight - middle), model.score(people)[:, new] - middle, rtol=1e-3, atol=1e-4)
    near = [np.corrcoef(one, other)[0, 1] for one, other in zip(tight, model.taught.score(people)[:, new], strict=True)]
    assert min(near) > 0.8


def test_validation_takes_words_where_they_help_and_leaves_them_where_they_do_not():
    events, features, _ = branded()
    cold = np.arange(ITEMS - COLD - 12, ITEMS - COLD)
    out = np.isin(events.item, cold)
    fold = Fold(events.take(~out), events.take(out), cold)
    assert PAIR.tuned(fold, features, rng=RNG(0)).taught.epochs == BRIEF.epochs
    dumb = replace(PAIR, taught=replace(BRIEF, epochs=1, learning_rate=1e-9, sharpness=0.0))
    loud = replace(
        features, items=Vectors(np.eye(2, dtype=np.float32)[np.arange(ITEMS) % 2], features.items.present, "house")
    )
    assert dumb.tuned(fold, loud, rng=RNG(0)).taught.epochs == 0
    assert PAIR.tuned(fold, features, rng=RNG(0)).match in SPREADS


def test_the_same_seed_gives_the_same_bytes():
    events, features, _ = branded()
    one, two, other = (BRIEF.fit(events, features, rng=RNG(seed)) for seed in (0, 0, 1))
    assert one.table.tobytes() == two.table.tobytes() != other.table.tobytes()


def test_tokens_that_nobody_knows_are_silent():
    _, features, _ = branded()
    view = features.views[TOKENS]
    known = np.unique(view.values[view.values > 0]).astype(np.int64)[:5]
    bag = bags(features, known).toarray()
    has = np.stack([[one in row for one in known] for row in view.values.astype(int)])
    np.testing.assert_allclose(bag, has / np.sqrt(np.maximum(has.sum(1, keepdims=True), 1)), atol=1e-6)
    assert bags(features, np.zeros(0, np.int64)).nnz == 0
    left, right = pairs(np.array([0, 0, 0, 2, 4, 4]))
    assert sorted(zip(left.tolist(), right.tolist())) == [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
        (4, 5),
        (5, 4),
    ]
    assert 0 < number("opi") < 1 << 24


def test_it_is_a_model_like_the_others_with_tokens_and_without():
    check_model(replace(BRIEF, epochs=2))
    with pytest.raises(RecipeError, match="dropout"):
        Taught(dropout=1.0)
