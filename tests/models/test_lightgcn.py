"""The light graph network: its parts against dense algebra, and worlds whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sensorium.arrays import unit
from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError
from sensorium.models.lightgcn import LightGcn, positive
from sensorium.models.lightgcn_training import Spread, Training, normalised, thinned
from sensorium.models.model import Embeds, Features
from sensorium.models.neighbours import neighbours

RNG = np.random.default_rng
ITEMS = 14
SMALL = LightGcn(size=8, epochs=15, batch=64)


def crowd(people: int = 40, seed: int = 0) -> Events:
    """Even people choose among even items, odd people among odd ones; the last two items are chosen by nobody."""
    rng = RNG(seed)
    user = np.repeat(np.arange(people), 4)
    item = np.concatenate([rng.permutation(np.arange(p % 2, ITEMS - 2, 2))[:4] for p in range(people)])
    return Events.of(user, item, users=people, items=ITEMS)


def bare() -> Features:
    return Features(Vectors.absent(ITEMS, 1, "none"))


def coloured() -> Features:
    values = 0.2 * RNG(3).normal(size=(ITEMS, 6)).astype(np.float32)
    for first in (0, 3):
        values[np.arange(ITEMS), first + np.arange(ITEMS) % 2] += 1
    blocks = {"image": slice(0, 3), "text": slice(3, 6)}
    return Features(Vectors(unit(values), np.ones(ITEMS, bool), "toy"), blocks=blocks)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Worlds this small are slowed down by a second thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENSORIUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def model(one_thread):
    return SMALL.fit(crowd(), coloured(), rng=RNG(0))


def test_people_of_one_colour_get_their_colour_and_newcomers_too(model) -> None:
    scores = model.score(crowd().histories([0, 1]))
    assert scores[0, 0:12:2].min() > scores[0, 1:12:2].max()
    assert scores[1, 1:12:2].min() > scores[1, 0:12:2].max()
    assert scores[0, 12] > scores[0, 13]
    assert scores[1, 13] > scores[1, 12]


def test_a_score_is_a_cosine_of_what_layers_of_the_dense_graph_give() -> None:
    """The fitted model against L layers of the whole matrix of people and items, as LightGCN's paper writes them."""
    events, features = crowd(), coloured()
    training = Training(replace(SMALL, epochs=1), events, features, RNG(0))
    training.epoch()
    model = training.model()
    chosen = events.matrix().toarray().astype(np.float64)
    graph = chosen / np.sqrt(chosen.sum(1))[:, None] / np.sqrt(np.maximum(chosen.sum(0), 1))[None, :]
    with training.descent.averaged():
        table = training.table.weight.detach().numpy().astype(np.float64)
    both = np.block([[np.zeros((40, 40)), graph], [graph.T, np.zeros((ITEMS, ITEMS))]])
    layer = np.concatenate([graph @ table, table])  # a person starts as the sum of their items
    people, items = [layer[:40]], [layer[40:]]
    for _ in range(SMALL.layers):
        step = both @ np.concatenate([graph @ items[-1], items[-1]])
        people.append(graph @ step[40:])
        items.append(step[40:])
    known = np.arange(12)
    alike = sum(
        neighbours(features.items.values, (edge,), known, known, SMALL.nearest).toarray() for edge in features.edges()
    )
    whole = sum(items)
    whole = whole + SMALL.content * (alike / np.maximum(alike.sum(0), 1e-9)).T @ whole
    wanted = unit(sum(people[:-1])) @ unit(whole[:12]).T
    histories = events.histories(np.arange(40))
    np.testing.assert_allclose(model.score(histories)[:, :12], wanted, atol=1e-4)
    assert isinstance(model, Embeds)


def test_a_spread_has_the_gradient_of_its_matrix() -> None:
    matrix = normalised(positive(crowd()))
    vectors = torch.randn(ITEMS, 3, requires_grad=True)
    weights = torch.randn(40, 3)
    (Spread.apply(vectors, matrix, matrix.T.tocsr()) * weights).sum().backward()
    assert vectors.grad is not None
    np.testing.assert_allclose(vectors.grad.numpy(), matrix.toarray().T @ weights.numpy(), atol=1e-5)


def test_pruning_leaves_the_share_and_spares_the_edges_of_the_quiet() -> None:
    rng = RNG(0)
    user, item = rng.zipf(1.3, 20_000) % 200, rng.zipf(1.3, 20_000) % 150
    matrix = positive(Events.of(user, item, users=200, items=150))
    weight = normalised(matrix)
    kept = thinned(matrix, 0.3, RNG(1))
    assert kept.nnz == matrix.nnz - int(0.3 * matrix.nnz)
    assert not ((kept != 0) > (matrix != 0)).nnz
    share = (weight * (kept != 0)).sum() / weight.sum()
    assert share > 0.75  # more than the 0.7 that chance would leave
    assert thinned(matrix, 0.0, RNG(1)) is matrix


def test_two_fits_give_the_same_bytes_and_epochs_are_chosen_by_validation() -> None:
    events = crowd(80)
    brief = replace(SMALL, epochs=3, modality_dropout=0.5)
    one, two, other = (brief.fit(events, coloured(), rng=RNG(seed)) for seed in (0, 0, 1))
    assert one.items.tobytes() == two.items.tobytes()
    assert one.items.tobytes() != other.items.tobytes()
    last = np.arange(len(events)) % 4 == 3
    tuned = SMALL.tuned(Fold(events.take(~last), events.take(last)), bare(), rng=RNG(0))
    assert replace(tuned, epochs=SMALL.epochs) == SMALL
    assert 1 <= tuned.epochs <= SMALL.epochs


def test_a_sampled_softmax_learns_the_same_colours() -> None:
    model = replace(SMALL, exact=1, negatives=8).fit(crowd(), bare(), rng=RNG(0))
    scores = model.score(crowd().histories([0, 1]))
    assert scores[0, 0:12:2].mean() > scores[0, 1:12:2].mean()
    assert scores[1, 1:12:2].mean() > scores[1, 0:12:2].mean()


def test_a_grown_catalogue_leaves_the_old_items_alone(model) -> None:
    features = coloured()
    young = SMALL.fit(crowd().resized(40, 12), features.take(np.arange(12)), rng=RNG(0))
    grown = young.extended(features)
    np.testing.assert_array_equal(grown.items[:12], young.items)
    scores = grown.score(crowd().histories([0, 1]))
    assert scores[0, 12] > scores[0, 13]
    assert scores[1, 13] > scores[1, 12]


def test_nothing_to_learn_from_and_wrong_settings() -> None:
    nothing = Events.of([], [], users=0, items=ITEMS)
    assert not SMALL.fit(nothing, coloured(), rng=RNG(0)).score(nothing.histories([-1])).any()
    with pytest.raises(RecipeError, match="layers"):
        LightGcn(layers=0)
