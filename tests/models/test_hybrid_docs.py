"""The page for those who come from LightFM: its programs run, and its table names what is there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sensorium.models.hybrid import Hybrid
from sensorium.models.hybrid.factors import Factors

PAGE = (Path(__file__).parents[2] / "docs" / "from-lightfm.md").read_text("utf-8")


@pytest.mark.parametrize("program", re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
def test_programs_run(program: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "from-lightfm.md", "exec"), {})


def test_the_table_names_what_is_there() -> None:
    known = {field.name for field in dataclasses.fields(Hybrid)}
    right = "\n".join(line.split("|")[2] for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"factors\.(\w+)\(", right)) <= set(dir(Factors))
    for call in re.findall(r"Hybrid\(([^)]*)\)", right):
        assert set(re.findall(r"(\w+)=", call)) <= known
