"""The benchmarks' page is what its script makes of the results, and every mean in it was rounded once."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page() -> Any:
    told = importlib.util.spec_from_file_location("benchmarks_page", ROOT / "benchmarks/page.py")
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    sys.modules[told.name] = module
    told.loader.exec_module(module)
    return module


def result(name: str) -> dict[str, Any]:
    return json.loads((ROOT / f"benchmarks/results/table-{name}.json").read_text("utf-8"))


def test_the_page_and_its_pictures_are_those_of_the_results(page: Any) -> None:
    told = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    for name in page.TITLES:
        done = result(name)
        assert "\n".join(page.table(name, done)) in told
        assert (ROOT / f"docs/benchmarks/{name}.svg").read_text("utf-8") == page.drawn(name, done)


def test_a_mean_is_rounded_once(page: Any) -> None:
    told = "\n".join(page.table("amazon-sports", result("amazon-sports")))
    assert "recall@10 0.0749 ±" in told  # (.074442 + .074920 + .075482) / 3 is .074948
    assert "recall@10, mean of 3 fits 0.0749," in told
    assert "0.0750" not in told


def test_rows_of_one_seed_beside_several_say_so(page: Any) -> None:
    lines = list(page.table("movielens-last", result("movielens-last")))
    assert any(line.startswith("| **Sensorium, thorough** |") for line in lines)
    assert any(line.startswith("| **Sensorium, thorough, ids alone**, one seed |") for line in lines)
    assert not any("one seed" in line for line in page.table("lastfm", result("lastfm")))
