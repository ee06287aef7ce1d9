"""Experiments and bandits over a real store: what is shown and done is joined, learnt once, and known again after a restart."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sensorium.adapt.adaptive import Adaptive
from sensorium.adapt.bandit import Bandit
from sensorium.adapt.definition import Arm
from sensorium.adapt.experiment import Experiment, Shares
from sensorium.adapt.exposure import JOURNAL
from sensorium.adapt.figures import told
from sensorium.errors import RecipeError, UnknownId
from sensorium.feedback.log import Log

PLAIN, BOLD = Arm("plain"), Arm("bold", {"diversity": 0.9})


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Callable[[], Adaptive]:
    def again() -> Adaptive:
        one = Adaptive(Log(tmp_path / "log.sqlite"), seed=7, clock=clock)
        one._restore()
        one.turn()
        return one

    return again


def bandit(**wanted: object) -> Bandit:
    return Bandit(**{"name": "how", "arms": (PLAIN, BOLD), "window_seconds": 60.0, **wanted})  # type: ignore[arg-type]


def experiment(clock: Clock, **wanted: object) -> Experiment:
    shares = (Shares(clock.now, {"plain": 1.0, "bold": 1.0}),)
    usual = {"name": "test", "arms": (PLAIN, BOLD), "salt": "s", "shares": shares, "window_seconds": 60.0, "plan": 500}
    return Experiment(**{**usual, "horizon_seconds": 600.0, **wanted})  # type: ignore[arg-type]


def lived(one: Adaptive, clock: Clock, people: int, rate: Callable[[str], float], name: str, seed: int = 0) -> None:
    """So many people get an answer each, ten seconds apart, and some click."""
    rng = random.Random(seed)
    for n in range(people):
        plan = one.plan({"user": f"u{n}"})
        assert plan is not None
        one.shown(f"r{n}", plan, f"u{n}", ["x", "y"], "000001")
        clock.now += 10
        if rng.random() < rate(plan.chosen[name][0]):
            one.happened(f"u{n}", "y", "click", clock.now)
        if n % 10 == 9:
            one.turn()


def test_nothing_is_done_where_nothing_is_tried(opened: Callable[[], Adaptive]) -> None:
    one = opened()
    assert one.plan({"user": "a"}) is None
    one.happened("a", "x", "click", 1e9, "r1")
    one.turn()
    assert one.store.notes(JOURNAL) == []


def test_a_bandit_learns_from_clicks_and_knows_it_after_a_restart(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(bandit())
    lived(one, clock, 400, lambda arm: 0.5 if arm == "bold" else 0.1, "how")
    learnt = one.bandit("how")
    assert learnt.chances()[1] > 0.9
    assert learnt.means()[1] == pytest.approx(0.5, abs=0.1)
    one._checkpoint()
    lived(one, clock, 50, lambda arm: 0.9, "how", seed=3)
    clock.now += 100
    one.turn()
    again = opened()  # as after a kill: the checkpoint is older than the journal
    assert again.bandit("how").saved() == one.bandit("how").saved()
    assert sum(again.bandit("how").shown) == 450
    assert again.bandit("how").chances().tolist() == one.bandit("how").chances().tolist()


def test_without_a_checkpoint_the_journal_tells_all(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(bandit())
    one.define(experiment(clock))
    lived(one, clock, 300, lambda arm: 0.3, "how")
    clock.now += 1000
    one.turn()
    again = opened()
    assert again.bandit("how").saved()["shown"] == one.bandit("how").saved()["shown"]
    first, second = one.experiment("test").saved(), again.experiment("test").saved()
    assert {name: first[name] for name in ("counted", "sums", "compared")} == {
        name: second[name] for name in ("counted", "sums", "compared")
    }


@pytest.mark.parametrize(
    ("acts", "reward"),
    [
        ([("u", "x", "click", 5, "r")], 1.0),
        ([("u", "x", "click", 5, None)], 1.0),  # joined by person and item
        ([("u", "x", "click", 5, "r"), ("u", "x", "click", 6, "r")], 1.0),
        ([("u", "x", "cart", 5, "r"), ("u", "x", "cart", 5, None)], 0.3),  # the same twice counts once
        ([("u", "x", "cart", 5, "r"), ("u", "y", "cart", 5, "r")], 0.6),
        ([("u", "z", "click", 5, "r")], 0.0),  # was not shown
        ([("u", "x", "click", 61, "r")], 0.0),  # too late
        ([("other", "x", "click", 5, "r")], 0.0),  # somebody else's answer
        ([("u", "x", "skip", 5, "r")], 0.0),
        ([("u", "x", "click", 5, "no such")], 0.0),
    ],
)
def test_what_counts_as_a_reward(
    opened: Callable[[], Adaptive], clock: Clock, acts: list[tuple[str, str, str, float, str | None]], reward: float
) -> None:
    one = opened()
    one.define(bandit(goal={"click": 1.0, "cart": 0.3}))
    plan = one.plan({"user": "u"})
    assert plan is not None
    one.shown("r", plan, "u", ["x", "y"])
    for user, item, kind, after, to in acts:
        one.happened(user, item, kind, clock.now + after, to)
    clock.now += 66
    one.turn()
    assert one.bandit("how").shown.sum() == 1
    assert one.bandit("how").rewards.sum() == pytest.approx(reward)


def test_a_winner_ends_its_experiment_and_may_be_kept(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(experiment(clock))
    rng = random.Random(1)
    for n in range(800):
        plan = one.plan({"user": f"u{n}"})
        if plan is None:
            break
        one.shown(f"r{n}", plan, f"u{n}", ["x"])
        clock.now += 10
        if rng.random() < (0.6 if plan.chosen["test"][0] == "bold" else 0.2):
            one.happened(f"u{n}", "x", "click", clock.now, f"r{n}")
        if n % 10 == 9:
            one.turn()
    found = one.experiment("test")
    assert found.experiment.why == "winner: bold"
    assert found.lower["bold"] > 0
    assert found.trace
    assert one.plan({"user": "u1"}) is None  # the end changes nothing by itself
    one.stop("test", keep="bold")
    plan = one.plan({"user": "somebody new"})
    assert plan is not None
    assert (plan.wishes, plan.chosen) == ({"diversity": 0.9}, {})
    with pytest.raises(RecipeError):
        one.reshare("test", {"plain": 1, "bold": 1})


def test_the_command_line_tells_what_was_found(
    opened: Callable[[], Adaptive], clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sensorium.cli import app

    one = opened()
    one.define(bandit())
    one.define(experiment(clock, stops=False))
    lived(one, clock, 200, lambda arm: 0.4, "how")
    app(["experiments", str(tmp_path), "--report", str(tmp_path / "look.html")], standalone_mode=False)
    told = capsys.readouterr().out
    assert "test: running" in told
    assert "bold" in told
    assert "how: a bandit" in told
    assert "<polyline" in (tmp_path / "look.html").read_text()
    assert one.experiment("test").experiment.ended is None


def test_harm_and_futility_and_the_end_of_patience(clock: Clock) -> None:
    from sensorium.adapt.experiment import Measured

    def ends(rate: float, **wanted: object) -> str | None:
        rng, one = random.Random(2), Measured(experiment(clock, **wanted))
        for _ in range(6000):
            bold = rng.random() < 0.5
            one.count("bold" if bold else "plain", float(rng.random() < (rate if bold else 0.3)), clock.now)
            if (found := one.verdict()) is not None:
                return found[0]
        return None

    assert ends(0.1) == "harm"
    assert ends(0.5) == "winner"
    assert ends(0.3, least_effect=0.08) == "futility"
    assert ends(0.3, most=200) == "undecided"
    assert ends(0.3) is None


def test_one_person_counts_once_by_the_first_arm(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(experiment(clock, stops=False))
    moved = next(
        user for user in (f"p{n}" for n in range(1000))
        if one.experiment("test").experiment.choose(user)[0] == "plain"  # type: ignore[index]
    )  # fmt: skip
    for n in range(4):
        if n == 2:
            one.reshare("test", {"plain": 1e-6, "bold": 1.0})
        plan = one.plan({"user": moved})
        assert plan is not None
        assert plan.chosen["test"][0] == ("plain" if n < 2 else "bold")
        one.shown(f"r{n}", plan, moved, ["x"])
        one.happened(moved, "x", "click", clock.now + 1, f"r{n}")
        clock.now += 70
        one.turn()
    clock.now += 1000
    one.turn()
    assert one.experiment("test").counted == {"plain": 1, "bold": 0}
    assert one.experiment("test").sums == {"plain": 1.0, "bold": 0.0}


def test_whoever_is_within_the_window_is_shown_as_waiting(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(experiment(clock))
    lived(one, clock, 3, lambda arm: 1.0, "test")
    lived(one, clock, 3, lambda arm: 1.0, "test")  # the same three again
    one.turn()
    found = told(one.experiment("test"))
    assert (found["waiting"], sum(arm["people"] for arm in found["arms"])) == (3, 0)
    again = opened()  # as after a kill
    assert told(again.experiment("test"))["waiting"] == 3
    clock.now += 100
    one.turn()  # their windows are over, their horizon is not
    assert told(one.experiment("test"))["waiting"] == 3
    one.forget("u0")
    clock.now += 1000
    one.turn()
    found = told(one.experiment("test"))
    assert (found["waiting"], sum(arm["people"] for arm in found["arms"])) == (0, 3)
    assert one.experiment("test").pending == {}


def test_a_long_window_of_another_delays_nobody(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(experiment(clock, horizon_seconds=60.0))
    arms = (PLAIN, Arm("whole", {"repeat": True}))
    long = {"name": "month", "arms": arms, "shares": (Shares(clock.now, {"plain": 1.0, "whole": 1.0}),)}
    one.define(experiment(clock, **long, window_seconds=30 * 86400.0, horizon_seconds=30 * 86400.0))
    one.define(bandit(name="own", arms=(PLAIN, Arm("known", {"exploration": 0.1})), window_seconds=5.0))
    lived(one, clock, 40, lambda arm: 0.5, "test")
    clock.now += 200
    one.turn()
    assert sum(one.experiment("test").counted.values()) == 40
    assert sum(one.bandit("own").shown) == 40
    assert told(one.experiment("month"))["waiting"] == 40
    rewards = sum(one.experiment("test").sums.values())
    one._checkpoint()
    one = opened()  # nothing that is settled is learnt again
    clock.now += 61 * 86400
    one.turn()
    assert (sum(one.experiment("test").counted.values()), sum(one.experiment("test").sums.values())) == (40, rewards)
    assert sum(one.bandit("own").shown) == 40
    assert sum(one.experiment("month").counted.values()) == 40
    assert sum(one.experiment("month").sums.values()) == rewards > 0


def test_who_says_it_themselves_takes_no_part(opened: Callable[[], Adaptive]) -> None:
    one = opened()
    one.define(bandit())
    plan = one.plan({"user": "u", "diversity": 0.5})
    assert plan is not None
    assert (plan.wishes, plan.chosen) == ({}, {})


def test_an_arm_that_breaks_is_retired_and_nobody_notices(opened: Callable[[], Adaptive]) -> None:
    one = opened()
    one.define(bandit(least=0.4))

    def answer(**wishes: object) -> str:
        if "diversity" in wishes:
            raise RecipeError("no such thing")
        return "fine"

    for n in range(60):
        plan = one.plan({"user": "u"})
        assert plan is not None
        assert one.answered(answer, plan, user="u") == "fine"
        one.shown(f"r{n}", plan, "u", ["x"])
    until = time.monotonic() + 10
    while not one.bandit("how").bandit.retired and time.monotonic() < until:
        time.sleep(0.01)
    assert one.bandit("how").bandit.retired == ("bold",)
    assert one.bandit("how").chances()[1] == 0
    one.turn()
    assert all(
        note.body["chosen"]["how"][0] == "plain" for note in one.store.notes(JOURNAL)
    )  # broken ones are nobody's

    def wrong(**wishes: object) -> str:
        raise UnknownId("no item 'zz'")

    plan = one.plan({"user": "u"})
    assert plan is not None
    with pytest.raises(UnknownId):
        one.answered(wrong, plan, user="u")


def test_two_processes_learn_the_same(tmp_path: Path, clock: Clock) -> None:
    first, second = (Adaptive(Log(tmp_path / "log.sqlite"), seed=n, clock=clock) for n in (1, 2))
    first.define(bandit())
    second.turn()
    for n in range(100):
        for name, one in (("a", first), ("b", second)):
            plan = one.plan({"user": f"{name}{n}"})
            assert plan is not None
            one.shown(f"{name}{n}", plan, f"{name}{n}", ["x"])
            one.happened(f"{name}{n}", "x", "click", clock.now)
        clock.now += 1
        for one in (first, second):
            one.turn()
    clock.now += 100
    for one in (first, second, first):
        one.turn()
    assert first.bandit("how").saved() == second.bandit("how").saved()
    assert first.bandit("how").shown.sum() == 200


def test_a_person_is_forgotten(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    one.define(bandit())
    for n, user in enumerate(["gone", "stays", "gone"]):
        plan = one.plan({"user": user})
        assert plan is not None
        one.shown(f"r{n}", plan, user, ["x"])
        if n == 0:
            one.turn()
    one.forget("gone")
    one.store.erase("gone")
    clock.now += 100
    one.turn()
    assert [note.user for note in one.store.notes(JOURNAL)] == ["stays"]
    assert one.bandit("how").shown.sum() == 1


def test_the_log_of_decisions_gives_estimates(opened: Callable[[], Adaptive], clock: Clock) -> None:
    from sensorium.adapt.policy import worth

    one = opened()
    one.define(bandit(least=0.2))
    lived(one, clock, 600, lambda arm: 0.5 if arm == "bold" else 0.1, "how")
    clock.now += 100
    logged, arms = one.logged("how")
    assert arms == ["plain", "bold"]
    assert len(logged.action) == 600
    told = worth(logged, [0.0, 1.0])  # type: ignore[arg-type]
    assert told.by["dr"].lower <= 0.5 <= told.by["dr"].upper
    assert worth(logged, [1.0, 0.0]).by["ips"].value == pytest.approx(0.1, abs=0.06)  # type: ignore[arg-type]


def test_a_full_disk_loses_nothing(
    opened: Callable[[], Adaptive], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensorium.errors import SnapshotError

    one = opened()
    one.define(bandit())
    plan = one.plan({"user": "u"})
    assert plan is not None
    one.shown("r", plan, "u", ["x"])
    with monkeypatch.context() as patched:

        def full(*_: object) -> list[int]:
            raise SnapshotError("the disk is full")

        patched.setattr(one.store, "note", full)
        with pytest.raises(SnapshotError):
            one.turn()
    one.turn()
    assert len(one.store.notes(JOURNAL)) == 1


def test_a_line_that_no_store_can_hold_does_not_hold_up_the_others(opened: Callable[[], Adaptive]) -> None:
    one = opened()
    one.define(bandit())
    plan = one.plan({"user": "u"})
    assert plan is not None
    for n in range(9):
        one.shown(f"r{n}", plan, "\ud800" if n in (3, 8) else "u", ["x"])
    one.turn()
    assert [note.body["id"] for note in one.store.notes(JOURNAL)] == [f"r{n}" for n in (0, 1, 2, 4, 5, 6, 7)]
    assert one.lost == 2


def test_a_long_journal_is_read_in_bounded_memory(
    opened: Callable[[], Adaptive], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensorium.adapt import adaptive

    one = opened()
    one.define(bandit())
    lived(one, clock, 300, lambda arm: 0.3, "how")
    clock.now += 100
    one.turn()
    monkeypatch.setattr(adaptive, "PAGE", 40)
    again = opened()
    assert again.bandit("how").saved() == one.bandit("how").saved()


def test_planning_is_cheap(opened: Callable[[], Adaptive], clock: Clock) -> None:
    one = opened()
    idle = min(_seconds(lambda: one.plan({"user": "u"})) for _ in range(5))
    one.define(bandit())
    one.define(experiment(clock))
    busy = min(_seconds(lambda: one.plan({"user": "u"})) for _ in range(5))
    assert idle < 2e-6
    assert busy < 1e-4


def _seconds(work: Callable[[], object], times: int = 200) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) / times
