"""A small share of benchmarks/fuzz_api.py: requests drawn from the description, every answer as it is described."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serve.conftest import running


@pytest.mark.slow
def test_answers_are_as_described(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    from benchmarks.fuzz_api import fuzzed

    shutil.copytree(world / "run", tmp_path / "run")
    with running(world, tmp_path / "run") as server:
        server.service.places = replace(server.service.places, media=tmp_path)
        server.service.engine.search("warm", k=1)
        figures = fuzzed(server.url, 250, 7)
    assert figures["cases"] >= 250
    assert figures["least_of_an_operation"] >= 250 // figures["operations"]  # those without arguments too
    assert figures["of_5xx"] == 0, figures["first_failures"]
    assert figures["first_failures"] == []
