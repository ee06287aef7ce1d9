"""Graph filters against dense algebra, and in worlds whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from sensorium.arrays import leading, unit
from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.models.graph import Graph, strongest_of
from sensorium.models.model import Features
from sensorium.models.neighbours import neighbours
from sensorium.train.ranking import rank_targets

RNG = np.random.default_rng
ITEMS = 14


def crowd(people: int = 40, items: int = ITEMS, seed: int = 0) -> Events:
    """Even people choose among even items, odd people among odd ones; the last two items are chosen by nobody."""
    rng = RNG(seed)
    user = np.repeat(np.arange(people), 4)
    item = np.concatenate([rng.permutation(np.arange(p % 2, items - 2, 2))[:4] for p in range(people)])
    return Events.of(user, item, users=people, items=items)


def bare(items: int = ITEMS) -> Features:
    return Features(Vectors.absent(items, 1, "none"))


def coloured(items: int = ITEMS) -> Features:
    """Two modalities that both tell even from odd."""
    rng = RNG(3)
    values = 0.2 * rng.normal(size=(items, 6)).astype(np.float32)
    for first in (0, 3):
        values[np.arange(items), first + np.arange(items) % 2] += 1
    blocks = {"image": slice(0, 3), "text": slice(3, 6)}
    return Features(Vectors(unit(values), np.ones(items, bool), "toy"), blocks=blocks)


def fitted(settings: Graph, events: Events | None = None, features: Features | None = None):
    return settings.fit(events or crowd(), features or bare(), rng=RNG(0))


def dense(events: Events, settings: Graph) -> tuple[np.ndarray, np.ndarray]:
    """Both filters written out: (I, I) each, without their scales."""
    chosen = np.asarray(events.matrix().toarray(), np.float64)
    people = chosen.sum(1)
    items = np.maximum(chosen.sum(0), 1e-9)
    scaled = people[:, None] ** (-settings.degree / 2) * chosen
    near = items[:, None] ** -settings.give * (scaled.T @ scaled) * items[None, :] ** -settings.fame
    near = np.where((items > 0.5)[:, None] & (items > 0.5)[None, :], near, 0)
    np.fill_diagonal(near, 0)
    known = items > 0.5
    damped = np.where(known, items, 1) ** settings.damp
    axes = np.linalg.svd(scaled / damped)[2][: settings.rank].T
    return near, (axes / damped[:, None]) @ (axes * damped[:, None]).T


def of_deviation(weights: np.ndarray, events: Events) -> np.ndarray:
    scores = events.matrix().toarray() @ weights
    return weights / scores[:, : ITEMS - 2].std(1).mean()


def test_the_filters_are_what_dense_algebra_says() -> None:
    events = crowd()
    settings = Graph(degree=0.7, give=0.4, fame=0.2, damp=0.3, rank=5, smooth=0.8)
    near, low = dense(events, settings)
    histories = events.histories(np.arange(events.users))
    wanted = events.matrix().toarray() @ (of_deviation(near, events) + 0.8 * of_deviation(low, events))
    np.testing.assert_allclose(fitted(settings, events).score(histories), wanted, atol=1e-4)


def test_people_of_one_colour_get_their_colour() -> None:
    events = crowd()
    for settings in (Graph(), Graph(smooth=0), Graph(rank=2, smooth=100)):
        scores = fitted(settings, events).score(events.histories([0, 1]))
        even, odd = scores[:, 0:12:2], scores[:, 1:12:2]
        assert even[0].min() > odd[0].max()
        assert odd[1].min() > even[1].max()


def test_look_alikes_are_the_naive_nearest_of_each_modality() -> None:
    features = coloured()
    among, asked = np.arange(12), np.array([3, 13])
    graph = neighbours(features.items.values, features.edges(), among, asked, 2).toarray()
    wanted = np.zeros((ITEMS, ITEMS))
    for item in asked:
        for columns in features.blocks.values():
            block = unit(features.items.values[:, columns]).astype(np.float64)
            cosine = block @ block[item]
            cosine[[item, 12, 13]] = -9
            for near in np.argsort(-cosine)[:2]:
                wanted[near, item] += max(cosine[near], 0)
    np.testing.assert_allclose(graph, wanted / np.maximum(wanted.sum(0), 1e-9), atol=1e-5)
    assert not neighbours(np.zeros((4, 2), np.float32), (("none", 0, 2),), np.arange(4), np.arange(4), 2).nnz


def test_content_is_walked_after_the_crowd_and_directly() -> None:
    events, features = crowd(), coloured()
    model = fitted(Graph(hop=0.5, alike=0.2, nearest=3), events, features)
    plain = fitted(Graph(), events)
    everyone = events.histories(np.arange(events.users))
    known = np.arange(12)
    warm = neighbours(features.items.values, features.edges(), known, known, 3).toarray()
    cold = neighbours(features.items.values, features.edges(), known, np.array([12, 13]), 3).toarray()
    base, chosen = plain.score(everyone), events.matrix().toarray()
    alike = 0.2 / (chosen @ warm)[:, :12].std(1).mean()
    wanted = base + base @ (0.5 * warm + cold) + alike * chosen @ (warm + cold)
    np.testing.assert_allclose(model.score(everyone), wanted, atol=1e-4)


def test_newcomers_are_placed_and_heard_by_their_look_alikes() -> None:
    events, features = crowd(), coloured()
    model = fitted(Graph(), events, features)
    scores = model.score(events.histories([0, 1]))
    assert scores[0, 12] > scores[0, 13]
    assert scores[1, 13] > scores[1, 12]
    young = Events.of([0, 1], [12, 13], users=2, items=ITEMS).histories([0, 1])
    heard = model.score(young)
    assert heard[0, 0:12:2].min() > heard[0, 1:12:2].max()
    assert heard[1, 1:12:2].min() > heard[1, 0:12:2].max()


def test_a_grown_catalogue_is_one_that_always_had_the_items() -> None:
    events, features = crowd(), coloured()
    small = fitted(Graph(), events.resized(events.users, 12), features.take(np.arange(12)))
    grown, whole = small.extended(features), fitted(Graph(), events, features)
    everyone = events.histories(np.arange(events.users))
    np.testing.assert_allclose(grown.score(everyone), whole.score(everyone), atol=1e-4)
    assert small.extended(features.take(np.arange(12))) is small


def test_what_was_skipped_joins_nothing_and_speaks_against() -> None:
    skips = Events.of([0, 1, 2], [1, 1, 1], users=40, items=ITEMS, kinds=("skip",), time=[99.0, 99.0, 99.0])
    events = crowd()
    model = fitted(Graph(), events.merged(skips))
    assert not (model.weights != fitted(Graph(), events).weights).nnz
    history = Events.of([0, 0], [0, 2], users=1, items=ITEMS, kinds=("view", "skip"), kind=[0, 1]).histories([0])
    liked = Events.of([0], [0], users=1, items=ITEMS).histories([0])
    assert model.score(history)[0, 2] < model.score(liked)[0, 2]


@pytest.mark.parametrize("shape", [(500, 400), (30, 900)])
def test_leading_vectors_span_what_an_exact_decomposition_finds(shape) -> None:
    rng = RNG(1)
    matrix = sparse.random_array(shape, density=0.05, rng=rng, dtype=np.float32).tocsr()
    matrix = (matrix @ sparse.diags_array((1 / (1 + np.arange(shape[1]) % 7 * 3)).astype(np.float32))).tocsr()
    found = leading(matrix, 6)
    exact = np.linalg.svd(matrix.toarray())[2][:6]
    lengths = np.linalg.svd(matrix.toarray() @ found, compute_uv=False)
    np.testing.assert_allclose(found.T @ found, np.eye(6), atol=1e-4)
    np.testing.assert_allclose(lengths, np.linalg.svd(matrix.toarray() @ exact.T, compute_uv=False), rtol=0.01)


def test_leading_vectors_are_right_to_the_last_where_the_spectrum_is_flat() -> None:
    matrix = sparse.random_array((900, 700), density=0.02, rng=RNG(2), dtype=np.float32).tocsr()
    found = leading(matrix, 48)
    values, axes = np.linalg.svd(matrix.toarray())[1:]
    assert values[47] > 0.98 * values[50]
    assert np.linalg.norm(found.T @ axes[:48].T, axis=0).min() > 0.99  # each true vector lies in what was found
    np.testing.assert_allclose(np.linalg.norm(matrix @ found, axis=0), values[:48], rtol=1e-3)


def test_the_strongest_of_a_column_are_kept() -> None:
    weights = RNG(0).integers(0, 5, size=(9, 6)).astype(np.float32)
    kept = strongest_of(sparse.csr_array(weights), 3).toarray()
    for column in range(6):
        first = sorted(range(9), key=lambda row: (-weights[row, column], row))[:3]
        wanted = np.where(np.isin(np.arange(9), first), weights[:, column], 0)
        np.testing.assert_array_equal(kept[:, column], wanted)


def test_tuning_climbs_on_validation_and_is_one_for_ever() -> None:
    events = crowd(people=80)
    last = np.arange(len(events)) % 4 == 3
    fold = Fold(events.take(~last), events.take(last))
    start = Graph(rank=8)
    found = start.tuned(fold, bare(), rng=RNG(0))
    assert found == start.tuned(fold, bare(), rng=RNG(1))
    value = [rank_targets(fitted(settings, fold.train).score, fold).ndcg(20) for settings in (start, replace(found))]
    assert value[1] >= value[0]


def test_a_world_without_events_is_scored_all_the_same() -> None:
    nothing = Events.of([], [], users=0, items=ITEMS)
    for features in (bare(), coloured()):
        assert not fitted(Graph(), nothing, features).score(nothing.histories([-1])).any()
