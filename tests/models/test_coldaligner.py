"""Cold items beside warm ones: against independent derivations, and in tiny worlds whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest

from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError, ShapeError
from sensorium.models.coldaligner import ColdAligner, ColdAlignerModel, one_each
from sensorium.models.model import Embeds, Features
from sensorium.train.ranking import rank_targets

RNG = np.random.default_rng
CLOSED = ColdAligner(size=4, epochs=0, match=0.0)
ITEMS, COLD = 40, 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENSORIUM_THREADS", "1")
        yield


def striped(seed=0, people=120):
    """Items of two colours, which their content shows; people keep to one. The last `COLD` items nobody has met."""
    rng = RNG(seed)
    colour = np.arange(ITEMS) % 2
    known = ITEMS - COLD
    item = np.concatenate([rng.permutation(np.arange(p % 2, known, 2))[:6] for p in range(people)])
    values = np.eye(2, dtype=np.float32)[colour] + 0.2 * rng.normal(size=(ITEMS, 2)).astype(np.float32)
    values = np.concatenate([values, 0.5 * rng.normal(size=(ITEMS, 4))], axis=1).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    events = Events.of(np.repeat(np.arange(people), 6), item, users=people, items=ITEMS)
    return events, Features(Vectors(values, np.ones(ITEMS, bool), "colour")), colour


def fitted(settings=CLOSED, seed=0) -> ColdAlignerModel:
    events, features, _ = striped()
    return settings.fit(events, features, rng=RNG(seed))


@pytest.mark.parametrize(
    "settings", [CLOSED, replace(CLOSED, epochs=3), replace(CLOSED, epochs=3, exact=1, negatives=16)]
)
def test_a_cold_item_is_found_by_its_colour(settings):
    events, _, colour = striped()
    scores = fitted(settings).score(events.histories(np.arange(20)), np.arange(ITEMS - COLD, ITEMS))
    right = colour[-COLD:][None, :] == (np.arange(20) % 2)[:, None]
    assert (np.where(right, scores, np.inf).min(1) > np.where(right, -np.inf, scores).max(1)).all()


def test_the_closed_form_is_a_weighted_ridge_regression():
    events, features, _ = striped()
    model = fitted()
    counts = np.bincount(events.item, minlength=ITEMS)[: ITEMS - COLD]
    weight = counts / (counts + 1)
    target = model.item_vectors()[: ITEMS - COLD, :-1]
    x = features.items.values[: ITEMS - COLD]
    mean = (weight[:, None] * target).sum(0) / weight.sum()
    # The penalty as rows of data, and ordinary least squares.
    left = np.concatenate([np.sqrt(weight)[:, None] * x, np.sqrt(CLOSED.l2) * np.eye(x.shape[1])])
    right = np.concatenate([np.sqrt(weight)[:, None] * (target - mean), np.zeros((x.shape[1], target.shape[1]))])
    slope = np.linalg.lstsq(left, right, rcond=None)[0]
    expected = features.items.values[ITEMS - COLD :] @ slope + mean
    np.testing.assert_allclose(model.item_vectors()[ITEMS - COLD :, :-1], expected, atol=1e-4)


def test_leaving_one_out_is_what_fitting_without_it_foretells():
    from sensorium.models.coldaligner_training import leverage, matching

    rng = RNG(3)
    x, y = rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(30, 2)).astype(np.float32)
    counts = np.full(30, 3.0, np.float32)
    features = Features(Vectors(x, np.ones(30, bool), "x"))
    seen = leverage(features, np.arange(30), counts, 2.0)

    def map_of(keep):
        return np.linalg.solve(0.75 * x[keep].T @ x[keep] + 2 * np.eye(4), 0.75 * x[keep].T @ y[keep])

    made = x @ map_of(np.arange(30))
    honest = np.stack([x[i] @ map_of(np.delete(np.arange(30), i)) for i in range(30)])
    np.testing.assert_allclose((made - seen[:, None] * y) / (1 - seen[:, None]), honest, atol=1e-4)
    expected = np.sqrt((y**2).mean() / (honest**2).mean())
    assert matching(y, made.astype(np.float32), np.zeros(2, np.float32), seen) == pytest.approx(expected, rel=1e-3)


def test_matching_brings_cold_vectors_to_the_crowds_length_and_leaves_warm_ones():
    short, whole = fitted(), fitted(replace(CLOSED, match=1.0))
    warm = slice(0, ITEMS - COLD)
    np.testing.assert_allclose(short.item_vectors()[warm], whole.item_vectors()[warm], atol=1e-5)

    def spread(model):
        away = model.item_vectors()[ITEMS - COLD :, :-1] - model.centre[:-1]
        return float(np.linalg.norm(away))

    assert spread(whole) == pytest.approx(short.apart * spread(short), rel=1e-4)
    assert short.apart > 1


def test_warmth_moves_an_item_from_its_content_to_the_crowd():
    model = fitted()
    half = replace(model, warmth=float(model.counts[0]))
    placed, own = model.placed[model.rows[0]], model.item_vectors()[model.rows[0]]
    np.testing.assert_allclose(half.item_vectors()[model.rows[0]], (placed + own) / 2, atol=1e-5)


def test_the_score_is_a_dot_product_and_new_items_get_the_vector_they_would_have_had():
    events, features, _ = striped()
    model = fitted(replace(CLOSED, epochs=1))
    assert isinstance(model, Embeds)
    history = events.histories(np.arange(5))
    np.testing.assert_allclose(model.user_vectors(history) @ model.item_vectors().T, model.score(history), atol=1e-5)
    known = ITEMS - COLD
    young = replace(CLOSED, epochs=1).fit(
        events.resized(events.users, known), features.take(np.arange(known)), rng=RNG(0)
    )
    np.testing.assert_allclose(young.extended(features).score(history), model.score(history), atol=1e-4)
    assert model.extended(features) is model
    with pytest.raises(ShapeError, match="size 3"):
        model.extended(Features(Vectors(np.ones((ITEMS + 1, 3), np.float32), np.ones(ITEMS + 1, bool), "x")))


def test_two_fits_give_the_same_bytes():
    brief = replace(CLOSED, epochs=2)
    first, second, other = fitted(brief), fitted(brief), fitted(brief, seed=1)
    assert first.item_vectors().tobytes() == second.item_vectors().tobytes()
    assert first.item_vectors().tobytes() != other.item_vectors().tobytes()


def test_tuning_keeps_the_concession_to_warm_targets():
    events, features, _ = striped()
    cold = np.arange(ITEMS - COLD - 6, ITEMS - COLD)
    out = np.isin(events.item, cold)
    fold = Fold(events.take(~out), events.take(out), cold)
    settings = replace(CLOSED, epochs=2)
    tuned = settings.tuned(fold, features, rng=RNG(0))
    assert 0 <= tuned.epochs <= 2
    hidden = one_each(fold.train)
    inner, asked = fold.train.take(~hidden), fold.train.take(hidden)
    model = tuned.fit(inner, features, rng=RNG(0))
    warm = np.setdiff1d(np.unique(inner.item), cold).astype(np.int64)
    alone, beside = (
        rank_targets(model.score, Fold(inner, asked, list_)).ndcg() for list_ in (warm, np.union1d(warm, cold))
    )
    assert tuned.match == 0 or beside >= (1 - settings.concession) * alone * 0.999


def test_one_event_of_each_is_marked():
    events = Events.of([0, 0, 0, 1, 2, 2], [0, 1, 2, 3, 4, 5], users=3, items=6)
    assert one_each(events).tolist() == [False, True, False, False, False, True]


def test_worlds_without_events_or_content_are_served():
    events, features, _ = striped()
    bare = Features(Vectors.absent(ITEMS, 1, "none"))
    for settings in (CLOSED, replace(CLOSED, epochs=1)):
        assert np.isfinite(settings.fit(events, bare, rng=RNG(0)).score(events.histories([0, -1]))).all()
        nobody = Events.of([], [], users=2, items=ITEMS)
        assert settings.fit(nobody, features, rng=RNG(0)).score(nobody.histories([0])).shape == (1, ITEMS)
    with pytest.raises(RecipeError, match="cold"):
        ColdAligner(cold=2.0)
