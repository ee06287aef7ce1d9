"""The page for those who come from Surprise says what is so: its code runs, and no public name of Surprise is left out."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "from-surprise.md"
NAMES = (
    "NormalPredictor BaselineOnly KNNBasic KNNWithMeans KNNWithZScore KNNBaseline SVD SVDpp NMF SlopeOne CoClustering "
    "cosine msd pearson pearson_baseline user_based min_support shrinkage rmse mse mae fcp KFold RepeatedKFold ShuffleSplit "
    "LeaveOneOut PredefinedKFold train_test_split cross_validate GridSearchCV RandomizedSearchCV dump load Reader "
    "load_from_file load_from_df load_from_folds load_builtin build_full_trainset build_testset build_anti_testset "
    "get_neighbors compute_baselines compute_similarities default_prediction AlgoBase knows_user knows_item to_inner_uid "
    "to_raw_uid to_inner_iid to_raw_iid all_users all_items all_ratings global_mean rating_scale n_users n_items n_ratings"
)


def test_the_page_names_all_of_surprise() -> None:
    words = set(re.findall(r"\w+", PAGE.read_text("utf-8")))
    assert [name for name in NAMES.split() if name not in words] == []


def test_every_line_of_code_runs(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text("utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(block, names)
    run = 0
    for line in text.splitlines():
        cells = line.strip().strip("|").split(" | ")
        if line.startswith("| ") and len(cells) == 2 and not line.startswith("| Surprise"):
            for code in re.findall(r"`([^`]+)`", cells[1]):
                if code in ("read_ratings", "RatingModel", "fit(ratings, *, rng)"):
                    continue  # a name within a sentence
                exec(code, names)
                run += 1
    assert run > 60
    assert "RMSE" in capsys.readouterr().out
