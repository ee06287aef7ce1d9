"""Train on a generated world in which tastes are known, and see how well the answers please. Runs in about a minute."""

from dataclasses import replace
from pathlib import Path

from sensorium.checks.worlds import write_demo
from sensorium.engine import Engine
from sensorium.recipe import RECOMMENDERS, read_recipe

world = Path("example-world")
truth = write_demo(world, items=90, people=80)

recipe = replace(read_recipe(world / "demo.toml"), recommender=RECOMMENDERS.make("ease"))
engine = Engine.train(recipe)

pleasure = [truth.pleasure(user, engine.recommend(user=user, k=5).ids()) for user in truth.users[:30]]
print(f"the five best please more than {sum(pleasure) / len(pleasure):.0%} of the catalogue would; chance is 50%")

for entry in engine.recommend(user=truth.users[0], k=3, explain=True).items:
    because = ", ".join(f"{part.source} {part.amount:+.2f} ({part.title})" for part in entry.reasons[:2])
    print(f"{entry.item:14} {entry.score:+.2f}  {because}")
