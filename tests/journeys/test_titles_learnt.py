"""From a table of titles to an answer about an item that nobody has met, by words that people gave their worth."""

from dataclasses import replace

import numpy as np

from sensorium.data.content import TOKENS
from sensorium.engine import Engine
from sensorium.models.coldaligner import ColdAligner, TaughtAlignerModel
from sensorium.models.taught import Taught
from sensorium.recipe import recipe_of

BRANDS = ("Alba", "Bora", "Cima", "Dune")  # people of one house buy Alba and Cima, those of the other Bora and Dune


def test_a_new_title_is_found_by_its_brand_after_saving_and_opening(tmp_path):
    rng = np.random.default_rng(0)
    titles = [f"{BRANDS[i % 4]} {('cream', 'soap', 'oil')[i % 3]} {i % 7}" for i in range(60)]
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{i},{t}\n" for i, t in enumerate(titles)))
    bought = [(u, i) for u in range(120) for i in rng.permutation(np.arange(u % 2, 56, 2))[:6]]
    (tmp_path / "events.csv").write_text("user_id,item_id\n" + "".join(f"u{u},i{i}\n" for u, i in bought))
    model = ColdAligner(size=4, epochs=0, taught=Taught(size=8, epochs=12, learning_rate=0.02, batch=32, dropout=0.3))
    recipe = recipe_of(items=str(tmp_path / "items.csv"), events=str(tmp_path / "events.csv"))
    recipe = replace(recipe, recommender=model, encode={"text": "none", "words": "tfidf", "tokens": "hashed"})
    engine = Engine.train(recipe, tmp_path / "run", cache=tmp_path / "cache")
    assert isinstance(engine.snapshot.model, TaughtAlignerModel)
    assert TOKENS in engine.snapshot.views
    assert TOKENS not in engine.snapshot.fusion.blocks
    (tmp_path / "new.csv").write_text("item_id,title\nn0,Cima balm\nn1,Dune balm\n")
    assert engine.add(tmp_path / "new.csv") == 2
    for opened in (engine, Engine.open(tmp_path / "run", cache=tmp_path / "cache")):
        now = opened.snapshot
        rows = now.catalog.ids.rows(["n0", "n1"])
        scores = now.model.score(now.events.histories(np.arange(20)), rows)
        assert (scores.argmax(1) == np.arange(20) % 2).all()
