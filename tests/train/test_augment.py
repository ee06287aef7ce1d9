"""Augmentation: what must stay stays, what goes goes as often as asked, and no argument is touched."""

import numpy as np

from sensorium.data.content import Text
from sensorium.data.events import Events
from sensorium.train.augment import crop_flip, drop_events, drop_fields, drop_modalities, windows


def rng():
    return np.random.default_rng(0)


def histories(lengths):
    user = np.repeat(np.arange(len(lengths)), lengths)
    return Events.of(user, np.arange(len(user)), users=len(lengths), items=len(user)).histories(np.arange(len(lengths)))


def test_dropped_events_keep_the_newest_and_the_rate():
    world = histories([1] * 50 + [1000])
    thin = drop_events(world, 0.3, rng())
    assert np.diff(thin.start)[:50].tolist() == [1] * 50
    assert abs(np.diff(thin.start)[50] - 700) < 60
    assert thin.item[-1] == world.item[-1]
    assert len(world.item) == 1050
    assert drop_events(world, 0, rng()) is world


def test_windows_hold_every_event_once():
    lengths = np.array([0, 1, 7, 50, 51, 100, 0, 333])
    start = np.concatenate([[0], np.cumsum(lengths)])
    for seed in range(20):
        begin, end = windows(start, 50, np.random.default_rng(seed) if seed else None)
        assert (end - begin > 0).all()
        assert (end - begin <= 50).all()
        covered = np.concatenate([np.arange(b, e) for b, e in zip(begin, end, strict=True)])
        assert sorted(covered) == list(range(start[-1]))
        owner = np.searchsorted(start, begin, "right") - 1
        assert (end <= start[owner + 1]).all()


def test_modalities_never_vanish_altogether():
    present = np.array([[True, True, False], [False, True, False], [False, False, False]] * 500)
    kept = drop_modalities(present, 0.5, rng())
    assert not (kept & ~present).any()
    assert (kept.any(axis=1) == present.any(axis=1)).all()
    both = kept[::3]
    assert abs(both[:, 0].mean() - 0.625) < 0.07  # ½ by itself, and half of the ¼ in which both would have gone
    assert (drop_modalities(present, 0, rng()) == present).all()


def test_fields_go_but_one_stays():
    text = Text((("a", "1"), ("b", "2"), ("c", "3")))
    seen = {len(drop_fields(text, 0.5, np.random.default_rng(seed)).fields) for seed in range(100)}
    assert seen == {1, 2, 3}
    assert drop_fields(Text(()), 1.0, rng()).fields == ()


def test_pictures_are_cut_and_mirrored_but_never_invented():
    images = np.arange(2 * 8 * 6 * 3).reshape(2, 8, 6, 3)
    out = crop_flip(images, rng(), smallest=0.5)
    assert out.shape == images.shape
    for before, after in zip(images, out, strict=True):
        assert np.isin(after, before).all()
    assert (crop_flip(images, rng(), smallest=1, flip=False) == images).all()
    mirrored = [
        (crop_flip(images, np.random.default_rng(s), smallest=1) == images[:, :, ::-1]).all() for s in range(40)
    ]
    assert any(mirrored)
