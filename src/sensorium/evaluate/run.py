"""From a recipe to an evaluation: what `sensorium evaluate` and the benchmarks call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensorium.build import Material, gather, people_space
from sensorium.data.split import Split, split
from sensorium.encode.encoder import Progress, silent
from sensorium.evaluate.evaluation import Evaluation
from sensorium.evaluate.offline import evaluate
from sensorium.recipe import RECOMMENDERS, Recipe


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An evaluation and what it was made of, for the report."""

    evaluation: Evaluation
    material: Material
    split: Split
    recipe: Recipe

    def json(self) -> dict[str, Any]:
        """The figures in the published shape; see docs."""
        return self.evaluation.json()

    def html(self) -> str:
        """One self-contained page."""
        from sensorium.evaluate.report import report

        return report(self.evaluation, self.material)


def parted(material: Material, recipe: Recipe) -> Split:
    """The split that the recipe asks for; no rating that is held out moves the weight of one that is learnt from."""
    data = material.dataset
    return split(data.events, recipe.split, seed=recipe.seed, given=data.given, kinds=recipe.kind_weights())


def evaluated(
    recipe: Recipe,
    models: Sequence[str] = (),
    *,
    cache: Path,
    knockout: bool = True,
    material: Material | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Tune on validation, learn, and ask the test once, for each of `models` (the recipe's own where none is named).

    **Raises** RecipeError, DataError. **Cost** a training for each model, and for each modality twice (`knockout`).
    """
    asked: Mapping[str, Any] = {name: RECOMMENDERS.make(name, where="--model") for name in models}
    if not asked:
        asked = {RECOMMENDERS.name_of(recipe.recommender): recipe.recommender}
    if material is None:
        material = gather(recipe, cache, progress=progress)
    parts = parted(material, recipe)
    _, people = people_space(material.people_views, recipe.seed)
    done = evaluate(
        asked, parts, material.views, people, fusion=recipe.fusion, catalog=material.dataset.catalog,
        seed=recipe.seed, knockout=knockout, progress=progress, reviews=material.reviews,
    )  # fmt: skip
    return Evaluated(done, material, parts, recipe)
