"""The check on stores finds stores that are wrong in one way each."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from sensorium.checks.conformance import check_store
from sensorium.feedback.log import Log


class Forgetful(Log):
    """Positions are the number of entries: they come again after an erasure."""

    @property
    def end(self):
        return self._one("SELECT COALESCE(MAX(position), 0) FROM events")


class Reused(Log):
    """The number of a change comes again when the newest document was erased."""

    def _counted(self, more):
        return self.last_change + more

    @property
    def last_change(self):
        return self._one("SELECT COALESCE(MAX(changed), 0) FROM documents")


class Keyless(Log):
    """Keys mean nothing."""

    def append(self, entries):
        return super().append([replace(entry, key=None) for entry in entries])


class Silent(Log):
    """Nobody hears of a deletion."""

    def delete(self, kind, name):
        with self._writing():
            return self._base.execute("DELETE FROM documents WHERE kind = ? AND id = ?", [kind, name]).rowcount > 0


class Partial(Log):
    """A batch is stored as far as it goes."""

    def append(self, entries):
        return [position for entry in entries for position in super(Partial, self).append([entry])]


class Careless(Log):
    """An erased person's notes stay."""

    def erase(self, user):
        with self._writing():
            count = self._base.execute("DELETE FROM events WHERE user = ?", [user]).rowcount
            self._base.execute("DELETE FROM documents WHERE kind = 'users' AND id = ?", [user])
        return count


class Skipping(Log):
    """Whoever follows the log from page to page misses an entry now and then."""

    def read(self, after=0, *, user=None, item=None, most=None):
        entries = super().read(after, user=user, item=item, most=most)
        return entries[:3] + entries[4:] if most == 50 else entries


@pytest.mark.parametrize(
    ("store", "told"),
    [
        (Forgetful, "end went back"), (Reused, "given twice after an erasure"), (Keyless, "reopened, the entries differ"), (Silent, "deletion must be told"),
        (Partial, "half of a refused batch"), (Careless, "notes"), (Skipping, "missed entries"),
    ],
)  # fmt: skip
def test_a_store_that_is_wrong_in_one_way_is_found_out(tmp_path, store, told):
    with pytest.raises(AssertionError, match=told):
        check_store(partial(store, tmp_path / "log.db"), tmp_path)
