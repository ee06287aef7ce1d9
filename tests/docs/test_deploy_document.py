"""docs/deploy.md: its options, groups, metrics and limits are those of the program; its unit can be read by systemd."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sensorium import operate
from sensorium.serve import guards, service
from sensorium.serve.app import Serving
from sensorium.serve.keys import GROUPS
from sensorium.serve.metrics import Commits, Metrics, Route

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
TEXT = PAGE.read_text("utf-8")
UNIT = re.search(r"^```ini\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)[1]  # type: ignore[index]


def test_its_options_are_those_of_the_command() -> None:
    known = {"--" + name.replace("_", "-") for name in inspect.signature(operate.serve).parameters}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert len(named) > 10
    assert named <= known


def test_its_groups_are_those_of_keys() -> None:
    (listed,) = re.findall(r"\*\*groups\*\* of routes(.*?);", TEXT, re.DOTALL)
    assert tuple(re.findall(r"`(\w+)`", listed)) == GROUPS


def test_its_metrics_are_told() -> None:
    from sensorium.serve import tenants

    metrics = Metrics()
    metrics.answered(Route("a", "GET", "/"), 200, 0.0, 1.0, [("parse", 0.5)])
    told = metrics.text({"a": Commits()}, {}) + inspect.getsource(tenants)
    for name in set(re.findall(r"`(sensorium_\w+)`", TEXT)):
        assert name in told, name


def test_its_limits_are_those_of_the_program() -> None:
    usual = {name: one.default for name, one in inspect.signature(guards.Guards).parameters.items()}
    assert f"| {service.QUEUE}; {service.COMMITS:,}; {usual['most_pending']:,} |" in TEXT
    assert f"`--body-mib`; {usual['room_bytes'] >> 20} MiB; {usual['body_seconds']:.0f} s" in TEXT
    assert f"| {service.ENCODER_SECONDS:.0f} s |" in TEXT
    assert usual["most_pending"] == Serving().most_pending


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_its_unit_can_be_read(tmp_path: Path) -> None:
    unit = tmp_path / "sensorium.service"
    unit.write_text(UNIT.replace("/opt/sensorium/bin/sensorium", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert "sensorium.service:" not in done.stderr, done.stderr


def test_its_unit_names_every_setting_once() -> None:
    names = [line.split("=")[0] for line in UNIT.splitlines() if "=" in line and not line.startswith("#")]
    several = {name for name in names if names.count(name) > 1}
    assert several == {"LoadCredential"}
    grace, stop = re.search(r"--grace (\d+)", UNIT), re.search(r"TimeoutStopSec=(\d+)", UNIT)
    assert int(stop[1]) > int(grace[1])  # type: ignore[index]
