"""Group commit: everybody gets their own positions, one bad batch fails alone, and fewer syncs than writers."""

from __future__ import annotations

import threading

import pytest

from sensorium.errors import SnapshotError
from sensorium.feedback.commit import Committer
from sensorium.feedback.log import Log
from sensorium.feedback.store import Entry, Taken


def entry(item: str, **more) -> Entry:
    return Entry("ann", item, "view", 1.0, **more)


def slowed(log: Log) -> tuple[list[int], threading.Event]:
    """A log whose appends wait for the gate; how many entries each was given."""
    calls: list[int] = []
    gate, append = threading.Event(), log.append

    def slow(entries):
        calls.append(len(entries))
        gate.wait(5)
        return append(entries)

    log.append = slow  # type: ignore[method-assign]
    return calls, gate


def test_each_writer_gets_the_positions_of_its_own_entries(tmp_path):
    with Log(tmp_path / "log.db") as log:
        committer = Committer(log)
        got: dict[str, list[int]] = {}

        def write(name: str) -> None:
            for n in range(25):
                got[f"{name}-{n}"] = committer.append([entry(f"{name}-{n}-{m}") for m in range(3)])

        writers = [threading.Thread(target=write, args=[f"w{n}"]) for n in range(16)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        committer.close()
        stored = {e.position: e.item for e in log.read()}
        assert len(stored) == 16 * 25 * 3
        for name, positions in got.items():
            assert [stored[p] for p in positions] == [f"{name}-{m}" for m in range(3)]


def test_a_key_of_another_event_fails_its_call_alone_and_the_others_still_share(tmp_path):
    with Log(tmp_path / "log.db") as log:
        log.append([entry("a", key="k")])
        calls, gate = slowed(log)
        committer = Committer(log)
        first = committer.submit([entry("first")])
        while not calls:
            pass
        rest = [committer.submit([entry(f"b{n}"), entry("a", key="k")]) for n in range(5)]
        bad = [committer.submit([entry("c"), entry("other", key=key)]) for key in ("k", "k")]
        rest += [committer.submit([entry("new", key="twice")])]
        bad += [committer.submit([entry("newer", key="twice")])]
        gate.set()
        assert first.result(5) == [2]
        assert [r.result(5) for r in rest] == [[n, 1] for n in range(3, 8)] + [[8]]
        for one, place in zip(bad, (1, 1, 0), strict=True):
            with pytest.raises(Taken) as told:
                one.result(5)
            assert told.value.places == (place,)
        assert calls == [1, 16, 11, 2, 2, 1]
        assert [e.item for e in log.read()] == ["a", "first", *(f"b{n}" for n in range(5)), "new"]
        committer.close()


def test_writers_who_wait_share_one_transaction(tmp_path):
    with Log(tmp_path / "log.db") as log:
        calls, gate = slowed(log)
        committer = Committer(log)
        first = committer.submit([entry("a")])
        while not calls:
            pass
        rest = [committer.submit([entry(f"b{n}")]) for n in range(10)]
        gate.set()
        assert [first.result(5), *(r.result(5) for r in rest)] == [[n] for n in range(1, 12)]
        assert calls == [1, 10]
        committer.close()


def test_a_bad_batch_fails_alone(tmp_path):
    with Log(tmp_path / "log.db") as log:
        gate, append = threading.Event(), log.append
        log.append = lambda entries: (gate.wait(5), append(entries))[1]  # type: ignore[method-assign]
        committer = Committer(log)
        bad = entry("x")
        object.__setattr__(bad, "item", None)
        answers = [committer.submit(batch) for batch in ([entry("a")], [entry("b")], [entry("c"), bad], [entry("d")])]
        gate.set()
        assert [len(answers[n].result(5)) for n in (0, 1, 3)] == [1, 1, 1]
        with pytest.raises(SnapshotError, match="NOT NULL"):
            answers[2].result(5)
        assert sorted(e.item for e in log.read()) == ["a", "b", "d"]
        committer.close()


def test_closing_writes_what_waits_and_then_refuses(tmp_path):
    with Log(tmp_path / "log.db") as log:
        committer = Committer(log)
        answers = [committer.submit([entry(f"i{n}")]) for n in range(50)]
        committer.close()
        assert len(log) == 50
        assert all(answer.done() for answer in answers)
        with pytest.raises(SnapshotError, match="closed"):
            committer.submit([entry("late")])


def test_who_hangs_up_before_the_writing_is_left_out_and_the_others_are_written(tmp_path):
    with Log(tmp_path / "log.db") as log:
        gate, append = threading.Event(), log.append
        log.append = lambda entries: (gate.wait(5), append(entries))[1]  # type: ignore[method-assign]
        committer = Committer(log)
        first = committer.submit([entry("a")])
        while not first.running():
            pass
        gone, stays = committer.submit([entry("b")]), committer.submit([entry("c")])
        assert gone.cancel()
        assert not first.cancel()
        gate.set()
        assert (first.result(5), stays.result(5)) == ([1], [2])
        assert committer.append([entry("d")]) == [3]
        assert [e.item for e in log.read()] == ["a", "c", "d"]
        committer.close()
