"""Kill -9 in the middle of group commits of many writers: nothing that was acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import pytest

from sensorium.checks.kills import POINTS, killed
from sensorium.feedback.log import Log
from sensorium.feedback.open import opened


@pytest.mark.slow
def test_kills_lose_nothing_and_double_nothing(where):
    kept = killed(where, kills=18, writers=32)
    assert kept.wrong == {}
    assert set(kept.kills) == {*POINTS, "anywhere"}
    assert kept.acknowledged > 1000
    assert kept.unacknowledged > 0  # some commits were cut off from their acknowledgement, or the kills hit nothing
    assert kept.open_seconds < 5


def test_a_store_that_acknowledges_too_early_is_found_out(tmp_path, monkeypatch):
    """The check looks at what is there: entries taken away behind its back are lost, and entries put twice doubled."""
    path = tmp_path / "log.db"
    read = Log.read

    def forgetful(self, after=0, **more):
        entries = read(self, after, **more)
        return entries[1:] + entries[-1:]

    monkeypatch.setattr(Log, "read", forgetful)
    kept = killed(path, kills=1, writers=4)
    assert {"lost", "doubled"} <= kept.wrong.keys()
    monkeypatch.undo()
    opened(path).close()
