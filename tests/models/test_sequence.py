"""The sequence model on worlds whose answers are known: circles of items, newcomers, silent items, strangers."""

from dataclasses import replace

import numpy as np
import pytest

from sensorium.data.events import Events, Fold
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError, ShapeError
from sensorium.models.model import Embeds, Features
from sensorium.models.sequence import Lstm, Sequence, SequenceModel
from sensorium.models.sequence.tokens import tokens, usual_weights
from sensorium.models.sequence.training import again, batches, reduced
from sensorium.train.ranking import rank_targets

SMALL = Sequence(
    size=16, layers=1, heads=2, length=8, epochs=40, learning_rate=0.01, tokens=256, ahead=0.0, dropout=0.0
)
CIRCLE = 12


def circles(people=60, steps=6, items=CIRCLE):
    """Everybody walks round the same circle of items, from different places: what follows i is i + 1."""
    rng = np.random.default_rng(0)
    user, item = [], []
    for person in range(people):
        place = int(rng.integers(CIRCLE))
        for step in range(steps):
            user.append(person)
            item.append((place + step) % CIRCLE)
    return Events.of(user, item, users=people, items=items)


def bare(items=CIRCLE):
    return Features(Vectors.absent(items, 1, "none"))


def walk(*items):
    return Events.of([0] * len(items), items, users=1, items=CIRCLE).histories([0])


def fitted(settings=SMALL, events=None, features=None, seed=0):
    return settings.fit(circles() if events is None else events, features or bare(), rng=np.random.default_rng(seed))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Worlds this small are slowed down by a second thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SENSORIUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def model(one_thread):
    return fitted()


@pytest.mark.parametrize("encoder", ["attention", "lstm"])
def test_the_next_of_a_circle_is_named(encoder, model):
    model = model if encoder == "attention" else fitted(replace(SMALL, encoder="lstm"))
    for place in range(CIRCLE):
        history = walk(*[(place + step) % CIRCLE for step in range(3)])
        assert model.score(history)[0].argmax() == (place + 3) % CIRCLE


def test_order_matters(model):
    assert not np.allclose(model.score(walk(1, 2, 3)), model.score(walk(3, 2, 1)), atol=0.1)


def test_sampled_softmax_learns_the_same_circle():
    model = fitted(replace(SMALL, exact=1, negatives=8))
    hits = [model.score(walk(p, (p + 1) % CIRCLE))[0].argmax() == (p + 2) % CIRCLE for p in range(CIRCLE)]
    assert sum(hits) >= CIRCLE - 1


def test_two_fits_give_the_same_bytes():
    brief = replace(SMALL, epochs=2, dropout=0.2)
    first, second, other = fitted(brief), fitted(brief), fitted(brief, seed=1)
    assert first.items.tobytes() == second.items.tobytes()
    assert all(first.weights[name].tobytes() == second.weights[name].tobytes() for name in first.weights)
    assert first.items.tobytes() != other.items.tobytes()


def test_a_score_does_not_depend_on_the_batch(model):
    events = Events.of([0, 0, 0, 1, 2, 2], [1, 2, 3, 5, 7, 8], users=4, items=CIRCLE)
    together = model.score(events.histories([0, 1, 2, 3, -1]))
    assert together.shape == (5, CIRCLE)
    assert np.isfinite(together).all()
    for person in range(4):
        np.testing.assert_allclose(model.score(events.histories([person]))[0], together[person], atol=1e-4)
    np.testing.assert_allclose(together[3], together[4], atol=1e-5)  # a stranger is an empty history
    np.testing.assert_allclose(model.score(events.histories([0]), np.array([4, 2]))[0], together[0, [4, 2]], atol=1e-5)


def test_the_score_is_a_dot_product(model):
    assert isinstance(model, Embeds)
    history = walk(4, 5)
    np.testing.assert_allclose(model.user_vectors(history) @ model.item_vectors().T, model.score(history), atol=1e-5)


def test_only_the_newest_events_are_read(model):
    long = [0, 5, 9, *[(step + 2) % CIRCLE for step in range(SMALL.length)]]
    np.testing.assert_allclose(model.score(walk(*long)), model.score(walk(*long[3:])), atol=1e-5)


def striped():
    """Items of two colours; people keep to one. Items 10 and 11 have no events: a newcomer of either colour."""
    rng = np.random.default_rng(1)
    colour = np.arange(CIRCLE) % 2
    user = np.repeat(np.arange(80), 5)
    item = np.concatenate([rng.permutation(np.arange(p % 2, 10, 2))[:5] for p in range(80)])
    content = np.eye(2, dtype=np.float32)[colour] + 0.1 * rng.normal(size=(CIRCLE, 2)).astype(np.float32)
    features = Features(Vectors(content, np.ones(CIRCLE, bool), "colour"))
    return Events.of(user, item, users=80, items=CIRCLE), features


def test_a_newcomer_is_found_by_its_content():
    events, features = striped()
    settings = replace(SMALL, id_dropout=0.5, content_dropout=0.0, epochs=30)
    model = fitted(settings, events, features)
    for first, right, wrong in ((0, 10, 11), (1, 11, 10)):
        scores = model.score(walk(first, first + 2, first + 4))[0]
        assert scores[right] > scores[wrong]
    # the same items, added after training, get the same vectors
    young = fitted(settings, events.resized(80, 10), features.take(np.arange(10)))
    grown = young.extended(features)
    assert grown.items.shape == (CIRCLE, 16)
    np.testing.assert_array_equal(grown.items[:10], young.items)
    scores = grown.score(walk(0, 2, 4))[0]
    assert scores[10] > scores[11]
    assert young.extended(features.take(np.arange(10))) is young


def test_silent_items_are_served_and_wrong_content_is_refused():
    events, features = striped()
    half = Features(features.items.masked(np.arange(CIRCLE) != 10))
    model = fitted(replace(SMALL, epochs=2), events, half)
    assert np.isfinite(model.score(walk(0, 2))).all()
    np.testing.assert_allclose(model.items[10], model.missing, atol=1e-6)
    with pytest.raises(ShapeError, match="size 3"):
        model.extended(Features(Vectors.absent(CIRCLE + 1, 3, "other")))


def test_a_profile_speaks_for_a_stranger():
    events, features = striped()
    people = Vectors(np.eye(2, dtype=np.float32)[np.arange(80) % 2], np.ones(80, bool), "people")
    model = fitted(replace(SMALL, epochs=30), events, replace(features, people=people))
    nobody = Events.of([], [], users=80, items=CIRCLE).histories([0, 1], people)
    scores = model.score(nobody)[:, :10]
    assert scores[0, ::2].mean() > scores[0, 1::2].mean()
    assert scores[1, 1::2].mean() > scores[1, ::2].mean()


def test_skips_are_read_but_never_foretold():
    events = circles(items=CIRCLE + 1)
    skips = Events.of(
        np.repeat(np.arange(60), 2),
        np.full(120, CIRCLE),
        users=60,
        items=CIRCLE + 1,
        kinds=("skip",),
        time=np.full(120, 3.0),
    )
    model = fitted(replace(SMALL, epochs=15), events.merged(skips), bare(CIRCLE + 1))
    scores = model.score(events.histories(np.arange(20)))
    assert (scores.argmax(axis=1) != CIRCLE).all()


def test_tuning_chooses_epochs_alone_and_work_bounds_them():
    events = circles()
    last = np.zeros(len(events), bool)
    last[5::6] = True
    fold = Fold(events.take(~last), events.take(last))
    tuned = SMALL.tuned(fold, bare(), rng=np.random.default_rng(0))
    assert replace(tuned, epochs=SMALL.epochs) == SMALL
    assert 1 < tuned.epochs <= SMALL.epochs
    model = fitted(tuned, fold.train)
    assert rank_targets(model.score, fold).ndcg(10) > 0.8
    from sensorium.models.sequence.training import Training

    assert Training(replace(SMALL, work=1e-9), events, bare(), np.random.default_rng(0)).epochs == 1


def test_a_world_without_events_is_served_too():
    model = fitted(replace(SMALL, epochs=1), Events.of([], [], users=0, items=3), bare(3))
    assert model.score(Events.of([], [], users=1, items=3).histories([0])).shape == (1, 3)


@pytest.mark.parametrize("encoder", ["attention", "lstm"])
@pytest.mark.parametrize("profiled", [False, True])
def test_the_onnx_file_gives_the_same_scores(encoder, profiled, tmp_path):
    pytest.importorskip("onnx", reason="export needs the extra 'export'")
    from onnxruntime import InferenceSession

    events, features = striped()
    people = Vectors(np.eye(2, dtype=np.float32)[np.arange(80) % 2], np.ones(80, bool), "people") if profiled else None
    model = fitted(replace(SMALL, epochs=1, encoder=encoder), events, replace(features, people=people))
    session = InferenceSession(str(model.export(tmp_path / "model.onnx")))
    for rows in ([0, 1, -1], [-1], [4]):  # another batch, other lengths, nobody at all
        histories = events.histories(rows, people)
        found = session.run(["scores"], model.inputs(histories))[0]
        np.testing.assert_allclose(found, model.score(histories), atol=1e-4)
    short = events.histories([3], people).last(2)
    np.testing.assert_allclose(session.run(["scores"], model.inputs(short))[0], model.score(short), atol=1e-4)


def test_weights_are_read_against_what_training_saw():
    """Whatever a recipe lets a kind weigh, an ordinary event of it reads the same; only a rating's share of it shows."""
    kinds = ("view", "rating")
    for heavy in (1.0, 7.0):
        events = Events.of([0] * 4, [0, 1, 2, 3], users=1, items=4, kind=[0, 0, 1, 1], kinds=kinds,
                           weight=[heavy, heavy, 1.5 * heavy, 0.5 * heavy])  # fmt: skip
        flat = tokens(events.histories([0]), kinds, usual_weights(events))
        np.testing.assert_allclose(flat.weight, [0, 0, 0.5, -0.5], atol=1e-6)
    strange = Events.of([0], [0], users=1, items=4, kinds=("buy",))
    assert tokens(strange.histories([0]), kinds, usual_weights(events)).kind.tolist() == [0]
    assert tokens(strange.histories([0]), kinds, usual_weights(events)).weight.tolist() == [0]
    assert usual_weights(Events.of([], [], users=1, items=4, kinds=("buy", "new"))).tolist() == [5, 1]


def test_names_and_settings():
    assert Lstm().encoder == "lstm"
    assert isinstance(Lstm(), Sequence)
    assert isinstance(fitted(replace(SMALL, epochs=1)), SequenceModel)
    with pytest.raises(RecipeError, match="multiple of heads"):
        Sequence(size=10, heads=4)
    with pytest.raises(RecipeError, match="at least 1"):
        Sequence(epochs=0)
    for wrong in ({"dropout": 7.0}, {"learning_rate": -1.0}, {"heads": 0}, {"work": float("nan")}, {"ahead": 2.0}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            Sequence(**wrong)


def test_pieces_of_training():
    row, item = np.array([0, 0, 0, 1, 1]), np.array([4, 5, 4, 4, 4])
    assert again(row, item).tolist() == [False, False, True, False, True]
    lengths = np.array([1, 9, 3, 3, 10, 1, 2])
    parts = list(batches(lengths, 12, np.random.default_rng(0)))
    assert sorted(np.concatenate(parts)) == list(range(7))
    assert all(len(part) == 1 or len(part) * lengths[part].max() <= 12 for part in parts)
    rng = np.random.default_rng(0)
    tall = Features(Vectors(rng.normal(size=(30, 6)).astype(np.float32) * [9, 1, 1, 8, 1, 1], np.ones(30, bool), "x"))
    centre, basis = reduced(tall, 2)
    assert basis.shape == (6, 2)
    assert set(np.abs(basis).argmax(axis=0)) == {0, 3}
    assert abs(np.mean(((tall.items.values - centre) @ basis) ** 2) - 1) < 1e-3
    blocks = replace(tall, blocks={"image": slice(0, 3), "text": slice(3, 6)})
    assert set(np.abs(reduced(blocks, 2)[1]).argmax(axis=0)) == {0, 3}


def told(by):
    """Everybody does one of four things, then 4 or 5: which, their review of the first thing says, or their rating of it."""
    rng = np.random.default_rng(2)
    first, turn = rng.integers(4, size=90), rng.integers(2, size=90)
    said = by == "review"
    events = Events.of(
        np.repeat(np.arange(90), 2), np.stack([first, 4 + turn], axis=1).ravel(), users=90, items=6,
        kinds=("rating",), weight=np.stack([np.ones(90) if said else 2.0 * turn, np.ones(90)], axis=1).ravel(),
    )  # fmt: skip
    written = np.stack([turn + 2 * rng.integers(5, size=90), np.full(90, -1)], axis=1).ravel()
    vectors = rng.normal(size=(10, 7)) + 6 * np.eye(2)[np.arange(10) % 2] @ np.eye(7)[:2]
    reviews = Vectors(vectors.astype(np.float32), np.ones(10, bool), "words")
    events = replace(events, review=written.astype(np.int32)) if said else events
    return events, replace(bare(6), reviews=reviews if said else None), turn


@pytest.mark.parametrize("by", ["review", "rating"])
@pytest.mark.parametrize("encoder", ["attention", "lstm"])
def test_what_was_said_of_the_last_thing_decides_the_next(by, encoder):
    events, features, turn = told(by)
    settings = replace(SMALL, epochs=60, tokens=60, encoder=encoder)
    model = fitted(settings, events, features)
    asked = events.histories(np.arange(90))
    scores = model.score(asked.only(asked.back == 1))
    assert (scores.argmax(axis=1) == 4 + turn).mean() > 0.95
    # to whom neither is shown, all who did the same are alike: nobody is told from the other
    mute = replace(events, weight=np.ones(180, np.float32))
    deaf = fitted(settings, mute, replace(features, reviews=None))
    alike = mute.histories(np.arange(90))
    scores = deaf.score(alike.only(alike.back == 1))
    for thing in range(4):
        lines = scores[alike.item[::2] == thing]
        np.testing.assert_allclose(lines, lines[:1].repeat(len(lines), axis=0), atol=1e-4)


def test_no_place_reads_the_review_of_what_it_must_name():
    import torch

    events, features, _ = told("review")
    network = fitted(replace(SMALL, epochs=2), events, features).network
    items, none, weight = torch.ones(1, 4, 16), torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4)
    width = network.review.in_features
    said, other = torch.zeros(1, 4, width), torch.zeros(1, 4, width)
    other[:, 2] = 5.0
    one, two = (network(items, none, none, weight, review=review)[0].detach() for review in (said, other))
    np.testing.assert_allclose(one[:3], two[:3], atol=1e-6)  # place 2 names event 2
    assert not np.allclose(one[3], two[3], atol=1e-3)


def test_reviews_survive_saving_and_export_and_what_is_new_says_nothing(tmp_path):
    pytest.importorskip("onnx", reason="export needs the extra 'export'")
    from onnxruntime import InferenceSession

    from sensorium.plain import load_value, save_value

    events, features, _ = told("review")
    model = fitted(replace(SMALL, epochs=2), events, features)
    histories = events.histories([0, 1, -1])
    save_value(model, tmp_path / "model.safetensors")
    back = load_value(tmp_path / "model.safetensors", SequenceModel)
    np.testing.assert_array_equal(back.score(histories), model.score(histories))
    session = InferenceSession(str(model.export(tmp_path / "model.onnx")))
    given = model.inputs(histories)
    assert given["review"].any()
    np.testing.assert_allclose(session.run(["scores"], given)[0], model.score(histories), atol=1e-4)
    unwritten = replace(histories, review=np.full(len(histories.item), -1, np.int32))
    assert not model.inputs(unwritten)["review"].any()
    np.testing.assert_array_equal(model.score(unwritten), model.score(replace(histories, review=None)))
