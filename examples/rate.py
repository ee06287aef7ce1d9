"""Ratings: what would somebody give, how far off is the estimate, and somebody new who is understood without fitting again."""

import numpy as np

from sensorium.models.ratings import KFold, Ratings, Svdpp, cross_validate

rng = np.random.default_rng(0)
pairs = [(u, i) for u in range(60) for i in range(40) if rng.random() < 0.4]
stars = [float(np.clip(round(3 + (1.4 if (u + i) % 2 else -1.4) + rng.normal(0, 0.5)), 1, 5)) for u, i in pairs]
ratings = Ratings.of([f"person {u}" for u, _ in pairs], [f"film {i}" for _, i in pairs], stars, scale=(1, 5))

method = Svdpp(size=8, epochs=60, learning_rate=0.02)
print(cross_validate(method, ratings, folds=KFold(3)))

model = method.fit(ratings, rng=rng)
print(model.predict("person 3", "film 8"))
newcomer = Ratings.of(["somebody new"] * 4, ["film 0", "film 1", "film 2", "film 3"], [5, 1, 5, 1])
grown = model.extended(newcomer)
for film in ("film 4", "film 5"):
    print(film, round(grown.predict("somebody new", film).estimate, 1))
