import numpy as np
import pytest

from sensorium.arrays import unit
from sensorium.data.events import Events
from sensorium.data.vectors import Vectors
from sensorium.errors import RecipeError, ShapeError
from sensorium.fuse.align import Align, NotAligned
from sensorium.fuse.concat import Concat
from sensorium.fuse.conse import ConseModel
from sensorium.fuse.crowd import _liked, _regress, taste
from sensorium.fuse.gated import Gated
from sensorium.fuse.pairs import _slopes, closed_form, families
from sensorium.fuse.whiten import whitening


def rng(seed=0):
    return np.random.default_rng(seed)


def vectors(values, present=None):
    values = np.asarray(values, np.float32)
    present = np.ones(len(values), bool) if present is None else np.asarray(present)
    return Vectors(np.where(present[:, None], values, 0).astype(np.float32), present, "toy")


def nobody(items):
    return Events.of([], [], users=0, items=items)


def twins(count=400, seed=0, noise=0.3):
    """Two views of one hidden cause, each through its own random map."""
    draw = rng(seed)
    cause = draw.standard_normal((count, 6))
    return {
        "text": vectors(cause @ draw.standard_normal((6, 20)) + noise * draw.standard_normal((count, 20))),
        "image": vectors(cause @ draw.standard_normal((6, 30)) + noise * draw.standard_normal((count, 30))),
    }


FUSIONS = [Concat(), Gated(epochs=1, size=16), Align(size=16, epochs=(2,))]


def test_whitening_gives_every_axis_one_variance():
    values = rng().standard_normal((500, 4)) * [10, 3, 1, 0.3] + 7
    white = whitening(vectors(values), shrinkage=0.0)
    turned = (values - white.centre) @ white.axes
    spread = np.linalg.eigvalsh(np.cov(values.T, bias=True))[::-1]
    share = 4 / 504  # the shrinkage that the counts alone ask for: kept / (kept + rows)
    expected = spread / ((1 - share) * spread + share * spread.mean())
    np.testing.assert_allclose(np.var(turned, axis=0), expected, rtol=1e-2)
    correlation = np.corrcoef(turned.T)
    np.testing.assert_allclose(correlation, np.eye(4), atol=1e-2)


def test_wide_and_tall_whitening_agree():
    values = rng(1).standard_normal((40, 40))
    tall = whitening(vectors(np.concatenate([values, values])), 10, shrinkage=1.0).apply(vectors(values)).values
    wide = whitening(vectors(values), 10, shrinkage=1.0).apply(vectors(values)).values
    np.testing.assert_allclose(tall @ tall.T, wide @ wide.T, atol=1e-3)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_absence_is_ordinary(fusion):
    views = twins(60)
    present = np.ones(60, bool)
    present[:20] = False
    views["image"] = views["image"].masked(present)
    present = np.arange(60) != 5
    views["text"] = views["text"].masked(present)
    model = fusion.fit(views, nobody(60), rng=rng())
    fused = model.fuse(views)
    assert not fused.present[5]
    assert fused.present.sum() == 59
    np.testing.assert_allclose(np.linalg.norm(fused.values[fused.present], axis=1), 1, atol=1e-5)
    assert not fused.values[~fused.present].any()
    alone = model.fuse({"text": views["text"]})
    assert alone.size == fused.size
    np.testing.assert_array_equal(alone.present, views["text"].present)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_same_seed_same_bytes_and_rows_do_not_depend_on_company(fusion):
    views = twins(120)
    one, two = (fusion.fit(views, nobody(120), rng=rng(3)) for _ in range(2))
    assert one.source == two.source
    whole = one.fuse(views).values
    assert whole.tobytes() == two.fuse(views).values.tobytes()
    few = one.fuse({m: v.take(np.arange(7)) for m, v in views.items()}).values
    np.testing.assert_allclose(few, whole[:7], atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_items(fusion, count):
    views = {m: v.take(np.arange(count)) for m, v in twins().items()}
    fused = fusion.fit(views, nobody(count), rng=rng()).fuse(views)
    assert fused.present.all()
    assert np.isfinite(fused.values).all()


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_no_content_at_all(fusion):
    views = {"none": Vectors.absent(4, 1, "none")}
    fused = fusion.fit(views, nobody(4), rng=rng()).fuse(views)
    assert len(fused) == 4
    assert not fused.present.any()


def test_concat_cosine_is_the_weighted_mean_of_the_blocks():
    views = twins(80)
    model = Concat(weights={"text": 3.0}).fit(views, nobody(80), rng=rng())
    fused = model.fuse(views).values
    cosines = {m: part.apply(views[m]).values for m, part in model.parts.items()}
    expected = (3 * cosines["text"] @ cosines["text"].T + cosines["image"] @ cosines["image"].T) / 4
    np.testing.assert_allclose(fused @ fused.T, expected, atol=1e-5)
    split = sum(fused[0, columns] @ fused[1, columns] for columns in model.blocks.values())
    assert split == pytest.approx(float(fused[0] @ fused[1]), abs=1e-6)


def test_concat_says_what_is_wrong():
    with pytest.raises(RecipeError, match="did you mean 'image'"):
        Concat(weights={"imge": 1.0})
    with pytest.raises(RecipeError, match="at least 0"):
        Concat(weights={"text": -1.0})
    views = twins(30)
    model = Concat().fit(views, nobody(30), rng=rng())
    with pytest.raises(ShapeError, match="have size"):
        model.fuse({"text": views["image"]})
    with pytest.raises(ShapeError, match="different numbers"):
        Concat().fit({"text": views["text"], "image": views["image"].take(np.arange(3))}, nobody(30), rng=rng())


def test_closed_form_is_the_svd_of_the_cross_covariance():
    views = twins(300)
    blocks = {m: (whitening(v).apply(v).values, v.present) for m, v in views.items()}
    maps = closed_form(blocks, np.arange(300), 5)
    left, strength, right = np.linalg.svd(blocks["image"][0].T @ blocks["text"][0])
    ours = maps["image"] @ maps["text"].T
    best = left[:, :5] * strength[:5] @ right[:5]
    np.testing.assert_allclose(ours / np.linalg.norm(ours), best / np.linalg.norm(best), atol=1e-4)


def test_the_written_gradient_is_the_gradient():
    draw = rng(4)
    a, b, x, y = (draw.standard_normal(s) for s in ((5, 3), (4, 3), (6, 5), (6, 4)))

    def loss(a, b):
        p, q = x @ a, y @ b
        s = (p / np.linalg.norm(p, axis=1, keepdims=True)) @ (q / np.linalg.norm(q, axis=1, keepdims=True)).T / 0.2
        rows = np.log(np.exp(s).sum(1)) - np.diag(s)
        columns = np.log(np.exp(s).sum(0)) - np.diag(s)
        return (rows.mean() + columns.mean()) / 2

    slopes = _slopes(a, b, x, y, 0.2)
    for which, place in ((0, (2, 1)), (1, (3, 0))):
        step = [np.zeros_like(a), np.zeros_like(b)]
        step[which][place] = 1e-5
        slope = (loss(a + step[0], b + step[1]) - loss(a - step[0], b - step[1])) / 2e-5
        assert slopes[which][place] == pytest.approx(slope, rel=1e-3)


def test_text_finds_the_picture_of_an_item_never_seen():
    views = twins(500)
    learnt, test = np.arange(400), np.arange(400, 500)
    model = Align(size=16, epochs=(3,)).fit({m: v.take(learnt) for m, v in views.items()}, nobody(400), rng=rng())
    text, image = (model.project(m, views[m].take(test)).values for m in ("text", "image"))
    found = (text @ image.T).argmax(1) == np.arange(100)
    assert found.mean() > 0.8


def test_a_modality_that_met_no_other_is_not_aligned():
    views = {"text": twins(50)["text"]}
    model = Align().fit(views, nobody(50), rng=rng())
    assert model.fuse(views).present.all()
    with pytest.raises(NotAligned, match="text was not aligned"):
        model.project("text", views["text"])


def test_families_hold_variants_together():
    values = unit(rng(2).standard_normal((6, 50)))
    values[3] = values[0]
    parts = families({"text": (values, np.ones(6, bool))}, np.arange(6))
    assert sorted(sorted(int(i) for i in part) for part in parts) == [[0, 3], [1], [2], [4], [5]]


def taste_world(people=300, items=200, seed=0):
    """Two crowds; content tells an item's crowd in its weakest direction only, under much that no one cares about."""
    draw = rng(seed)
    kind, camp = np.arange(items) % 2, np.arange(people) % 2
    content = draw.standard_normal((items, 30))
    content[:, 0] = 0.5 * draw.standard_normal(items) + np.where(kind, 1.5, -1.5)
    user = np.repeat(np.arange(people), 12)
    item = 2 * draw.integers(items // 2, size=len(user)) + camp[user]
    return {"text": vectors(content)}, user, item, kind


def test_a_cold_item_lands_with_its_crowd():
    views, user, item, kind = taste_world()
    warm = item < 180
    events = Events.of(user[warm], item[warm], users=300, items=200)
    model = Align().fit(views, events, rng=rng())
    assert model.crowd is not None
    assert model.blocks == {}
    cold = np.arange(180, 200)
    for fused, floor in ((model.content.fuse(views).values, 0.0), (model.fuse(views).values, 0.9)):
        near = fused[cold] @ fused[:180].T
        same = near[:, kind[:180] == 0].mean(1) < near[:, kind[:180] == 1].mean(1)
        assert (same == kind[cold]).mean() >= floor
    plain, moved = model.content.fuse(views).values[cold], model.fuse(views).values[cold]
    alike = kind[cold][:, None] == kind[cold][None, :]

    def gap(values):
        return (values @ values.T)[alike].mean() - (values @ values.T)[~alike].mean()

    assert gap(moved) > gap(plain)


def test_taste_is_the_svd_and_the_map_is_ridge_regression():
    views, user, item, _ = taste_world(60, 40)
    matrix = _liked(Events.of(user, item, users=60, items=40))
    dense = matrix.toarray().astype(float)
    scaled = dense / np.sqrt(dense.sum(1))[:, None] / np.sqrt(np.maximum(dense.sum(0), 1))
    _, strength, right = np.linalg.svd(scaled)
    known = unit(right[:3].T * strength[:3])
    ours = taste(matrix, 3)
    np.testing.assert_allclose(ours @ ours.T, known @ known.T, atol=1e-3)
    count = dense.sum(0)
    weight = np.sqrt(count / (count + 1))[:, None]
    mean = (weight**2 * ours).sum(0) / (weight**2).sum()
    given = np.concatenate([weight * views["text"].values, np.sqrt(2.0) * np.eye(30)])
    wanted = np.concatenate([weight * (ours - mean), np.zeros((30, 3))])
    expected = np.linalg.lstsq(given, wanted, rcond=None)[0]
    np.testing.assert_allclose(_regress(views["text"], matrix, ours, 7.0, 2.0)[1], expected, atol=1e-3)


def test_gates_sum_to_one_over_what_an_item_has():
    views = twins(60)
    keep = np.arange(60) > 9
    views["image"] = views["image"].masked(keep)
    gates = Gated(epochs=1, size=16).fit(views, nobody(60), rng=rng()).gates(views)
    np.testing.assert_allclose(gates["image"] + gates["text"], 1, atol=1e-5)
    assert not gates["image"][:10].any()


def test_gated_brings_an_items_modalities_together():
    views = twins(300)

    def recall(epochs):
        model = Gated(epochs=epochs, size=32, dropout=0.5).fit(views, nobody(300), rng=rng())
        text, image = (model.fuse({m: v}).values for m, v in views.items())
        return ((text @ image.T).argmax(1) == np.arange(300)).mean()

    assert recall(20) > 5 * recall(0)


def test_conse_weighs_the_names_of_the_likeliest_classes():
    names = unit(rng().standard_normal((6, 4)))
    chances = np.array([[0.05, 0.5, 0.05, 0.3, 0.06, 0.04]], np.float32)
    expected = unit(0.5 * names[1:2] + 0.3 * names[3:4])
    np.testing.assert_allclose(ConseModel(names, 2, "toy").place(chances), expected, atol=1e-6)
    with pytest.raises(ShapeError, match="class names"):
        ConseModel(names, 2, "toy").place(np.ones((1, 3), np.float32))
