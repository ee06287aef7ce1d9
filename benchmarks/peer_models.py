"""Other libraries' models, called as their own documentation does. Runs in a peer's environment, never in the project's.

Called by tables.py: python peer_models.py QUESTION.npz ANSWER.npz. The question holds the names of the models, pairs to
learn from, validation pairs, and whom to ask; the answer each model's 50 best unseen items a person, the setting that
validation chose by NDCG@10 (as for everybody else in a table), and the seconds of the last fit.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse

BEST = 50
Pairs = tuple[np.ndarray, np.ndarray]  # user, item, oldest first
Lists = Callable[[np.ndarray], np.ndarray]  # people (N,) → items (N, BEST), best first


def matrix_of(pairs: Pairs, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape=shape)
    matrix.data[:] = 1
    return matrix


def implicit_lists(model: Any, matrix: sparse.csr_matrix) -> Lists:
    model.fit(matrix, show_progress=False)
    return lambda people: model.recommend(people, matrix[people], N=BEST, filter_already_liked_items=True)[0]


def implicit_als(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from implicit.als import AlternatingLeastSquares

    return implicit_lists(AlternatingLeastSquares(random_state=seed, **settings), matrix_of(pairs, shape))


def implicit_bpr(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from implicit.bpr import BayesianPersonalizedRanking

    return implicit_lists(BayesianPersonalizedRanking(random_state=seed, **settings), matrix_of(pairs, shape))


def implicit_bm25(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from implicit.nearest_neighbours import BM25Recommender

    return implicit_lists(BM25Recommender(**settings), matrix_of(pairs, shape))


def by_scores(score: Callable[[np.ndarray], np.ndarray], matrix: sparse.csr_matrix) -> Lists:
    """Lists from full scores (N, I), what was seen taken out."""

    def lists(people: np.ndarray) -> np.ndarray:
        out = []
        for begin in range(0, len(people), 256):
            some = people[begin : begin + 256]
            scores = np.asarray(score(some), np.float32)
            scores[matrix[some].nonzero()] = -np.inf
            top = np.argpartition(-scores, BEST, axis=1)[:, :BEST]
            out.append(np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1), 1))
        return np.concatenate(out)

    return lists


def lightfm_warp(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from lightfm import LightFM

    epochs = settings.pop("epochs")
    matrix = matrix_of(pairs, shape)
    model = LightFM(loss="warp", random_state=seed, **settings).fit(matrix.tocoo(), epochs=epochs, num_threads=2)
    bias, items = model.get_item_representations()
    _, users = model.get_user_representations()
    return by_scores(lambda people: users[people] @ items.T + bias, matrix)


def rectools_dataset(pairs: Pairs) -> Any:
    import pandas as pd
    from rectools import Columns
    from rectools.dataset import Dataset

    moment = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(pairs[0])), unit="s")
    frame = pd.DataFrame(
        {Columns.User: pairs[0], Columns.Item: pairs[1], Columns.Weight: 1.0, Columns.Datetime: moment}
    )
    return Dataset.construct(frame)


def rectools_lists(model: Any, pairs: Pairs) -> Lists:
    dataset = rectools_dataset(pairs)
    model.fit(dataset)

    def lists(people: np.ndarray) -> np.ndarray:
        known = people[np.isin(people, pairs[0])]
        table = model.recommend(users=known, dataset=dataset, k=BEST, filter_viewed=True)
        out = np.full((len(people), BEST), -1)
        row = np.searchsorted(people, table["user_id"].to_numpy())
        out[row, table["rank"].to_numpy() - 1] = table["item_id"].to_numpy()
        return out

    return lists


def rectools_ease(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from rectools.models import EASEModel

    return rectools_lists(EASEModel(**settings), pairs)


def rectools_sasrec(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    import torch
    from rectools.models import SASRecModel

    torch.manual_seed(seed)
    torch.set_num_threads(2)
    return rectools_lists(SASRecModel(**settings), pairs)


def cornac_lists(model: Any, pairs: Pairs, shape: tuple[int, int]) -> Lists:
    from cornac.data import Dataset

    data = Dataset.from_uir(list(zip(pairs[0].tolist(), pairs[1].tolist(), itertools.repeat(1.0))), seed=0)
    model.fit(data)
    inner_item = np.array([data.iid_map.get(i, -1) for i in range(shape[1])])

    def score(people: np.ndarray) -> np.ndarray:
        out = np.full((len(people), shape[1]), -1e9, np.float32)
        for row, person in enumerate(people.tolist()):
            inner = data.uid_map.get(person)
            if inner is not None:
                out[row, inner_item >= 0] = np.asarray(model.score(inner)).ravel()[inner_item[inner_item >= 0]]
        return out

    return by_scores(score, matrix_of(pairs, shape))


def cornac_bpr(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from cornac.models import BPR

    return cornac_lists(BPR(seed=seed, num_threads=2, **settings), pairs, shape)


def cornac_ease(pairs: Pairs, shape: tuple[int, int], seed: int, **settings: Any) -> Lists:
    from cornac.models import EASE

    return cornac_lists(EASE(**settings), pairs, shape)


# name → the function and the settings that validation may choose from
MODELS: Mapping[str, tuple[Callable[..., Lists], Mapping[str, tuple[Any, ...]]]] = {
    "implicit ALS": (implicit_als, {"factors": (128,), "regularization": (0.05, 5.0), "alpha": (2.0, 20.0)}),
    "implicit BPR": (implicit_bpr, {"factors": (127,), "learning_rate": (0.05,), "regularization": (0.01, 0.03),
                                    "iterations": (100,)}),
    "implicit BM25": (implicit_bm25, {"K": (50, 200), "K1": (0.3, 1.2), "B": (0.3,)}),
    "LightFM WARP": (lightfm_warp, {"no_components": (64,), "learning_rate": (0.05,), "item_alpha": (0.0, 1e-5),
                                    "epochs": (20,)}),
    "RecTools EASE": (rectools_ease, {"regularization": (100.0, 400.0)}),
    "RecTools SASRec": (rectools_sasrec, {"n_factors": (64,), "n_blocks": (2,), "n_heads": (2,), "session_max_len": (50,),
                                          "epochs": (12,), "loss": ("softmax",), "lr": (0.001,), "dropout_rate": (0.3,),
                                          "deterministic": (True,), "verbose": (0,)}),
    "Cornac BPR": (cornac_bpr, {"k": (64,), "max_iter": (100,), "learning_rate": (0.05,), "lambda_reg": (0.01,)}),
    "Cornac EASE": (cornac_ease, {"lamb": (200.0,)}),
}  # fmt: skip


def grid(options: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values))


def ndcg(lists: np.ndarray, people: np.ndarray, pairs: Pairs, k: int = 10) -> float:
    """NDCG@k of lists against validation pairs; the mean over people."""
    targets: dict[int, set[int]] = {}
    for person, item in zip(pairs[0].tolist(), pairs[1].tolist()):
        targets.setdefault(person, set()).add(item)
    gains = 1 / np.log2(np.arange(2, k + 2))
    found = [
        sum(gains[place] for place, item in enumerate(line[:k].tolist()) if item in targets[person])
        / gains[: min(k, len(targets[person]))].sum()
        for line, person in zip(lists, people.tolist())
    ]
    return float(np.mean(found))


def main(question: str, answer: str) -> None:
    asked = np.load(question, allow_pickle=False)
    names, seed = json.loads(str(asked["names"])), int(asked["seed"])
    shape = (int(asked["users"]), int(asked["items"]))
    train, whole, valid = ((asked[f"{part}_user"], asked[f"{part}_item"]) for part in ("inner", "whole", "valid"))
    some = np.unique(valid[0])
    some = np.sort(np.random.default_rng(0).choice(some, min(len(some), 3000), replace=False))
    kept = np.isin(valid[0], some)
    out: dict[str, np.ndarray] = {}
    notes: dict[str, Any] = {}
    for place, name in enumerate(names):
        make, options = MODELS[name]
        choices = list(grid(options))
        values = []
        for settings in choices if len(choices) > 1 else ():
            values.append(ndcg(make(train, shape, seed, **settings)(some), some, (valid[0][kept], valid[1][kept])))
        chosen = choices[int(np.argmax(values)) if values else 0]
        began = time.perf_counter()
        lists = make(whole, shape, seed, **chosen)
        seconds = time.perf_counter() - began
        out[f"lists_{place}"] = np.asarray(lists(asked["ask"]), np.int64)
        notes[name] = {"settings": chosen, "validation": values, "fit_seconds": round(seconds, 1)}
    np.savez(answer, notes=json.dumps(notes), **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
