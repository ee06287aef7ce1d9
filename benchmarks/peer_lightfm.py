"""LightFM fitted on the splits of lightfm_parity.py, called as its own documentation does. Runs in a peer's environment.

Called by lightfm_parity.py: python peer_lightfm.py QUESTION.json ANSWER.json. The question names a .npz of pairs, the
fits wanted (loss, schedule, components, epochs, seed, threads) and where the vectors shall lie.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse


def main(question: Path, answer: Path) -> None:
    from lightfm import LightFM
    from lightfm.evaluation import auc_score, precision_at_k

    asked = json.loads(question.read_text())
    out = []
    for wanted in asked["fits"]:
        with np.load(wanted["pairs"]) as file:
            shape = tuple(int(n) for n in file["shape"])
            train, test = (
                sparse.coo_matrix((np.ones(file[f"{part}_user"].shape, np.float32), (file[f"{part}_user"], file[f"{part}_item"])), shape)
                for part in ("train", "test")
            )  # fmt: skip
        model = LightFM(
            no_components=wanted["size"], loss=wanted["loss"], learning_schedule=wanted["schedule"],
            random_state=wanted["seed"],
        )  # fmt: skip
        began = time.perf_counter()
        model.fit(train, epochs=wanted["epochs"], num_threads=wanted["threads"])
        row = {"seconds": time.perf_counter() - began}
        if wanted.get("vectors"):
            (ub, uv), (ib, iv) = model.get_user_representations(), model.get_item_representations()
            np.savez(wanted["vectors"], users=np.column_stack([ub, uv]), items=np.column_stack([ib, iv]))
            row["precision@10"] = float(precision_at_k(model, test, train, k=10, num_threads=2).mean())
            row["auc"] = float(auc_score(model, test, train, num_threads=2).mean())
        out.append(row)
    answer.write_text(json.dumps({"fits": out}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
