"""Answers that wait at the same moment: given together, each to who asked, and failing alone."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sensorium.errors import RecipeError
from sensorium.rank.query import Ranking
from sensorium.serve import together as module
from sensorium.serve.together import MOST, Asked, Busy, Together
from sensorium.stages import listened, mark, unheard


class Engine:
    """Answers with the number that is wished; notes who asked together, and in which thread."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.threads: set[int] = set()
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, asked: list[Asked]) -> list[Ranking | Exception]:
        self.hold.wait(10)
        self.groups.append(len(asked))
        self.threads.add(threading.get_ident())
        told: list[Ranking | Exception] = []
        for wishes, context in asked:
            context.run(mark, "score")
            bad = wishes["k"] % 7 == 3
            told.append(RecipeError(f"k {wishes['k']}") if bad else Ranking((), "", wishes["k"]))
        return told


def run(work: Any) -> Any:
    engine = Engine()
    with ThreadPoolExecutor(2) as threads:

        async def inside() -> Any:
            return await work(engine, Together(engine, threads))

        return engine, asyncio.run(inside())


def test_one_alone_is_answered_at_once_by_the_loop_itself() -> None:
    async def work(engine: Engine, together: Together) -> Any:
        return [(await together.answer({"k": k})).candidates for k in (1, 2)]

    engine, told = run(work)
    assert told == [1, 2]
    assert engine.groups == [1, 1]
    assert engine.threads == {threading.get_ident()}


def test_many_are_answered_together_in_threads_and_each_gets_its_own() -> None:
    async def one(together: Together, k: int) -> Any:
        marks, token = listened()
        try:
            return (await together.answer({"k": k})).candidates, [name for name, _ in marks]
        except RecipeError as error:
            return str(error), [name for name, _ in marks]
        finally:
            unheard(token)

    async def work(engine: Engine, together: Together) -> Any:
        return await asyncio.gather(*(one(together, k) for k in range(70)))

    engine, told = run(work)
    assert [answer for answer, _ in told] == [f"k {k}" if k % 7 == 3 else k for k in range(70)]
    assert all(marks == ["parse", "score"] for _, marks in told)  # heard by who asked, and by nobody else
    assert sum(engine.groups) == 70
    assert max(engine.groups) == MOST
    assert threading.get_ident() not in engine.threads


def test_whoever_is_gone_keeps_nobody_waiting() -> None:
    async def work(engine: Engine, together: Together) -> Any:
        engine.hold.clear()
        asked = [asyncio.create_task(together.answer({"k": k})) for k in (1, 2, 4, 5)]
        await asyncio.sleep(0.05)  # they are with the threads
        asked[1].cancel()
        engine.hold.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    _, told = run(work)
    assert isinstance(told[1], asyncio.CancelledError)
    assert [answer.candidates for answer in (told[0], *told[2:])] == [1, 4, 5]


def test_beyond_what_may_wait_a_request_is_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE", 5)

    async def work(engine: Engine, together: Together) -> Any:
        told = await asyncio.gather(*(together.answer({"k": 1}) for _ in range(9)), return_exceptions=True)
        again = await together.answer({"k": 2})
        return told, again.candidates

    _, (told, again) = run(work)
    assert sum(isinstance(answer, Busy) for answer in told) == 4
    assert again == 2


def test_a_failure_of_all_is_told_to_each_also_when_it_is_closed() -> None:
    async def work(engine: Engine, together: Together) -> Any:
        together._answers = lambda asked: 1 / 0  # type: ignore[assignment, return-value]
        failed = await asyncio.gather(*(together.answer({"k": 1}) for _ in range(3)), return_exceptions=True)
        alone = await asyncio.gather(together.answer({"k": 1}), return_exceptions=True)
        together._threads.shutdown()
        closed = await asyncio.gather(*(together.answer({"k": 1}) for _ in range(3)), return_exceptions=True)
        return failed + alone, closed

    _, (failed, closed) = run(work)
    assert [type(error) for error in failed] == [ZeroDivisionError] * 4
    assert [type(error) for error in closed] == [RuntimeError] * 3
